//! What people see: colour and a progress line on a terminal, structured logs otherwise.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Debug;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, OnceLock, PoisonError};

use audit_exporter_core::{Error, Result, printable};
use chrono::{DateTime, SecondsFormat};
use indicatif::{ProgressBar, ProgressStyle};
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

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

    /// Whether there is a line.
    pub(crate) fn is_shown(&self) -> bool {
        self.0.is_some()
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
/// if `progress`. A panic is logged like any other error.
pub(crate) fn log(format: LogFormat, default: &str, progress: bool) -> Progress {
    let progress = Progress::new(progress);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(progress.clone());
    let lines = if format == LogFormat::Json || (format == LogFormat::Auto && !terminal) {
        lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_ansi(false)
            .boxed()
    } else {
        lines
            .compact()
            .with_target(false)
            .with_ansi(terminal && colours())
            .boxed()
    };
    // A second call keeps the first subscriber, as tests do that run several commands.
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(KeepNewest.with_filter(LevelFilter::WARN))
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    std::panic::set_hook(Box::new(log_panic));
    progress
}

/// The log's target of panics.
const PANIC: &str = "panic";

/// What a program that reads the log would otherwise find between its lines.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message");
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(target: PANIC, place, backtrace, "panic: {message}; please report it");
}

/// The newest warning or error of the log, whether the log shows it or not.
static NEWEST: Mutex<Option<String>> = Mutex::new(None);

struct KeepNewest;

impl<S: tracing::Subscriber> Layer<S> for KeepNewest {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "message" {
                let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
                *newest = Some(format!("{value:?}"));
            }
        });
    }
}

/// The newest warning or error, whether the log shows it or not.
pub(crate) fn newest_warning() -> Option<String> {
    let newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    newest.clone()
}

/// Writes an error for people to standard error.
pub(crate) fn complain(error: &Error) {
    for line in printable(&error.to_string()).lines() {
        // Nowhere is left to report that standard error is closed.
        aside(|| drop(writeln!(io::stderr(), "audit-exporter: {line}")));
    }
}

/// Tells, on standard error, that other machines can reach what has no password.
pub(crate) fn warn_of_listener(what: &str, listen: SocketAddr) {
    if !listen.ip().is_loopback() {
        aside(|| {
            drop(writeln!(
                io::stderr(),
                "audit-exporter: {listen} can be reached from other machines: {what}, without a password"
            ));
        });
    }
}

/// Writes a line to standard output; what would command a terminal is escaped. A closed pipe ends the talking, not
/// the work.
pub(crate) fn say(line: impl AsRef<str>) {
    let line = printable(line.as_ref());
    aside(|| drop(writeln!(io::stdout(), "{line}")));
}

/// Writes a line to standard output, or to standard error if that is for events.
pub(crate) fn tell(to_stderr: bool, line: impl AsRef<str>) {
    if to_stderr {
        let line = printable(line.as_ref());
        aside(|| drop(writeln!(io::stderr(), "{line}")));
    } else {
        say(line);
    }
}

/// Writes a line that begins in a colour (an ANSI code) if standard output is a terminal.
pub(crate) fn say_coloured(code: &str, head: &str, rest: &str) {
    if io::stdout().is_terminal() && colours() {
        let (head, rest) = (printable(head), printable(rest));
        aside(|| drop(writeln!(io::stdout(), "\x1b[{code}m{head}\x1b[0m{rest}")));
    } else {
        say(format!("{head}{rest}"));
    }
}

/// Does this while the progress line, if there is one, is out of the way.
fn aside(write: impl FnOnce()) {
    match BAR.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Whether the user has nothing against colours (<https://no-color.org>).
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A moment, in milliseconds since 1970, as people and programs read it.
pub(crate) fn time(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An answer for programs.
pub(crate) fn json(answer: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(answer)
        .map_err(|error| Error::bug("the answer cannot be written as JSON").with_cause(error))
}

/// Writes rows as columns: those of `numbers` to the right, the others to the left.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], numbers: Range<usize>) {
    columns(rows, numbers).iter().for_each(say);
}

/// Rows as columns, a line each.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]], numbers: Range<usize>) -> Vec<String> {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if numbers.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
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
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl Write for Lines {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(line)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let logs = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let caught = tracing::subscriber::with_default(logs, || {
            std::panic::catch_unwind(|| panic!("oh \"no\"\nreally"))
        });
        std::panic::set_hook(usual);
        assert!(caught.is_err());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            line["message"],
            "panic: oh \"no\"\nreally; please report it"
        );
        let place = line["place"].as_str().unwrap();
        assert!(place.starts_with("src/terminal.rs:"), "{place}");
    }

    #[test]
    fn thousands_are_apart() {
        let numbers = [0_i64, 7, 999, 1_000, 20_000, 1_234_567];
        let texts = numbers.map(number);
        assert_eq!(texts, ["0", "7", "999", "1,000", "20,000", "1,234,567"]);
    }
}
