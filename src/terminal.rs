//! What people see: colour and a progress line on a terminal, structured logs otherwise.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

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

/// The line that is on the terminal: whatever else is written makes it step aside.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// A line at the bottom of a terminal; nothing at all elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = BAR.get_or_init(ProgressBar::new_spinner);
        let template = if colours() {
            "{spinner:.cyan} {msg}"
        } else {
            "{spinner} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(Some(bar.clone()))
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

/// Starts logging; what is shown follows `RUST_LOG`, or `default` without it. On a terminal there is a progress line,
/// if `progress`.
pub(crate) fn log(format: LogFormat, default: &str, progress: bool) -> Progress {
    let progress = Progress::new(progress);
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
            .with_ansi(terminal && colours())
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
        // Nowhere is left to report that standard error is closed.
        aside(|| drop(writeln!(io::stderr(), "audit-exporter: {line}")));
    }
}

/// Writes a line to standard output. A closed pipe ends the talking, not the work.
pub(crate) fn say(line: impl AsRef<str>) {
    aside(|| drop(writeln!(io::stdout(), "{}", line.as_ref())));
}

/// Does this while the progress line, if there is one, is out of the way.
fn aside(write: impl FnOnce()) {
    match BAR.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// `text` in a colour (an ANSI code) if standard output is a terminal.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if io::stdout().is_terminal() && colours() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Whether the user has nothing against colours (<https://no-color.org>).
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A number with its thousands apart: `20,000`.
pub(crate) fn number(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn thousands_are_apart() {
        let numbers = [0_i64, 7, 999, 1_000, 20_000, 1_234_567];
        let texts = numbers.map(number);
        assert_eq!(texts, ["0", "7", "999", "1,000", "20,000", "1,234,567"]);
    }
}
