//! `reload`: lets the running process read its configuration anew.

use audit_exporter_core::journal::Journal;
use audit_exporter_core::{Error, admin};

use crate::terminal::say;
use crate::{ConfigArgs, Outcome, exit};

pub(crate) async fn run(args: &ConfigArgs) -> Outcome {
    let path = args.load()?.journal.path;
    if !Journal::is_held(&path)? {
        return Err(Error::config(format!(
            "nothing runs with the journal in {}; the next run reads the configuration as it is",
            path.display()
        )));
    }
    say(admin::ask_to_reload(&path).await?);
    Ok(exit::OK)
}
