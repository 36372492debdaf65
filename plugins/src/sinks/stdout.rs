//! `stdout`: one line of NDJSON an event on standard output.
//!
//! A delivery is `Ok` after everything has been handed to the operating system; whether the program at the other end
//! of a pipe has read it, nobody can know. After an error or a stop in mid-delivery, lines come again; if one was torn,
//! the next begins on a line of its own.
//!
//! Records are whatever users could put into them. On a terminal, what would command it is shown as an escape; into
//! pipes and files everything goes byte for byte.

use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::Arc;

use async_trait::async_trait;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::{Batch, Context, Delivered, Sink};
use audit_exporter_core::{Error, Result, printable};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::line::Format;

/// How much is encoded before it is written.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    format: Format,
}

struct Stdout {
    format: Format,
    lines: Arc<Mutex<Lines>>,
}

/// Where lines go. Owned by the delivery that writes, so that a dropped one never mixes with the next.
struct Lines {
    out: Box<dyn Write + Send>,
    terminal: bool,
    buffer: Vec<u8>,
    /// What was written last ends in the middle of a line.
    torn: bool,
}

/// Builds a `stdout` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    let Context { options, .. } = context;
    let Config { format } = options.parse()?;
    let out = io::stdout();
    let terminal = out.is_terminal();
    Ok(Box::new(Stdout::new(format, terminal, Box::new(out))))
}

impl Stdout {
    fn new(format: Format, terminal: bool, out: Box<dyn Write + Send>) -> Self {
        Self {
            format,
            lines: Arc::new(Mutex::new(Lines {
                out,
                terminal,
                buffer: Vec::new(),
                torn: false,
            })),
        }
    }
}

#[async_trait]
impl Sink for Stdout {
    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let mut lines = Arc::clone(&self.lines).lock_owned().await;
        let events = Arc::clone(&batch.events);
        let format = self.format;
        let written = spawn_blocking(move || lines.write(format, &events)).await;
        match written {
            Ok(written) => written.map_err(failed)?,
            Err(error) => {
                return Err(Error::bug("writing to standard output broke off").with_cause(error));
            }
        }
        Ok(Delivered::default())
    }
}

impl Lines {
    fn write(&mut self, format: Format, events: &[AuditEvent]) -> io::Result<()> {
        self.buffer.clear();
        if self.torn {
            self.buffer.push(b'\n');
        }
        for event in events {
            let begin = self.buffer.len();
            format.write(event, &mut self.buffer);
            if self.terminal {
                let line = self.buffer.split_off(begin);
                let line = String::from_utf8_lossy(&line);
                self.buffer.extend_from_slice(printable(&line).as_bytes());
            }
            if self.buffer.len() >= BUFFER_BYTES {
                self.write_buffer()?;
                self.buffer.clear();
            }
        }
        self.write_buffer()?;
        // One huge record must not keep its memory.
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        self.out.flush()
    }

    /// Like `write_all`, which does not tell where it broke off.
    fn write_buffer(&mut self) -> io::Result<()> {
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.torn = rest[count - 1] != b'\n';
                    rest = &rest[count..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    if error.kind() == ErrorKind::BrokenPipe {
        // Nobody will ever read it again.
        let closed = "standard output is closed: the program that read it has ended";
        return Error::unavailable(closed).with_cause(error).fatal();
    }
    Error::unavailable("cannot write to standard output").with_cause(error)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};

    use audit_exporter_core::{Kind, contract};
    use bytes::Bytes;

    use super::*;
    use crate::testing::{batch, context, event};

    #[tokio::test]
    async fn a_delivery_is_one_line_an_event() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = Stdout::new(Format::Raw, false, Box::new(writer));
        let batch = batch([event("{\"Id\":\"1\"}"), event("{\"Id\":\n\"2\"}")]);
        assert_eq!(sink.deliver(&batch).await.unwrap(), Delivered::default());
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[tokio::test]
    async fn a_record_does_not_command_the_terminal_it_is_shown_on() {
        let records = [
            "{\"Id\":\"\u{9b}2J\u{202e}\"}",
            "\x1b]0;owned\x07 is no JSON",
        ];
        for (terminal, lines) in [
            (false, records),
            (
                true,
                [
                    r#"{"Id":"\u009b2J\u202e"}"#,
                    r"\u001b]0;owned\u0007 is no JSON",
                ],
            ),
        ] {
            let (mut reader, writer) = io::pipe().unwrap();
            let sink = Stdout::new(Format::Raw, terminal, Box::new(writer));
            sink.deliver(&batch(records.map(event))).await.unwrap();
            drop(sink);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text.lines().collect::<Vec<_>>(), lines);
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_is_an_error_that_says_so() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = Stdout::new(Format::Raw, false, Box::new(writer));
        let error = sink.deliver(&batch([event("{}")])).await.unwrap_err();
        assert_eq!((error.kind(), error.is_fatal()), (Kind::Unavailable, true));
        assert!(error.to_string().contains("closed"), "{error}");
    }

    struct FailsToFlush(Arc<AtomicBool>);

    impl Write for FailsToFlush {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.store(true, Ordering::SeqCst);
            Err(io::Error::other("disk on fire"))
        }
    }

