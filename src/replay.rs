//! `replay`: the lines of NDJSON archives, as events, through one sink again.

mod state;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::archive::lines::{self, Lines, STDIN, Text};
use audit_exporter_core::archive::{Archive, Line, Passed, Problem, Wish};
use audit_exporter_core::event::ndjson;
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result, durable};
use chrono::{DateTime, Utc};

use crate::terminal::{self, LogFormat, Progress, number};
use crate::{ConfigArgs, Outcome, asked_to_stop, exit, moment};

use state::State;

/// What a line may have beside its record: the normalized form's own members.
const AROUND_RECORD: usize = 64 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// NDJSON files: records or normalized events, plain, gzip or zstd; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The sink of the configuration that gets them
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// Events since this day or time (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<DateTime<Utc>>,
    /// Events before this day or time (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: Option<DateTime<Utc>>,
    /// Events of this operation; * and ? stand for any characters; may be given several times
    #[arg(long, value_name = "NAME")]
    operation: Vec<String>,
    /// Events of this workload; may be given several times
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Leave out the filters that the sink has in the configuration
    #[arg(long)]
    no_filters: bool,
    /// The tenant of records that do not name one of the configuration
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The content type of records: raw ones do not say it
    #[arg(long, value_name = "NAME", default_value = "")]
    content_type: String,
    /// Pass over so many lines
    #[arg(
        long,
        value_name = "LINES",
        default_value_t = 0,
        conflicts_with = "state"
    )]
    skip: u64,
    /// Note in this file how far it is, and go on from there
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Append the records that the sink refuses to this file, instead of naming them only
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Seconds that a delivery that fails is tried
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What became of everything so far.
#[derive(Debug, Default)]
struct Sum {
    /// Lines that are dealt with, those that were passed over included.
    lines: u64,
    skipped: u64,
    delivered: u64,
    filtered: u64,
    rejected: u64,
    bad: u64,
    broken_files: u64,
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    let config = args.config.load()?;
    if !config.sinks.iter().any(|sink| *sink.name == *args.sink) {
        return Err(crate::no_sink(&config, &args.sink));
    }
    let most_bytes = config.limits.record_size.bytes() + AROUND_RECORD;
    // All of them at first: what is not there is known before anything is delivered.
    args.files.iter().try_for_each(|file| lines::check(file))?;
    let skip = match &args.state {
        Some(_) if args.files.iter().any(|file| file == STDIN) => {
            return Err(Error::config(
                "--state cannot tell what comes by standard input; use --skip",
            ));
        }
        Some(path) => State::read(path, &args.sink, &args.files)?,
        None => args.skip,
    };
    // Standard output may be for events.
    let progress = terminal::log(LogFormat::Auto, "warn", true);
    let word = Utc::now().format("%Y%m%dT%H%M%S%3fZ").to_string();
    let archive = Archive::open(&config, registry, wish(&args), &word).await?;
    let rejected = args.rejected.as_deref().map(append_to).transpose()?;
    let mut replay = Replay {
        args: &args,
        archive,
        rejected,
        progress,
        sum: Sum::default(),
    };
    let ended = replay.run(most_bytes, skip).await;
    replay.progress.clear();
    replay.tell();
    if let Err(error) = ended {
        terminal::complain(&error);
        let lines = replay.sum.lines;
        terminal::tell(
            true,
            match &args.state {
                Some(path) => format!(
                    "go on with the same command; {} knows how far it is",
                    path.display()
                ),
                None => {
                    format!("go on with --skip {lines}; what was delivered after that comes again")
                }
            },
        );
        return Ok(exit::FAILED);
    }
    let sum = &replay.sum;
    let all = sum.rejected + sum.bad + sum.broken_files == 0;
    Ok(if all { exit::OK } else { exit::FAILED })
}

fn wish(args: &Args) -> Wish {
    let list = |key: &str, values: &[String]| {
        // A JSON list of texts is one of TOML, too.
        let values = serde_json::to_string(values).unwrap_or_default();
        format!("{key} = {values}\n")
    };
    let mut field = String::new();
    for (key, values) in [("operation", &args.operation), ("workload", &args.workload)] {
        if !values.is_empty() {
            field.push_str(&list(key, values));
        }
    }
    Wish {
        sink: args.sink.clone(),
        from: args.from,
        to: args.to,
        field: (!field.is_empty()).then_some(field),
        filters: !args.no_filters,
        tenant: args.tenant.clone(),
        content_type: args.content_type.clone(),
        patience: Duration::from_secs(args.patience),
    }
}

struct Replay<'a> {
    args: &'a Args,
    archive: Archive,
    rejected: Option<File>,
    progress: Progress,
    sum: Sum,
}

/// Lines read at a time.
struct Chunk {
    lines: Vec<Line>,
    source: Lines,
    ended: bool,
    /// Why the file broke off there.
    broken: Option<std::io::Error>,
}

