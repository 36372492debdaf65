//! What people see: colour and a progress line on a terminal, structured logs otherwise.

use std::io::{self, IsTerminal, Write};

use audit_exporter_core::Error;
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The form of the log, which goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise
    Auto,
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// A line at the bottom of a terminal; nothing at all elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(Some(bar))
    }

    /// Shows `text` in the line.
    pub(crate) fn show(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text);
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl<'a> MakeWriter<'a> for Progress {
    type Writer = AroundProgress;

    fn make_writer(&'a self) -> Self::Writer {
        AroundProgress(self.0.clone())
    }
}

/// Writes log lines above the progress line.
pub(crate) struct AroundProgress(Option<ProgressBar>);

impl Write for AroundProgress {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(bar) => bar.suspend(|| io::stderr().write(line)),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging; what is shown follows `RUST_LOG` (default `info`, or `quiet` if given).
pub(crate) fn log(format: LogFormat, default: &str) -> Progress {
    let progress = Progress::new();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress.clone());
    // A second call keeps the first subscriber, as tests do that run several commands.
    let started = if format == LogFormat::Json || (format == LogFormat::Auto && !terminal) {
        logs.json().flatten_event(true).with_ansi(false).try_init()
    } else {
        logs.compact()
            .with_target(false)
            .with_ansi(terminal)
            .try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    progress
}

/// Writes an error for people to standard error.
pub(crate) fn complain(error: &Error) {
    for line in error.to_string().lines() {
        say_error(&format!("audit-exporter: {line}"));
    }
}

fn say_error(line: &str) {
    // Nowhere is left to report that standard error is closed.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Writes a line to standard output. A closed pipe ends the talking, not the work.
pub(crate) fn say(line: impl AsRef<str>) {
    drop(writeln!(io::stdout(), "{}", line.as_ref()));
}

/// `text` in a colour (an ANSI code) if standard output is a terminal.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
