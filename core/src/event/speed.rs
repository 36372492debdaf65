//! What an event costs before the journal has it. Run by hand, as `docs/performance.md` says.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::cut::{Cutter, Limits, Piece};
use super::real_records::{body, cut, event, real_records};
use super::*;
use crate::dedupe::Fingerprinter;

const RECORDS: usize = 100;
const TURNS: usize = 21;
const BODIES_A_TURN: usize = 50;

/// The fields that the benchmark's floor reads, in its way.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "Id", borrow)]
    id: Option<&'a RawValue>,
    #[serde(rename = "Operation", borrow)]
    operation: Option<&'a RawValue>,
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    // Twenty records that the simulator made, 1.4 kB each on average.
    let lines: Vec<Vec<u8>> = include_bytes!("speed.ndjson")
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(Vec::from)
        .collect();
    measure("simulated records", &lines);
    if let Some(records) = real_records() {
        measure("real records", &records);
    }
}

/// The stages run in turn, so that what else the machine does meets them all; the best time of each counts.
fn measure(name: &str, records: &[Vec<u8>]) {
    let records: Vec<Vec<u8>> = records.iter().cycle().take(RECORDS).cloned().collect();
    let body = body(&records);
    let raws = cut(&body, body.len());
    let events: Vec<AuditEvent> = raws.iter().cloned().map(event).collect();
    let origin = events[0].origin();
    let fingerprinter = Fingerprinter::new(17);
    let mut line = Vec::new();
    let stages: &mut [(&str, &mut dyn FnMut())] = &mut [
        ("serde_json, Id and Operation", &mut || floor(&body)),
        ("cut, headers, events", &mut || {
            let mut cutter = Cutter::new(Limits::default());
            cutter.write(&body);
            for piece in cutter.take() {
                if let Piece::Record { raw, header, .. } = piece {
                    black_box(AuditEvent::with_header(raw, header, Arc::clone(origin)));
                }
            }
        }),
        ("the same in pieces of 1 kB", &mut || {
            black_box(cut(&body, 1 << 10));
        }),
        ("header of a record alone", &mut || {
            for raw in &raws {
                black_box(Header::scan(raw));
            }
        }),
        ("fingerprint", &mut || {
            for (index, event) in (0..).zip(&events) {
                black_box(fingerprinter.of(event, 1, index));
            }
        }),
        ("client address", &mut || {
            for event in &events {
                black_box(event.client());
            }
        }),
        ("normalized event", &mut || {
            for event in &events {
                line.clear();
                normalized::write(event, &mut line);
            }
        }),
    ];
    let mut best = vec![Duration::MAX; stages.len()];
    for _ in 0..TURNS {
        for ((_, work), best) in stages.iter_mut().zip(&mut best) {
            let start = Instant::now();
            for _ in 0..BODIES_A_TURN {
                work();
            }
            *best = start.elapsed().min(*best);
        }
    }
    eprintln!("{name}, {} bytes each, ns an event:", body.len() / RECORDS);
    for ((stage, _), best) in stages.iter().zip(best) {
        let nanos = best.as_nanos() as f64 / (BODIES_A_TURN * RECORDS) as f64;
        eprintln!("  {stage:30} {nanos:6.0}");
    }
}

fn floor(body: &[u8]) {
    let mut rest = &body[1..];
    for _ in 0..RECORDS {
        let mut fields = serde_json::Deserializer::from_slice(rest).into_iter::<Fields<'_>>();
        let read = fields.next().unwrap().unwrap();
        black_box((read.id, read.operation));
        // The comma, or the bracket at the end.
        rest = &rest[fields.byte_offset() + 1..];
    }
}
