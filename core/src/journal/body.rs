//! A batch as one compressed value.
//!
//! A small unit that came compressed and fits one batch is kept as it came, with the places of its records: nothing is
//! compressed twice. Anything else is packed: `count, lengths, records`, by zstd.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::event::{AuditEvent, Origin};

/// zstd's fastest regular level: journal bodies live for seconds in general, so speed counts before size.
pub(super) const LEVEL: i32 = 1;

/// The whole body of a unit, as it came.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Compressed by gzip.
    pub gzip: Bytes,
    /// Its length when inflated.
    pub inflated: usize,
    /// Where in the inflated body each event of the batch begins.
    pub starts: Vec<usize>,
}

/// A batch in the form that the journal stores, and the events to hand over.
pub(super) struct Encoded {
    pub(super) body: Bytes,
    /// Where the records lie in a body that is kept as it came.
    pub(super) cuts: Option<Vec<u8>>,
    pub(super) events: Arc<Vec<AuditEvent>>,
    /// The memory that the events keep from being freed.
    pub(super) held: usize,
}

/// Encodes those of `events` whose indices are `fresh`.
pub(super) fn encode(
    compressor: &mut zstd::bulk::Compressor<'static>,
    wire: Option<&Wire>,
    events: &Arc<Vec<AuditEvent>>,
    fresh: &[usize],
) -> Result<Encoded> {
    let raw: usize = fresh.iter().map(|index| events[*index].raw().len()).sum();
    match wire {
        // Not for the sake of a few events: they would keep the whole body from being freed.
        Some(wire) if 2 * raw >= wire.inflated => Ok(Encoded {
            body: wire.gzip.clone(),
            cuts: Some(cuts(wire, events, fresh)),
            events: if fresh.len() == events.len() {
                Arc::clone(events)
            } else {
                Arc::new(fresh.iter().map(|index| events[*index].clone()).collect())
            },
            held: wire.inflated,
        }),
        _ => pack(compressor, raw, events, fresh),
    }
}

/// Packs records. Gives the same events with their records in one buffer of just their size: the bodies that they
/// were cut from may be many times as large.
fn pack(
    compressor: &mut zstd::bulk::Compressor<'static>,
    raw: usize,
    events: &[AuditEvent],
    fresh: &[usize],
) -> Result<Encoded> {
    let fresh = || fresh.iter().map(|index| &events[*index]);
    let count = fresh().count();
    let mut start = 4 + 4 * count;
    let mut plain = Buffer::with_capacity(start + raw);
    plain.extend_from_slice(&(count as u32).to_le_bytes());
    for event in fresh() {
        plain.extend_from_slice(&(event.raw().len() as u32).to_le_bytes());
    }
    for event in fresh() {
        plain.extend_from_slice(event.raw());
    }
    let body = compressor.compress(&plain)?.into();
    let plain = plain.into_bytes();
    let moved = fresh().map(|event| {
        let end = start + event.raw().len();
        let moved = event.moved_to(plain.slice(start..end));
        start = end;
        moved
    });
    Ok(Encoded {
        body,
        cuts: None,
        events: Arc::new(moved.collect()),
        held: plain.len(),
    })
}

/// The inflated length, then for each record the bytes before it since the last one, and its own.
fn cuts(wire: &Wire, events: &[AuditEvent], fresh: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 4 * fresh.len());
    put(&mut out, wire.inflated);
    let mut end = 0;
    for index in fresh {
        let (start, event) = (wire.starts[*index], &events[*index]);
        put(&mut out, start - end);
        put(&mut out, event.raw().len());
        end = start + event.raw().len();
    }
    out
}

/// Appends a number, seven bits a byte, the lowest first.
fn put(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front.
fn get(from: &mut &[u8]) -> Result<usize> {
    let mut number = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = from.split_first().ok_or_else(damaged)?;
        *from = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(damaged())
}

fn damaged() -> Error {
    Error::bug("a batch in the journal is damaged")
}

/// What is known of a stored batch besides its body.
pub(super) struct Shape<'a> {
    pub(super) events: usize,
    pub(super) raw_bytes: usize,
    pub(super) cuts: Option<&'a [u8]>,
}

/// The events of a stored batch. They share one buffer.
pub(super) fn decode(
    body: &[u8],
    shape: &Shape<'_>,
    origin: &Arc<Origin>,
) -> Result<Vec<AuditEvent>> {
    match shape.cuts {
        Some(cuts) => inflate(body, cuts, shape, origin),
        None => unpack(body, shape, origin),
    }
}

fn inflate(
    body: &[u8],
    mut cuts: &[u8],
    shape: &Shape<'_>,
    origin: &Arc<Origin>,
) -> Result<Vec<AuditEvent>> {
    let length = get(&mut cuts)?;
    let mut plain = Buffer::with_capacity(length);
    plain.lengthen(length);
    let mut inflate = MultiGzDecoder::new(body);
    let whole = inflate.read_exact(&mut plain);
    let end = whole.and_then(|()| inflate.read(&mut [0]));
    if end.map_err(|error| damaged().with_cause(error))? != 0 {
        return Err(damaged());
    }
    let plain = plain.into_bytes();
    let mut end = 0;
    let mut out = Vec::with_capacity(shape.events);
    for _ in 0..shape.events {
        let start = end + get(&mut cuts)?;
        end = start + get(&mut cuts)?;
        if end > length {
            return Err(damaged());
        }
        out.push(AuditEvent::new(plain.slice(start..end), Arc::clone(origin)));
    }
    Ok(out)
}

fn unpack(body: &[u8], shape: &Shape<'_>, origin: &Arc<Origin>) -> Result<Vec<AuditEvent>> {
    let events = shape.events;
    let mut plain = Buffer::with_capacity(4 + 4 * events + shape.raw_bytes);
    plain.lengthen(4 + 4 * events + shape.raw_bytes);
    let length = zstd::bulk::decompress_to_buffer(body, &mut plain[..])
        .map_err(|error| damaged().with_cause(error))?;
    plain.truncate(length);
    let plain = plain.into_bytes();
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
