//! The lines of an archive: plain, gzip or zstd, told apart by their first bytes, and never more than one in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use crate::error::{Error, Result};

/// How much is read at a time.
const BUFFER_BYTES: usize = 256 << 10;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Standard input's name on the command line.
pub const STDIN: &str = "-";

/// A line of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Without its line break.
    Whole(Vec<u8>),
    /// It is longer than may be held.
    TooLong,
}

/// The lines of one file.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    most_bytes: usize,
}

/// Whether [`Lines::open`] will find a file that this user may read. Holds nothing open: files may be very many.
pub fn check(path: &str) -> Result<()> {
    if path == STDIN {
        return Ok(());
    }
    let kind = std::fs::metadata(path).map_err(unreadable(path))?;
    if kind.is_dir() {
        return Err(Error::config(format!(
            "{path}: is a folder; give the files in it"
        )));
    }
    // Whoever writes into a pipe notices that it is closed.
    if kind.is_file() {
        File::open(path).map_err(unreadable(path))?;
    }
    Ok(())
}

fn unreadable(path: &str) -> impl Fn(io::Error) -> Error {
    move |error| {
        Error::config(format!(
            "{path}: cannot be read; give a file that this user may read"
        ))
        .with_cause(error)
    }
}

impl Lines {
    /// The lines of the file at `path`, or of standard input, of at most `most_bytes` each.
    pub fn open(path: &str, most_bytes: usize) -> Result<Self> {
        let plain: Box<dyn Read + Send> = if path == STDIN {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(unreadable(path))?)
        };
        Self::of(plain, most_bytes).map_err(unreadable(path))
    }

    fn of(plain: Box<dyn Read + Send>, most_bytes: usize) -> io::Result<Self> {
        let mut plain = BufReader::with_capacity(BUFFER_BYTES, plain);
        let mut head = Vec::new();
        // A pipe may give its first bytes one by one.
        plain
            .by_ref()
            .take(ZSTD.len() as u64)
            .read_to_end(&mut head)?;
        let (gzip, zstd) = (head.starts_with(GZIP), head == ZSTD);
        let plain = io::Cursor::new(head).chain(plain);
        let reader: Box<dyn BufRead + Send> = if gzip {
            let inflated = flate2::bufread::MultiGzDecoder::new(plain);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, inflated))
        } else if zstd {
            let inflated = zstd::stream::read::Decoder::with_buffer(plain)?;
            Box::new(BufReader::with_capacity(BUFFER_BYTES, inflated))
        } else {
            Box::new(plain)
        };
        Ok(Self { reader, most_bytes })
    }

    /// The next line; none at the end.
    pub fn read(&mut self) -> io::Result<Option<Text>> {
        let (mut line, mut long, mut any) = (Vec::new(), false, false);
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            long |= line.len() + part.len() > self.most_bytes;
            if !long {
                line.extend_from_slice(part);
            }
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        Ok(match (any, long) {
            (false, _) => None,
            (true, true) => Some(Text::TooLong),
            (true, false) => Some(Text::Whole(line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(text.as_bytes()).unwrap();
        member.finish().unwrap()
    }

    fn lines(body: Vec<u8>) -> Vec<String> {
        let mut lines = Lines::of(Box::new(io::Cursor::new(body)), 5).unwrap();
        let mut all = Vec::new();
        while let Some(text) = lines.read().unwrap() {
            all.push(match text {
                Text::Whole(line) => String::from_utf8(line).unwrap(),
                Text::TooLong => "(long)".to_owned(),
            });
        }
        all
    }

    #[test]
    fn plain_gzip_and_zstd_of_several_members_are_told_apart() {
        let (first, second) = ("a\n\nbb\nsix by", "tes\nlast");
        let whole = format!("{first}{second}").into_bytes();
        let members = [gzip(first), gzip(second)].concat();
        let frame = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
        let frames = [frame(first), frame(second)].concat();
        for body in [whole, members, frames] {
            assert_eq!(lines(body), ["a", "", "bb", "(long)", "last"]);
        }
        assert!(lines(Vec::new()).is_empty());
        assert_eq!(lines(b"x".to_vec()), ["x"]);
    }

    #[test]
    fn a_member_that_breaks_off_is_an_error() {
        let mut body = gzip("a\nb\n");
        body.truncate(body.len() - 4);
        let mut lines = Lines::of(Box::new(io::Cursor::new(body)), 5).unwrap();
        while let Ok(text) = lines.read() {
            assert!(text.is_some(), "the end was not noticed");
        }
    }

    #[test]
    fn a_file_is_checked_without_being_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("there"), "a\n").unwrap();
        check(&path("there")).unwrap();
        check(STDIN).unwrap();
        for (name, told) in [("gone", "cannot be read"), (".", "is a folder")] {
            let error = check(&path(name)).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        // A pipe that nobody writes into yet would hold up whoever opens it.
        let mut mkfifo = std::process::Command::new("mkfifo");
        assert!(mkfifo.arg(path("pipe")).status().unwrap().success());
        check(&path("pipe")).unwrap();
    }
}
