//! Pages of records, and how a record becomes what the Management Activity API gives (reference:
//! graph-audit-queries.md §4).
//!
//! The record proper is in `auditData`, with annotations in between. They are cut out of the text, so that everything
//! else stays as Microsoft wrote it.

use audit_exporter_core::event::RecordType;
use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What annotations have in their names, and nothing else.
const ANNOTATION: &str = "@odata.";
/// The time in a record. Here it ends with a `Z`, in the Management Activity API it does not.
const TIME: &str = "CreationTime";

/// A page of records.
#[derive(Deserialize)]
pub(super) struct Page<'p> {
    /// The records as they stand there.
    #[serde(borrow, rename = "value")]
    pub(super) rows: Vec<&'p RawValue>,
    /// Where the next page is.
    #[serde(rename = "@odata.nextLink", default)]
    pub(super) next: Option<String>,
}

impl<'p> Page<'p> {
    /// Reads a page. Fails if it was cut off, or is no page.
    pub(super) fn read(body: &'p [u8]) -> Result<Self> {
        serde_json::from_slice(body).map_err(|error| {
            Error::unavailable("the page is not a list of records").with_cause(error)
        })
    }
}

/// What a record says beside its `auditData`. The users' names are crossed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'r> {
    #[serde(borrow)]
    audit_data: &'r RawValue,
    #[serde(borrow, default)]
    id: Option<&'r RawValue>,
    #[serde(borrow, default)]
    created_date_time: Option<&'r RawValue>,
    #[serde(borrow, default)]
    operation: Option<&'r RawValue>,
    #[serde(borrow, default)]
    organization_id: Option<&'r RawValue>,
    #[serde(borrow, default)]
    audit_log_record_type: Option<&'r RawValue>,
    #[serde(borrow, default)]
    service: Option<&'r RawValue>,
    /// The record's `UserKey`.
    #[serde(borrow, default)]
    user_id: Option<&'r RawValue>,
    /// The record's `UserId`.
    #[serde(borrow, default)]
    user_principal_name: Option<&'r RawValue>,
}

/// The record of a row in the Management Activity API's form. A row that is not understood stays as it is.
pub(super) fn clean(row: &RawValue) -> Bytes {
    let raw = || Bytes::copy_from_slice(row.get().as_bytes());
    let Ok(known) = serde_json::from_str::<Row<'_>>(row.get()) else {
        return raw();
    };
    let data = known.audit_data.get();
    if !data.starts_with('{') {
        return raw();
    }
    let mut cleaner = Cleaner {
        text: data,
        out: String::with_capacity(data.len()),
        names: Vec::new(),
    };
    if cleaner.run().is_none() {
        return raw();
    }
    known.complete(cleaner).into()
}

impl Row<'_> {
    /// Adds what the record itself lacks of what tells it from others and whose it is.
    fn complete(&self, cleaner: Cleaner<'_>) -> String {
        let Cleaner { mut out, names, .. } = cleaner;
        let record_type = || {
            let name: String = serde_json::from_str(self.audit_log_record_type?.get()).ok()?;
            Some(RecordType::from_name(&name)?.0.to_string())
        };
        let text = |raw: Option<&RawValue>| {
            let raw = raw?.get();
            (raw.starts_with('"') && raw != "\"\"").then(|| raw.to_owned())
        };
        let time = || text(self.created_date_time).map(|time| zoneless(&time).to_owned() + "\"");
        let missing: [(&str, &dyn Fn() -> Option<String>); 8] = [
            (TIME, &time),
            ("Id", &|| text(self.id)),
            ("Operation", &|| text(self.operation)),
            ("OrganizationId", &|| text(self.organization_id)),
            ("RecordType", &record_type),
            ("UserKey", &|| text(self.user_id)),
            ("Workload", &|| text(self.service)),
            ("UserId", &|| text(self.user_principal_name)),
        ];
        for (name, value) in missing {
            if names.contains(&name) {
                continue;
            }
            if let Some(value) = value() {
                out.pop();
                if !out.ends_with('{') {
                    out.push(',');
                }
                out.push_str(&format!("\"{name}\":{value}}}"));
            }
        }
        out
    }
}

/// A time in quotes without its closing quote and without its `Z`.
fn zoneless(quoted: &str) -> &str {
    let open = quoted.strip_suffix('"').unwrap_or(quoted);
    open.strip_suffix('Z').unwrap_or(open)
}

/// Copies a JSON object without its annotations and without the white space between its parts.
struct Cleaner<'t> {
    text: &'t str,
    out: String,
    /// The members of the object itself.
    names: Vec<&'t str>,
}

/// An object or array that is open.
struct Open {
    is_object: bool,
    is_empty: bool,
}