    #[tokio::test]
    async fn what_is_not_flushed_is_not_delivered() {
        let flushed = Arc::new(AtomicBool::new(false));
        let sink = Stdout::new(
            Format::Raw,
            false,
            Box::new(FailsToFlush(Arc::clone(&flushed))),
        );
        let error = sink.deliver(&batch([event("{}")])).await.unwrap_err();
        assert!(flushed.load(Ordering::SeqCst));
        assert!(error.to_string().contains("disk on fire"), "{error}");
    }

    /// A disk with room for so many bytes.
    #[derive(Clone)]
    struct Disk(Arc<std::sync::Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let (text, room) = &mut *self.0.lock().unwrap();
            let count = data.len().min(*room - text.len());
            text.extend_from_slice(&data[..count]);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn after_a_torn_line_the_next_begins_on_its_own() {
        let events = batch([event("{\"Id\":\"1\"}"), event("{\"Id\":\"2\"}")]);
        let (one, two) = ("{\"Id\":\"1\"}\n", "{\"Id\":\"2\"}\n");
        for (room, left) in [
            (0, String::new()),
            (5, format!("{}\n", &one[..5])),
            (one.len(), one.to_owned()),
            (one.len() + 3, format!("{one}{}\n", &two[..3])),
        ] {
            let disk = Disk(Arc::default());
            disk.0.lock().unwrap().1 = room;
            let sink = Stdout::new(Format::Raw, false, Box::new(disk.clone()));
            // Also if it stays full for a while.
            for _ in 0..2 {
                let error = sink.deliver(&events).await.unwrap_err();
                assert_eq!(error.kind(), Kind::Unavailable);
            }
            disk.0.lock().unwrap().1 = 1000;
            sink.deliver(&events).await.unwrap();
            sink.deliver(&events).await.unwrap();
            let text = String::from_utf8(disk.0.lock().unwrap().0.clone()).unwrap();
            assert_eq!(text, format!("{left}{one}{two}{one}{two}"), "{room}");
        }
    }

    /// What a program has read, unless the disk behind it is full.
    #[derive(Clone, Default)]
    struct Reader {
        text: Arc<std::sync::Mutex<Vec<u8>>>,
        full: Arc<AtomicBool>,
    }

    impl Write for Reader {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            if self.full.load(Ordering::SeqCst) {
                return Err(ErrorKind::StorageFull.into());
            }
            self.text.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[async_trait(?Send)]
    impl contract::Subject for Reader {
        async fn open(&self) -> Result<Box<dyn Sink>> {
            let out = Box::new(self.clone());
            Ok(Box::new(Stdout::new(Format::Raw, false, out)))
        }

        async fn contents(&self) -> Result<Vec<Bytes>> {
            let text = self.text.lock().unwrap();
            let lines = text.split_inclusive(|byte| *byte == b'\n');
            Ok(lines
                .map(|line| Bytes::copy_from_slice(line.strip_suffix(b"\n").unwrap()))
                .collect())
        }

        async fn set_down(&self, down: bool) -> Result<bool> {
            self.full.store(down, Ordering::SeqCst);
            Ok(true)
        }

        fn exactly_once(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn the_stdout_sink_keeps_the_promises_of_every_sink() {
        contract::check(&Reader::default()).await.unwrap();
    }

    #[test]
    fn options_are_checked() {
        assert!(build(context("sinks.out", "")).is_ok());
        assert!(build(context("sinks.out", "format = \"normalized\"")).is_ok());
        for options in ["format = \"xml\"", "colour = true"] {
            let error = build(context("sinks.out", options)).err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{options}");
        }
    }
}
