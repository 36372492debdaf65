//! `check`: tries the configuration and says what is missing.

use audit_exporter_core::config::Config;
use audit_exporter_core::engine::check::check;
use audit_exporter_core::plugin::{Registry, Severity};

use crate::terminal::{LogFormat, log, paint, say};
use crate::{ConfigArgs, Outcome, exit};

pub(crate) async fn run(args: &ConfigArgs, registry: &Registry) -> Outcome {
    let config = Config::load(&args.config)?;
    // What matters is in the findings; the log would say it twice.
    let progress = log(LogFormat::Text, "off");
    progress.show("asking Microsoft and the destinations …".to_owned());
    let sections = check(&config, registry).await;
    progress.clear();
    let sections = sections?;
    let mut worst = Severity::Ok;
    for section in &sections {
        say(paint("1", &section.part));
        for finding in &section.findings {
            let mark = match finding.severity {
                Severity::Ok => paint("32", "ok      "),
                Severity::Warning => paint("33", "warning "),
                Severity::Problem => paint("31", "PROBLEM "),
            };
            say(format!("  {mark} {}", finding.message));
        }
        worst = worst.max(section.severity());
    }
    match worst {
        Severity::Ok => say("everything is in order"),
        Severity::Warning => say("it will work; see the warnings"),
        Severity::Problem => say("it will not work as it is; see the problems"),
    }
    Ok(if worst == Severity::Problem {
        exit::CONFIG
    } else {
        exit::OK
    })
}
