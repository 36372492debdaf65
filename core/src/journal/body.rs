//! A batch as one compressed value: `count, lengths, records`, by zstd.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::event::{AuditEvent, Origin};

/// zstd's fastest regular level: journal bodies live for seconds in general, so speed counts before size.
pub(super) const LEVEL: i32 = 1;

/// Packs the records of `events`. Gives the same events back with their records in one buffer of just their size: the
/// bodies that they were cut from may be many times as large.
pub(super) fn encode(
    compressor: &mut zstd::bulk::Compressor<'static>,
    events: &[AuditEvent],
) -> Result<(Vec<u8>, Vec<AuditEvent>)> {
    let raw: usize = events.iter().map(|event| event.raw().len()).sum();
    let mut start = 4 + 4 * events.len();
    let mut plain = Vec::with_capacity(start + raw);
    plain.extend_from_slice(&(events.len() as u32).to_le_bytes());
    for event in events {
        plain.extend_from_slice(&(event.raw().len() as u32).to_le_bytes());
    }
    for event in events {
        plain.extend_from_slice(event.raw());
    }
    let body = compressor.compress(&plain)?;
    let plain = Bytes::from(plain);
    let moved = events.iter().map(|event| {
        let end = start + event.raw().len();
        let moved = event.moved_to(plain.slice(start..end));
        start = end;
        moved
    });
    Ok((body, moved.collect()))
}

/// Unpacks a body whose records hold `raw_bytes` in all. The events share one buffer.
pub(super) fn decode(
    body: &[u8],
    events: usize,
    raw_bytes: usize,
    origin: &Arc<Origin>,
) -> Result<Vec<AuditEvent>> {
    let damaged = || Error::bug("a batch in the journal is damaged");
    let plain = zstd::bulk::decompress(body, 4 + 4 * events + raw_bytes)
        .map_err(|error| damaged().with_cause(error))?;
    let plain = Bytes::from(plain);
    let number = |at: usize| -> Result<usize> {
        let bytes = plain.get(at..at + 4).and_then(|b| b.first_chunk::<4>());
        bytes
            .map(|b| u32::from_le_bytes(*b) as usize)
            .ok_or_else(damaged)
    };
    if number(0)? != events {
        return Err(damaged());
    }
    let mut start = 4 + 4 * events;
    let mut out = Vec::with_capacity(events);
    for index in 0..events {
        let end = start + number(4 + 4 * index)?;
        if end > plain.len() {
            return Err(damaged());
        }
        out.push(AuditEvent::new(plain.slice(start..end), Arc::clone(origin)));
        start = end;
    }
    Ok(out)
}
