//! Reads a request's envelopes one after the other, as Splunk does: those before a broken one are indexed (reference:
//! sinks-protocols.md §1.2).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

/// An event as it was indexed.
#[derive(Debug, Clone, Serialize)]
pub struct HecEvent {
    /// `time`, as it was sent.
    pub time: Option<Box<RawValue>>,
    /// `host`.
    pub host: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `sourcetype`.
    pub sourcetype: Option<String>,
    /// The index that it went to.
    pub index: String,
    /// `fields`, as they were sent.
    pub fields: Option<Box<RawValue>>,
    /// `event`, byte for byte.
    pub event: Box<RawValue>,
}

/// Why a request ends before its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// With this code, and perhaps the number of the envelope.
    Refused(u16, Option<usize>),
    /// With success, although the rest is not read.
    Silent,
}

/// What is taken.
pub(super) struct Rules<'c> {
    /// The token's indexes, its own first.
    pub(super) indexes: &'c [String],
    /// What no event may hold.
    pub(super) refuses: Option<&'c str>,
}

/// The keys that an envelope may have.
const KEYS: [&str; 7] = [
    "time",
    "host",
    "source",
    "sourcetype",
    "index",
    "event",
    "fields",
];

type Envelope<'b> = BTreeMap<String, &'b RawValue>;

/// Gives each event of a request to `index`, until the end or until something is wrong.
pub(super) fn read(
    body: &[u8],
    rules: &Rules<'_>,
    mut index: impl FnMut(HecEvent),
) -> Result<(), Stop> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(Stop::Refused(5, None));
    }
    if body[0] == b'[' {
        let broken = |_| Stop::Refused(6, Some(0));
        let all: Vec<&RawValue> = serde_json::from_slice(body).map_err(broken)?;
        for (number, envelope) in all.iter().enumerate() {
            one(envelope, number, all.len() == 1, rules, &mut index)?;
        }
        return Ok(());
    }
    let mut rest = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
    let mut number = 0;
    while let Some(next) = rest.next() {
        let envelope = next.map_err(|_| Stop::Refused(6, Some(number)))?;
        let alone = number == 0 && rest.byte_offset() == body.len();
        one(envelope, number, alone, rules, &mut index)?;
        number += 1;
    }
    Ok(())
}

fn one(
    envelope: &RawValue,
    number: usize,
    alone: bool,
    rules: &Rules<'_>,
    index: &mut impl FnMut(HecEvent),
) -> Result<(), Stop> {
    let refused = |code| Stop::Refused(code, Some(number));
    let envelope: Envelope<'_> = serde_json::from_str(envelope.get()).map_err(|_| refused(6))?;
    if envelope.keys().any(|key| !KEYS.contains(&&**key)) {
        return Err(if alone {
            Stop::Refused(5, None)
        } else {
            Stop::Silent
        });
    }
    let fields = envelope.get("fields").copied();
    let Some(event) = envelope.get("event").copied() else {
        return if fields.is_some() {
            Ok(())
        } else {
            Err(refused(12))
        };
    };
    match event.get() {
        "null" | "false" => return Err(refused(6)),
        text if text.starts_with('"') && text[1..text.len() - 1].trim().is_empty() => {
            return Err(refused(13));
        }
        text if rules.refuses.is_some_and(|refused| text.contains(refused)) => {
            return Err(refused(6));
        }
        _ => {}
    }
    if !fields.is_none_or(are_flat) || !envelope.get("time").is_none_or(|time| is_time(time)) {
        return Err(refused(15));
    }
    let text = |key: &str| {
        let value = envelope.get(key)?;
        serde_json::from_str::<String>(value.get()).ok()
    };
    let wanted = text("index")
        .or_else(|| rules.indexes.first().cloned())
        .unwrap_or_default();
    if !rules.indexes.contains(&wanted) {
        // One more than for all other codes.
        return Err(Stop::Refused(7, Some(number + 1)));
    }
    index(HecEvent {
        time: envelope.get("time").map(|time| (*time).to_owned()),
        host: text("host"),
        source: text("source"),
        sourcetype: text("sourcetype"),
        index: wanted,
        fields: fields.map(ToOwned::to_owned),
        event: event.to_owned(),
    });
    Ok(())
}

/// Whether fields are text, or lists of text.
fn are_flat(fields: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)] // Their shape is all that counts.
    enum Field {
        One(String),
        Many(Vec<String>),
    }
    serde_json::from_str::<BTreeMap<String, Field>>(fields.get()).is_ok()
}

/// Whether it is a number in plain decimals, or text of one.
fn is_time(time: &RawValue) -> bool {
    let text = time.get().trim_matches('"');
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexed(body: &str) -> (Vec<String>, Result<(), Stop>) {
        let mut events = Vec::new();
        let indexes = ["main".to_owned(), "audit".to_owned()];
        let rules = Rules {
            indexes: &indexes,
            refuses: Some("poison"),
        };
        let ended = read(body.as_bytes(), &rules, |event| {
            events.push(event.event.get().to_owned());
        });
        (events, ended)
    }

    #[test]
    fn what_stands_before_a_broken_envelope_is_indexed() {
        let good = r#"{"event":{"a": 1}}"#;
        for (bad, stop) in [
            ("{\"event\":", Stop::Refused(6, Some(2))),
            ("7", Stop::Refused(6, Some(2))),
            (r#"{"event":null}"#, Stop::Refused(6, Some(2))),
            (r#"{"event":"poison"}"#, Stop::Refused(6, Some(2))),
            (r#"{"host":"h"}"#, Stop::Refused(12, Some(2))),
            (r#"{"event":" "}"#, Stop::Refused(13, Some(2))),
            (
                r#"{"event":1,"fields":{"a":{}}}"#,
                Stop::Refused(15, Some(2)),
            ),
            (r#"{"event":1,"time":1.79E9}"#, Stop::Refused(15, Some(2))),
            (r#"{"event":1,"index":"other"}"#, Stop::Refused(7, Some(3))),
            (r#"{"event":1,"extra":1}"#, Stop::Silent),
        ] {
            let (events, ended) = indexed(&format!("{good}\n{good}{bad} {good}"));
            assert_eq!((events.len(), ended), (2, Err(stop)), "{bad}");
        }
    }

    #[test]
    fn events_are_kept_byte_for_byte() {
        let body = r#"{"event": {"b": 1.50,  "a":"\u00e9"} ,"time":"17.5"}{"event":"text"}
            {"fields":{"metric":"1"}} {"event":[],"index":"audit"}"#;
        let events = [r#"{"b": 1.50,  "a":"\u00e9"}"#, "\"text\"", "[]"];
        let (found, ended) = indexed(body);
        assert_eq!((found, ended), (events.map(str::to_owned).to_vec(), Ok(())));
        let array = r#"[{"event":1},{"event":{}}]"#;
        assert_eq!(indexed(array).0, ["1", "{}"]);
    }

    #[test]
    fn nothing_and_an_unknown_key_alone_are_no_data() {
        assert_eq!(indexed(" \n").1, Err(Stop::Refused(5, None)));
        assert_eq!(
            indexed(r#"{"event":1,"extra":1}"#).1,
            Err(Stop::Refused(5, None))
        );
    }
}
