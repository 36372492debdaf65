//! `explain`: what an error code of Microsoft's means, what mends it, and whether anything is lost meanwhile.

use audit_exporter_plugins::{Explanation, explain};

use crate::exit;
use crate::terminal::{complain, say, say_coloured};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code as the log or Microsoft shows it: AF20022, AADSTS7000215, Forbidden, HTTP 403
    #[arg(required = true, value_name = "CODE")]
    code: Vec<String>,
}

/// Explains the code; returns the exit code.
pub(crate) fn run(args: &Args) -> u8 {
    match explain(&args.code.join(" ")) {
        Ok(found) => {
            for (number, explanation) in found.iter().enumerate() {
                if number > 0 {
                    say("");
                }
                show(explanation);
            }
            exit::OK
        }
        // Whatever the configuration says: it is the argument that is wrong.
        Err(error) => {
            complain(&error);
            exit::USAGE
        }
    }
}

fn show(explanation: &Explanation) {
    let head = format!(", {}", explanation.service);
    say_coloured("1", explanation.code, &head);
    let advice = explanation.advice.unwrap_or("nothing: it passes by itself");
    say(format!("  meaning     {}", explanation.meaning));
    say(format!("  what to do  {advice}"));
    say(format!("  data lost   {}", explanation.loss));
    if let Some(page) = &explanation.page {
        say(format!("  Microsoft   {page}"));
    }
}