impl<'t> Cleaner<'t> {
    /// `None` if the text is not JSON after all.
    fn run(&mut self) -> Option<()> {
        let mut open: Vec<Open> = Vec::new();
        let mut at = 0;
        while let Some(byte) = self.text.as_bytes().get(at).copied() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
                b'}' | b']' => {
                    open.pop()?;
                    self.out.push(char::from(byte));
                    at += 1;
                }
                b'"' if open.last().is_some_and(|inner| inner.is_object) => {
                    at = self.member(at, &mut open)?;
                }
                _ => {
                    if let Some(array) = open.last_mut().filter(|inner| !inner.is_object) {
                        separate(&mut self.out, array);
                    }
                    at = self.value(at, &mut open)?;
                }
            }
        }
        open.is_empty().then_some(())
    }

    /// Copies a member, or passes over it. Of a value that is an object or array, only the bracket is copied.
    fn member(&mut self, at: usize, open: &mut Vec<Open>) -> Option<usize> {
        let key_end = string_end(self.text, at)?;
        let key = self.text.get(at + 1..key_end - 1)?;
        let colon = key_end + self.text[key_end..].find(':')?;
        let value = colon + 1 + self.text[colon + 1..].find(|c: char| !c.is_ascii_whitespace())?;
        if key.contains(ANNOTATION) {
            return value_end(self.text, value);
        }
        separate(&mut self.out, open.last_mut()?);
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        if open.len() == 1 {
            self.names.push(key);
            if key == TIME && self.text[value..].starts_with('"') {
                let end = string_end(self.text, value)?;
                self.out.push_str(zoneless(&self.text[value..end]));
                self.out.push('"');
                return Some(end);
            }
        }
        self.value(value, open)
    }

    /// Copies a value, or the bracket that opens it.
    fn value(&mut self, at: usize, open: &mut Vec<Open>) -> Option<usize> {
        let first = *self.text.as_bytes().get(at)?;
        if matches!(first, b'{' | b'[') {
            self.out.push(char::from(first));
            open.push(Open {
                is_object: first == b'{',
                is_empty: true,
            });
            return Some(at + 1);
        }
        let end = value_end(self.text, at)?;
        self.out.push_str(&self.text[at..end]);
        Some(end)
    }
}

/// A comma, unless nothing stands before it.
fn separate(out: &mut String, inner: &mut Open) {
    if !std::mem::take(&mut inner.is_empty) {
        out.push(',');
    }
}

/// Where the string that begins at `at` ends.
fn string_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value that begins at `at` ends.
fn value_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (at, 0_usize);
    loop {
        match *bytes.get(at)? {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            _ => {
                let rest = bytes[at..].iter();
                at += rest
                    .take_while(|byte| !b",:]} \t\n\r".contains(byte))
                    .count();
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(row: &str) -> String {
        let row: Box<RawValue> = serde_json::from_str(row).unwrap();
        String::from_utf8(clean(&row).to_vec()).unwrap()
    }

    #[test]
    fn annotations_go_at_every_depth_and_nothing_else_changes() {
        let row = r##"{"id":"a","auditData":{"@odata.type":"#microsoft.graph.security.defaultAuditData",
            "CreationTime":"2026-07-17T08:28:17Z","Id":"a","Operation":"Set","OrganizationId":"o",
            "RecordType@odata.type":"#Int64","RecordType":15,"UserKey":"k","Workload":"w","UserId":"u",
            "Big":1e400,"Half":"\ud800","Odd":"{\"@odata.x\":[1,2}","Nothing":null,
            "List@odata.type":"#Collection(x)","List":[{"@odata.type":"x","Name":"n","N@odata.type":"#Int64","N":-1.5},[],[true, "s" ]],
            "Empty":{"@odata.type":"x"},"Other@odata.bind":{"a":["}"]}}}"##;
        assert_eq!(
            cleaned(row),
            r#"{"CreationTime":"2026-07-17T08:28:17","Id":"a","Operation":"Set","OrganizationId":"o","RecordType":15,"UserKey":"k","Workload":"w","UserId":"u","Big":1e400,"Half":"\ud800","Odd":"{\"@odata.x\":[1,2}","Nothing":null,"List":[{"Name":"n","N":-1.5},[],[true,"s"]],"Empty":{}}"#
        );
    }

    #[test]
    fn what_a_record_lacks_comes_from_its_row_with_the_users_uncrossed() {
        let row = r#"{"id":"a","createdDateTime":"2026-07-17T08:28:17Z","auditLogRecordType":"AzureActiveDirectoryStsLogon",
            "operation":"Set","organizationId":"o","userId":"key","userPrincipalName":"ada@contoso.com","service":"w",
            "clientIp":null,"auditData":{"@odata.type":"x"}}"#;
        assert_eq!(
            cleaned(row),
            r#"{"CreationTime":"2026-07-17T08:28:17","Id":"a","Operation":"Set","OrganizationId":"o","RecordType":15,"UserKey":"key","Workload":"w","UserId":"ada@contoso.com"}"#
        );
        let row = r#"{"id":"","userId":null,"auditData":{"Id":null}}"#;
        assert_eq!(cleaned(row), r#"{"Id":null}"#);
    }

    #[test]
    fn a_row_that_is_not_understood_is_kept_as_it_is() {
        for row in ["[1]", "7", r#"{"id":"a"}"#, r#"{"auditData":"text"}"#] {
            assert_eq!(cleaned(row), row);
        }
    }

    #[test]
    fn great_depth_is_no_trouble() {
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        let out = cleaned(&format!(r#"{{"auditData":{{"Deep":{deep},"Id":"a"}}}}"#));
        assert_eq!(out, format!(r#"{{"Deep":{deep},"Id":"a"}}"#));
    }

    #[test]
    fn a_page_that_was_cut_off_is_no_page() {
        let page = br#"{"@odata.nextLink":"https://x/","value":[{"id":1},{"id":2}]}"#;
        let whole = Page::read(page).unwrap();
        assert_eq!(
            (whole.rows.len(), whole.next.as_deref()),
            (2, Some("https://x/"))
        );
        for end in 0..page.len() {
            assert!(Page::read(&page[..end]).is_err());
        }
        assert!(Page::read(b"{}").is_err());
    }
}
