//! The `audit-exporter` program: the command line with the plugins of this repository.

use std::process::ExitCode;

fn main() -> ExitCode {
    audit_exporter::main(audit_exporter_plugins::registry())
}
