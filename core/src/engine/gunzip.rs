//! A gzip body, inflated in steps that its reader chooses.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::{Error, Result};

/// The largest window, which every gzip stream can be inflated with.
const WINDOW_BITS: u8 = 15;

/// Inflates one body of one or several gzip members.
pub(super) struct Gunzip {
    inflate: Decompress,
    /// Whether a member has begun and not ended.
    in_member: bool,
    /// Whether there was a member.
    any: bool,
}

/// What a step did.
pub(super) struct Step {
    /// Compressed bytes that were taken.
    pub(super) taken: usize,
    /// Inflated bytes that were written.
    pub(super) given: usize,
}

impl Gunzip {
    pub(super) fn new() -> Self {
        Self {
            inflate: Decompress::new_gzip(WINDOW_BITS),
            in_member: false,
            any: false,
        }
    }

    /// Inflates as much of `compressed` as fits `out`. A step that leaves room in `out` has taken everything.
    pub(super) fn step(&mut self, compressed: &[u8], out: &mut [u8]) -> Result<Step> {
        let mut step = Step { taken: 0, given: 0 };
        loop {
            let (rest, room) = (&compressed[step.taken..], &mut out[step.given..]);
            if room.is_empty() || (rest.is_empty() && !self.in_member) {
                return Ok(step);
            }
            if !self.in_member && self.any {
                self.inflate = Decompress::new_gzip(WINDOW_BITS);
            }
            (self.in_member, self.any) = (true, true);
            let (taken, given) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(rest, room, FlushDecompress::None)
                .map_err(broken)?;
            let taken = (self.inflate.total_in() - taken) as usize;
            let given = (self.inflate.total_out() - given) as usize;
            step.taken += taken;
            step.given += given;
            if status == Status::StreamEnd {
                self.in_member = false;
            } else if taken == 0 && given == 0 {
                return Ok(step);
            }
        }
    }

    /// Says whether the body was complete.
    pub(super) fn finish(&self) -> Result<()> {
        if self.in_member || !self.any {
            return Err(broken(std::io::Error::from(
                std::io::ErrorKind::UnexpectedEof,
            )));
        }
        Ok(())
    }
}

/// How long a whole body says that it is when inflated, if it is one member (RFC 1952, 2.3.1: `ISIZE`). It may lie.
pub(super) fn inflated_len(body: &[u8]) -> usize {
    body.last_chunk()
        .map_or(0, |len| u32::from_le_bytes(*len) as usize)
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("the compressed body is damaged or cut off").with_cause(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn member(plain: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(plain).unwrap();
        out.finish().unwrap()
    }

    /// Feeds `body` in chunks and takes what comes in steps.
    fn inflate(body: &[u8], chunk: usize, room: usize) -> Result<Vec<u8>> {
        let mut gunzip = Gunzip::new();
        let mut plain = Vec::new();
        for mut rest in body.chunks(chunk) {
            loop {
                let mut out = vec![0; room];
                let step = gunzip.step(rest, &mut out)?;
                plain.extend_from_slice(&out[..step.given]);
                rest = &rest[step.taken..];
                if step.given < room {
                    assert!(rest.is_empty(), "a step with room left something");
                    break;
                }
            }
        }
        gunzip.finish().map(|()| plain)
    }

    proptest! {
        #[test]
        fn a_body_comes_out_whole_however_it_is_cut(
            parts in prop::collection::vec(prop::collection::vec(0_u8..4, 0..3000), 1..4),
            chunk in 1_usize..700,
            room in 1_usize..900,
        ) {
            let body: Vec<u8> = parts.iter().flat_map(|part| member(part)).collect();
            prop_assert_eq!(inflate(&body, chunk, room).unwrap(), parts.concat());
        }

        #[test]
        fn a_body_that_is_cut_off_or_damaged_is_an_error(
            plain in prop::collection::vec(any::<u8>(), 1..2000),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let body = member(&plain);
            let at = at.index(body.len());
            prop_assert!(inflate(&body[..at], 100, 100).is_err());
            let mut damaged = body;
            damaged[at] ^= 1 << bit;
            // Some bits of the header, and those that fill up the last byte, say nothing about the content.
            if let Ok(inflated) = inflate(&damaged, 100, 100) {
                prop_assert_eq!(inflated, plain);
            }
        }
    }

    #[test]
    fn what_follows_the_last_member_is_an_error_unless_it_is_a_member() {
        let mut body = member(b"[]");
        body.extend_from_slice(b"<html>");
        assert!(inflate(&body, 5, 5).is_err());
        assert!(inflate(b"", 5, 5).is_err());
    }
}
