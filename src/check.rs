//! `check`: tries the configuration and says what is missing.

use audit_exporter_core::engine::check::check;
use audit_exporter_core::plugin::{Registry, Severity};

use crate::terminal::{LogFormat, log, say, say_coloured};
use crate::{ConfigArgs, Outcome, exit};

pub(crate) async fn run(args: &ConfigArgs, registry: &Registry) -> Outcome {
    let config = args.load()?;
    // What matters is in the findings; the log would say it twice.
    let progress = log(LogFormat::Text, "off,panic=error", true);
    progress.show("asking Microsoft and the destinations …".to_owned());
    let sections = check(&config, registry).await;
    progress.clear();
    let sections = sections?;
    let (mut warnings, mut problems) = (0, 0);
    for section in &sections {
        say_coloured("1", &section.part, "");
        for finding in &section.findings {
            let (colour, mark) = match finding.severity {
                Severity::Ok => ("32", "  ok      "),
                Severity::Warning => {
                    warnings += 1;
                    ("33", "  warning ")
                }
                Severity::Problem => {
                    problems += 1;
                    ("31", "  PROBLEM ")
                }
            };
            say_coloured(colour, mark, &format!(" {}", finding.message));
        }
    }
    say(match (problems, warnings) {
        (0, 0) => "Everything is in order.".to_owned(),
        (0, 1) => "It will work; there is a warning.".to_owned(),
        (0, _) => format!("It will work; there are {warnings} warnings."),
        (1, _) => "It will not work as it is: there is a problem.".to_owned(),
        _ => format!("It will not work as it is: there are {problems} problems."),
    });
    Ok(if problems > 0 { exit::CONFIG } else { exit::OK })
}
