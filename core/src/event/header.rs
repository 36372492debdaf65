//! The header fields of a record, found in one pass over its top level, and the same look-up for any other field.
//!
//! Keys are compared as they stand in the record; a key that is written with escapes is not found. A key of the exact
//! case wins over one that differs in case, for there are tools that hand out records with lower-cased keys. Of two
//! equal keys the last wins, as with most readers of JSON. What follows a defect is not read.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::lex::{Nesting, is_space, skip_spaces, string_end};
use super::{RecordType, text, time};

/// The names of the header fields. Their lengths differ, which [`field_of`] makes use of.
const FIELDS: [&str; 7] = [
    "Id",
    "CreationTime",
    "Operation",
    "Workload",
    "RecordType",
    "UserId",
    "OrganizationId",
];

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

    /// The value at `start..end`: a string without its quotes, a number or a boolean as it is written. Nothing for
    /// `null`, objects and arrays.
    fn of(raw: &[u8], value: Value) -> Self {
        let Value {
            mut start, mut end, ..
        } = value;
        match raw[start] {
            b'"' => {
                start += 1;
                end -= 1;
            }
            b'{' | b'[' => return Self::default(),
            _ if raw[start..end] == *b"null" => return Self::default(),
            _ => {}
        }
        match (u32::try_from(start), u32::try_from(end - start)) {
            (Ok(start), Ok(len)) => Self {
                start,
                len,
                escaped: value.escaped,
            },
            _ => Self::default(),
        }
    }
}

/// The header fields of one record. Those that are missing, empty or unreadable are absent.
#[derive(Clone, Copy, Debug, Default)]
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
        let mut slices = [Slice::default(); FIELDS.len()];
        let mut exact = [false; FIELDS.len()];
        for (key, value) in Members::of(raw) {
            let Some(field) = field_of(key) else {
                continue;
            };
            let is_exact = key == FIELDS[field].as_bytes();
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

fn field_of(key: &[u8]) -> Option<usize> {
    let field = match key.len() {
        2 => 0,
        12 => 1,
        9 => 2,
        8 => 3,
        10 => 4,
        6 => 5,
        14 => 6,
        _ => return None,
    };
    key.eq_ignore_ascii_case(FIELDS[field].as_bytes())
        .then_some(field)
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
    /// Whether it is a string that holds escapes.
    escaped: bool,
}

/// The members of an object's top level. Ends at the first thing that does not belong there.
struct Members<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    fn of(raw: &'a [u8]) -> Self {
        let start = skip_spaces(raw, 0);
        let at = if raw.get(start) == Some(&b'{') {
            start + 1
        } else {
            raw.len()
        };
        Self { raw, at }
    }

    /// Steps over white space and expects `byte`.
    #[inline]
    fn expect(&self, at: usize, byte: u8) -> Option<usize> {
        let at = skip_spaces(self.raw, at);
        (self.raw.get(at) == Some(&byte)).then_some(at + 1)
    }

    #[inline]
    fn value(&self, start: usize) -> Option<Value> {
        let (end, escaped) = match *self.raw.get(start)? {
            b'"' => string_end(self.raw, start + 1)?,
            opener @ (b'{' | b'[') => {
                let mut nesting = Nesting::default();
                nesting.open(opener);
                let end = nesting.close(self.raw, start + 1);
                if nesting.is_open() {
                    return None;
                }
                (end, false)
            }
            _ => {
                let rest = &self.raw[start..];
                let len = rest
                    .iter()
                    .position(|byte| matches!(byte, b',' | b'}' | b']') || is_space(*byte))?;
                (start + len, false)
            }
        };
        (end > start).then_some(Value {
            start,
            end,
            escaped,
        })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Value);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let key_start = self.expect(self.at, b'"')?;
        let (key_end, _) = string_end(self.raw, key_start)?;
        let colon = self.expect(key_end, b':')?;
        let value = self.value(skip_spaces(self.raw, colon))?;
        // Without a comma this was the last member.
        self.at = self.expect(value.end, b',').unwrap_or(self.raw.len());
        Some((&self.raw[key_start..key_end - 1], value))
    }
}

#[cfg(test)]
mod tests;
