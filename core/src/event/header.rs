//! The header fields of a record, found in one pass over its top level, and the same look-up for any other field.
//!
//! Keys are compared as they stand in the record; a key that is written with escapes is not found. A key of the exact
//! case wins over one that differs in case, for there are tools that hand out records with lower-cased keys. Of two
//! equal keys the last wins, as with most readers of JSON. What follows a defect is not read.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::lex::{Ends, is_space, skip_spaces};
use super::{RecordType, text, time};

/// How many fields a header has.
const FIELDS: usize = 7;

/// How many names are looked up in one pass.
const NAMES_A_PASS: usize = 4;

/// A scalar value inside a record: where its text lies, and whether it holds escapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    start: u32,
    len: u32,
    escaped: bool,
}

impl Slice {
    /// The text, if there is any. `raw` is the record that was scanned. Of a string with broken escapes or bytes that
    /// are no UTF-8, as much as can be read.
    #[must_use]
    pub fn text<'a>(&self, raw: &'a [u8]) -> Option<Cow<'a, str>> {
        let start = self.start as usize;
        let bytes = raw.get(start..start + self.len as usize)?;
        (!bytes.is_empty()).then(|| text::decode(bytes, self.escaped))
    }

    /// The text's bytes as they stand in the record, escapes and all.
    pub(super) fn bytes<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        raw.get(start..start + self.len as usize)
            .unwrap_or_default()
    }

    /// The value at `start..end`: a string without its quotes, a number or a boolean as it is written. Nothing for
    /// `null`, objects and arrays.
    fn of(raw: &[u8], value: Value) -> Self {
        let Value {
            mut start, mut end, ..
        } = value;
        let mut escaped = false;
        match raw[start] {
            b'"' => {
                start += 1;
                end -= 1;
                escaped = value.escaped && raw[start..end].contains(&b'\\');
            }
            b'{' | b'[' => return Self::default(),
            _ if raw[start..end] == *b"null" => return Self::default(),
            _ => {}
        }
        match (u32::try_from(start), u32::try_from(end - start)) {
            (Ok(start), Ok(len)) => Self {
                start,
                len,
                escaped,
            },
            _ => Self::default(),
        }
    }
}

/// The header fields of one record. Those that are missing, empty or unreadable are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub(super) id: Slice,
    pub(super) created: Option<DateTime<Utc>>,
    pub(super) operation: Slice,
    pub(super) workload: Slice,
    pub(super) record_type: Option<RecordType>,
    pub(super) user_id: Slice,
    pub(super) organization_id: Slice,
}

impl Header {
    /// Scans a record. Never fails.
    #[must_use]
    pub fn scan(raw: &[u8]) -> Self {
        let mut members = Members::of(raw);
        Self::of(&mut members)
    }

    /// The header of the object that `bytes` begin with, and its length. `None` if it is not whole, or no JSON, so that
    /// it takes more care to say where it ends.
    pub(super) fn of_whole_object(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut members = Members {
            strict: true,
            ..Members::of(bytes)
        };
        let header = Self::of(&mut members);
        Some((header, members.end?))
    }

    #[inline]
    fn of(members: &mut Members<'_>) -> Self {
        let raw = members.raw;
        let mut slices = [Slice::default(); FIELDS];
        let mut exact = [false; FIELDS];
        for (key, value) in members {
            let Some((field, is_exact)) = field_of(key) else {
                continue;
            };
            if is_exact || !exact[field] {
                exact[field] = is_exact;
                slices[field] = Slice::of(raw, value);
            }
        }
        let [
            id,
            created,
            operation,
            workload,
            record_type,
            user_id,
            organization_id,
        ] = slices;
        Self {
            id,
            created: created.text(raw).and_then(|text| time::parse(&text)),
            operation,
            workload,
            record_type: record_type
                .text(raw)
                .and_then(|text| RecordType::parse(&text)),
            user_id,
            organization_id,
        }
    }
}

/// The header field that a key names, in the order of [`Header::scan`], and whether its case is exact. The lengths of
/// the names differ, and comparing with a name that is known when this is compiled is cheap.
#[inline]
fn field_of(key: &[u8]) -> Option<(usize, bool)> {
    match key.len() {
        2 => Some((0, same(key, b"Id")?)),
        12 => Some((1, same(key, b"CreationTime")?)),
        9 => Some((2, same(key, b"Operation")?)),
        8 => Some((3, same(key, b"Workload")?)),
        10 => Some((4, same(key, b"RecordType")?)),
        6 => Some((5, same(key, b"UserId")?)),
        14 => Some((6, same(key, b"OrganizationId")?)),
        _ => None,
    }
}

