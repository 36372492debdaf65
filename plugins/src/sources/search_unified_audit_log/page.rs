//! An answer of the search: its rows, and what it says beside them (reference: search-unified-audit-log.md, A, B, B.3).
//!
//! The record of a row is `AuditData`: text that is JSON, so that its own bytes, without the escapes of a string, are
//! the same that the Management Activity API gives. A row whose `AuditData` is missing or no JSON is a record itself:
//! nothing is left out because it is not understood.

use std::borrow::Cow;

use audit_exporter_core::{Error, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::http::text::first_sentence;

/// What a session that has failed gives as the index of its only row.
const FAILED: i64 = -1;

/// An answer.
#[derive(Debug)]
pub(super) struct Page<'b> {
    /// In the order in which they came.
    pub(super) rows: Vec<Row<'b>>,
    /// The service kept a part of the page back, for a next link that cannot be relied on.
    pub(super) is_cut: bool,
}

/// One event that was found.
#[derive(Debug)]
pub(super) struct Row<'b> {
    /// Its place in the session, from 1.
    pub(super) index: u64,
    /// How many rows the session has; or, by a defect of the service, the page.
    pub(super) count: u64,
    raw: &'b RawValue,
    data: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Body<'b> {
    #[serde(borrow, default)]
    value: Option<Vec<&'b RawValue>>,
    #[serde(rename = "@adminapi.warnings", default)]
    warnings: Option<Vec<String>>,
    #[serde(rename = "@odata.nextLink", default)]
    next: Option<String>,
    /// Why it failed, although the status says that it did not.
    #[serde(borrow, default, alias = "odata.error")]
    error: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Fields<'b> {
    #[serde(rename = "AuditData", borrow, default)]
    data: Option<&'b RawValue>,
    #[serde(rename = "ResultIndex", borrow, default)]
    index: Option<&'b RawValue>,
    #[serde(rename = "ResultCount", borrow, default)]
    count: Option<&'b RawValue>,
}

impl<'b> Page<'b> {
    /// Reads an answer. Fails if it is no answer of the search, or one that says of itself that it failed.
    pub(super) fn read(body: &'b [u8]) -> Result<Self> {
        let body: Body<'b> = serde_json::from_slice(body).map_err(|error| {
            Error::unavailable("the answer is not the result of a search").with_cause(error)
        })?;
        if let Some(error) = body.error {
            return Err(failed(error));
        }
        let rows: Vec<Row<'b>> = body
            .value
            .unwrap_or_default()
            .into_iter()
            .map(Row::read)
            .collect::<Result<_>>()?;
        heed(&body.warnings.unwrap_or_default(), rows.is_empty())?;
        Ok(Self {
            rows,
            is_cut: body.next.is_some(),
        })
    }
}

/// An answer that says by its body alone that it is none.
pub(super) fn failed(error: &RawValue) -> Error {
    let said = first_sentence(error.get());
    Error::unavailable(format!("the search failed, though with HTTP 200 ({said})"))
}

/// Fails for warnings that mean that rows are missing: all of them where there are no rows.
fn heed(warnings: &[String], is_empty: bool) -> Result<()> {
    for warning in warnings {
        let said = first_sentence(warning);
        if is_empty || super::refusal::is_failure(warning) {
            return Err(Error::unavailable(format!(
                "the search warned that it is not complete ({said})"
            ))
            .with_code("warning"));
        }
        tracing::warn!("the search warned: {said}");
    }
    Ok(())
}