impl Replay<'_> {
    async fn run(&mut self, most_bytes: usize, skip: u64) -> Result<()> {
        let stop = asked_to_stop();
        tokio::pin!(stop);
        for file in &self.args.files {
            let file: Arc<str> = file.as_str().into();
            let mut source = tokio::select! {
                source = open(Arc::clone(&file), most_bytes) => source?,
                () = &mut stop => return Err(Error::unavailable("broken off")),
            };
            let mut number = 0;
            loop {
                let read = read(source, Arc::clone(&file), number, self.archive.most());
                let chunk = tokio::select! {
                    chunk = read => chunk?,
                    () = &mut stop => return Err(Error::unavailable("broken off")),
                };
                let count = chunk.lines.len() as u64;
                number += count;
                source = chunk.source;
                let over = skip.saturating_sub(self.sum.lines).min(count);
                let lines: Vec<Line> = chunk.lines.into_iter().skip(over as usize).collect();
                if !lines.is_empty() {
                    let passed = tokio::select! {
                        passed = self.archive.pass(lines) => passed?,
                        () = &mut stop => return Err(Error::unavailable("broken off")),
                    };
                    self.account(&passed)?;
                }
                self.sum.skipped += over;
                self.sum.lines += count;
                self.note()?;
                if let Some(error) = chunk.broken {
                    self.sum.broken_files += 1;
                    let what = format!("the file breaks off after this line: {error}");
                    complain(&file, number, &what);
                }
                if chunk.ended {
                    break;
                }
            }
        }
        Ok(())
    }

    fn account(&mut self, passed: &Passed) -> Result<()> {
        self.sum.delivered += passed.delivered;
        self.sum.filtered += passed.filtered;
        self.sum.bad += passed.bad.len() as u64;
        self.sum.rejected += passed.rejected.len() as u64;
        for Problem { file, line, reason } in &passed.bad {
            complain(file, *line, reason);
        }
        let mut records = Vec::new();
        for (Problem { file, line, reason }, event) in &passed.rejected {
            complain(file, *line, &format!("refused: {reason}"));
            ndjson::write_raw_line(event.raw(), &mut records);
            records.push(b'\n');
        }
        if let Some(file) = &mut self.rejected {
            file.write_all(&records)?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Notes how far it is.
    fn note(&self) -> Result<()> {
        let sum = &self.sum;
        self.progress.show(format!(
            "{} lines · {} delivered, {} filtered, {} rejected, {} bad",
            number(sum.lines),
            number(sum.delivered),
            number(sum.filtered),
            number(sum.rejected),
            number(sum.bad)
        ));
        match &self.args.state {
            Some(path) => {
                let state = State {
                    sink: self.args.sink.clone(),
                    files: self.args.files.clone(),
                    lines: sum.lines,
                };
                state.write(path)
            }
            None => Ok(()),
        }
    }

    fn tell(&self) {
        let sum = &self.sum;
        let passed_over = match sum.skipped {
            0 => String::new(),
            skipped => format!("{} passed over, ", number(skipped)),
        };
        terminal::tell(
            true,
            format!(
                "{} lines read: {passed_over}{} delivered to {}, {} filtered, {} rejected, {} bad",
                number(sum.lines),
                number(sum.delivered),
                self.args.sink,
                number(sum.filtered),
                number(sum.rejected),
                number(sum.bad)
            ),
        );
    }
}

/// Says what is wrong with a line.
fn complain(file: &str, line: u64, what: &str) {
    let what = what.replace('\n', " ");
    terminal::tell(true, format!("{file}:{line}: {what}"));
}

/// Opens a file, off the runtime: a pipe may not have a writer yet.
async fn open(file: Arc<str>, most_bytes: usize) -> Result<Lines> {
    let opened = tokio::task::spawn_blocking(move || Lines::open(&file, most_bytes));
    opened.await.map_err(broke_off)?
}

/// Reads the next lines, off the runtime.
async fn read(
    mut source: Lines,
    file: Arc<str>,
    before: u64,
    most: (usize, usize),
) -> Result<Chunk> {
    let read = tokio::task::spawn_blocking(move || {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        let (mut ended, mut broken) = (false, None);
        while !ended && lines.len() < most.0 && bytes < most.1 {
            match source.read() {
                Ok(Some(text)) => {
                    if let Text::Whole(line) = &text {
                        bytes += line.len();
                    }
                    let number = before + lines.len() as u64 + 1;
                    let file = Arc::clone(&file);
                    lines.push(Line { file, number, text });
                }
                Ok(None) => ended = true,
                Err(error) => (ended, broken) = (true, Some(error)),
            }
        }
        Chunk {
            lines,
            source,
            ended,
            broken,
        }
    });
    read.await.map_err(broke_off)
}

fn broke_off(error: tokio::task::JoinError) -> Error {
    Error::bug("reading the archive broke off").with_cause(error)
}

fn append_to(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // It holds personal data, as the archive does.
    let opened = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| durable::sync_folder_of(path).map(|()| file));
    opened.map_err(|error| {
        Error::config(format!("{}: cannot be written", path.display())).with_cause(error)
    })
}