/// Whether `key` is `name` exactly, or `None` if it is another word.
#[inline]
fn same<const N: usize>(key: &[u8], name: &[u8; N]) -> Option<bool> {
    if key == name {
        Some(true)
    } else if key.eq_ignore_ascii_case(name) {
        Some(false)
    } else {
        None
    }
}

/// The bytes of the value of `name` at the record's top level, as they are written; a string has its quotes.
#[must_use]
pub fn top_level<'a>(raw: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let [value] = find(raw, [name]);
    value.map(|value| &raw[value.start..value.end])
}

/// The text of the first of `names` that has one at the record's top level: a string that is not empty, or a number
/// or boolean as it is written.
#[must_use]
pub fn top_level_text<'a>(raw: &'a [u8], names: &[&str]) -> Option<Cow<'a, str>> {
    names.chunks(NAMES_A_PASS).find_map(|names| {
        let mut wanted = [""; NAMES_A_PASS];
        wanted[..names.len()].copy_from_slice(names);
        top_level_texts(raw, wanted)
            .into_iter()
            .take(names.len())
            .flatten()
            .next()
    })
}

/// The texts of several fields, found in one pass.
pub(super) fn top_level_texts<'a, const N: usize>(
    raw: &'a [u8],
    names: [&str; N],
) -> [Option<Cow<'a, str>>; N] {
    find(raw, names).map(|value| Slice::of(raw, value?).text(raw))
}

fn find<const N: usize>(raw: &[u8], names: [&str; N]) -> [Option<Value>; N] {
    let mut values = [None; N];
    let mut exact = [false; N];
    for (key, value) in Members::of(raw) {
        for (index, name) in names.iter().enumerate() {
            if !key.eq_ignore_ascii_case(name.as_bytes()) {
                continue;
            }
            let is_exact = key == name.as_bytes();
            if is_exact || !exact[index] {
                exact[index] = is_exact;
                values[index] = Some(value);
            }
        }
    }
    values
}

/// Where a member's value lies, quotes or brackets included.
#[derive(Clone, Copy, Debug)]
struct Value {
    start: usize,
    end: usize,
    /// Whether it is a string that may hold escapes.
    escaped: bool,
}

/// The members of an object's top level. Ends at the first thing that does not belong there.
struct Members<'a> {
    raw: &'a [u8],
    ends: Ends<'a>,
    at: usize,
    /// Whether to end at a value that is no JSON in a way that makes it doubtful where the object ends.
    strict: bool,
    /// Behind the object's closing bracket, once it was reached.
    end: Option<usize>,
}

impl<'a> Members<'a> {
    fn of(raw: &'a [u8]) -> Self {
        let start = skip_spaces(raw, 0);
        let at = if raw.get(start) == Some(&b'{') {
            start + 1
        } else {
            raw.len()
        };
        Self {
            raw,
            ends: Ends::of(raw),
            at,
            strict: false,
            end: None,
        }
    }

    /// Steps over white space; where the next byte is, and which.
    #[inline]
    fn byte(&self, at: usize) -> Option<(usize, u8)> {
        let at = skip_spaces(self.raw, at);
        self.raw.get(at).map(|byte| (at, *byte))
    }

    #[inline]
    fn value(&mut self, start: usize) -> Option<Value> {
        let (end, escaped) = match *self.raw.get(start)? {
            b'"' => self.ends.string(start + 1)?,
            b'{' | b'[' => (self.ends.nested(start)?, false),
            _ => (self.scalar(start)?, false),
        };
        (end > start).then_some(Value {
            start,
            end,
            escaped,
        })
    }

    /// The end of a number or a word.
    #[inline]
    fn scalar(&mut self, start: usize) -> Option<usize> {
        let rest = &self.raw[start..];
        let len = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']') || is_space(*byte))?;
        let opens = |byte: &u8| matches!(byte, b'"' | b'{' | b'[');
        let doubtful = self.strict && rest[..len].iter().any(opens);
        (!doubtful).then_some(start + len)
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Value);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (quote, byte) = self.byte(self.at)?;
        if byte != b'"' {
            self.end = (byte == b'}').then_some(quote + 1);
            return None;
        }
        let (key_end, _) = self.ends.string(quote + 1)?;
        let (colon, b':') = self.byte(key_end)? else {
            return None;
        };
        let value = self.value(skip_spaces(self.raw, colon + 1))?;
        self.at = match self.byte(value.end) {
            Some((comma, b',')) => comma + 1,
            Some((bracket, b'}')) => bracket,
            // This was the last member.
            _ => self.raw.len(),
        };
        Some((&self.raw[quote + 1..key_end - 1], value))
    }
}

#[cfg(test)]
mod tests;