impl<'b> Row<'b> {
    fn read(raw: &'b RawValue) -> Result<Self> {
        let fields: Fields<'b> = serde_json::from_str(raw.get()).map_err(|error| {
            Error::unavailable("a row of the search is no row").with_cause(error)
        })?;
        let number = |field: Option<&RawValue>| -> Option<i64> {
            field?.get().trim_matches('"').parse().ok()
        };
        let index = number(fields.index).ok_or_else(|| {
            Error::unavailable(
                "a row has no ResultIndex, so nobody can tell whether rows are missing",
            )
        })?;
        if index <= FAILED {
            return Err(
                Error::unavailable("the session has failed (ResultIndex -1)")
                    .with_code("ResultIndex -1"),
            );
        }
        Ok(Self {
            index: index.unsigned_abs(),
            count: number(fields.count)
                .unwrap_or_default()
                .max(0)
                .unsigned_abs(),
            raw,
            data: fields.data,
        })
    }

    /// Tells rows with the same record from others, within a session.
    pub(super) fn fingerprint(&self) -> u64 {
        xxh3_64(self.data.unwrap_or(self.raw).get().as_bytes())
    }

    /// The record.
    pub(super) fn record(&self) -> Cow<'b, str> {
        let row = Cow::Borrowed(self.raw.get());
        let Some(data) = self.data.map(RawValue::get) else {
            return row;
        };
        if data.starts_with('{') {
            return Cow::Borrowed(data);
        }
        match serde_json::from_str::<String>(data) {
            Ok(record) if serde_json::from_str::<&RawValue>(&record).is_ok() => Cow::Owned(record),
            _ => row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(value: &str) -> Vec<String> {
        let body = format!(r#"{{"@adminapi.warnings":[],"value":[{value}]}}"#);
        let page = Page::read(body.as_bytes()).unwrap();
        page.rows
            .iter()
            .map(|row| row.record().into_owned())
            .collect()
    }

    fn failure(body: &str) -> String {
        Page::read(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_record_is_the_text_of_audit_data_byte_for_byte() {
        let row = r#"{"ResultIndex":1,"ResultCount":1,"AuditData":"{\"Id\":\"\\ud83d \\u00e9\",\"N\":1.50}"}"#;
        assert_eq!(records(row), [r#"{"Id":"\ud83d \u00e9","N":1.50}"#]);
    }

    #[test]
    fn a_row_that_is_not_understood_is_a_record_itself() {
        for row in [
            r#"{"ResultIndex":1,"Identity":"x"}"#,
            r#"{"ResultIndex":1,"AuditData":null}"#,
            r#"{"ResultIndex":1,"AuditData":"{\"Id\":\"cut o"}"#,
            r#"{"ResultIndex":1,"AuditData":"\ud83d"}"#,
        ] {
            assert_eq!(records(row), [row]);
        }
        assert_eq!(
            records(r#"{"ResultIndex":1,"AuditData":{"Id":"x"}}"#),
            [r#"{"Id":"x"}"#]
        );
    }

    #[test]
    fn depth_and_a_record_that_is_no_object_harm_nobody() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let row = |data: &str| format!(r#"{{"ResultIndex":1,"AuditData":"{data}"}}"#);
        assert_eq!(records(&row(&deep)), std::slice::from_ref(&deep));
        assert_eq!(records(&row("null")), ["null"]);
    }

    #[test]
    fn no_value_is_no_rows() {
        for body in ["{}", r#"{"value":null}"#, r#"{"value":[]}"#] {
            assert!(Page::read(body.as_bytes()).unwrap().rows.is_empty());
        }
    }

    #[test]
    fn numbers_may_be_text() {
        let body = br#"{"value":[{"ResultIndex":"7","ResultCount":"9"}]}"#;
        let page = Page::read(body).unwrap();
        assert_eq!((page.rows[0].index, page.rows[0].count), (7, 9));
    }

    #[test]
    fn failures_that_look_like_answers_are_failures() {
        let warned = |text: &str, rows: &str| {
            format!(r#"{{"@adminapi.warnings":["{text}"],"value":[{rows}]}}"#)
        };
        let row = r#"{"ResultIndex":1,"ResultCount":1}"#;
        for (body, told) in [
            (warned("A task was canceled.", row), "A task was canceled"),
            (
                warned("Failed to process request", row),
                "Failed to process",
            ),
            (warned("anything", ""), "anything"),
            (
                r#"{"value":[{"ResultIndex":-1,"ResultCount":0}]}"#.into(),
                "ResultIndex -1",
            ),
            (r#"{"value":[{"ResultCount":0}]}"#.into(), "no ResultIndex"),
            (r#"{"value":[1]}"#.into(), "no row"),
            ("<html>".into(), "not the result of a search"),
            (
                r#"{"error":{"code":"InternalServerError"}}"#.into(),
                "InternalServerError",
            ),
            (
                r#"{"odata.error":{"code":"TransientException"},"value":[]}"#.into(),
                "TransientException",
            ),
        ] {
            assert!(failure(&body).contains(told), "{body}");
        }
        assert!(Page::read(warned("some cmdlet is deprecated", row).as_bytes()).is_ok());
    }
}
