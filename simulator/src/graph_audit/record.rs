//! A record as Graph writes it (reference, "auditLogRecord"): fields of its own, of which the users' are crossed, and the
//! record as it is, with annotations in between.

use std::{collections::HashMap, fmt::Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{json, value::RawValue};

use super::record_types;
use crate::{chance::part, generate::json::guid_text};

/// The type of everything in `auditData` that is an object.
const DATA: &str = "#microsoft.graph.security.defaultAuditData";
/// `userType`, by its number.
const USER_TYPES: [&str; 11] = [
    "Regular",
    "Reserved",
    "Admin",
    "DcAdmin",
    "System",
    "Application",
    "ServicePrincipal",
    "CustomPolicy",
    "SystemPolicy",
    "PartnerTechnician",
    "Guest",
];

/// What the index knows of an event.
pub(super) struct Known<'e> {
    pub(super) at: DateTime<Utc>,
    pub(super) id: &'e str,
    pub(super) record_type: i64,
    /// Tells events without an Id apart.
    pub(super) number: usize,
}

/// The JSON of a record; `None` if the record is not an object, which the service never has.
pub(super) fn row(known: &Known<'_>, record: &[u8]) -> Option<String> {
    let record = std::str::from_utf8(record).ok()?;
    let fields: HashMap<String, &RawValue> = serde_json::from_str(record).ok()?;
    let text = |name: &str| {
        let field = fields.get(name)?;
        serde_json::from_str::<String>(field.get()).ok()
    };
    let user_type = fields
        .get("UserType")
        .and_then(|raw| raw.get().trim_matches('"').parse::<usize>().ok());
    let user_type = user_type.map(|number| USER_TYPES.get(number).copied());
    let id = if known.id.is_empty() {
        let place = part(record) ^ known.number as u64;
        guid_text(u128::from(place) << 64 | u128::from(part(&known.at.to_string())))
    } else {
        known.id.to_owned()
    };
    let own = json!({
        "id": id,
        "createdDateTime": known.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        "auditLogRecordType": record_types::name(known.record_type),
        "operation": text("Operation"),
        "organizationId": text("OrganizationId"),
        "userType": user_type.map(|name| name.unwrap_or("unknownFutureValue")),
        "userId": text("UserKey"),
        "service": text("Workload"),
        "objectId": text("ObjectId"),
        "userPrincipalName": text("UserId"),
        "clientIp": null,
        "administrativeUnits": [""],
    });
    let mut row = own.to_string();
    row.truncate(row.len() - 1);
    write!(row, ",\"auditData\":{}}}", annotated(record)?).ok()?;
    Some(row)
}

/// A record with `@odata.type` in each object and before each member that is not a text, and with a zone in its
/// `CreationTime`. By the text, so that everything else stays as it is.
fn annotated(record: &str) -> Option<String> {
    let mut out = String::with_capacity(record.len() * 2);
    let mut rest = record.trim();
    // The closers of what is open; the last one is innermost.
    let mut open: Vec<char> = Vec::new();
    while let Some(first) = rest.chars().next() {
        match first {
            '{' => {
                open.push('}');
                rest = rest[1..].trim_start();
                write!(out, "{{\"@odata.type\":\"{DATA}\"").ok()?;
                if !rest.starts_with('}') {
                    out.push(',');
                    rest = member(rest, &mut out, open.len())?;
                }
                continue;
            }
            '[' => open.push(']'),
            '}' | ']' => drop(open.pop()),
            ',' if open.last() == Some(&'}') => {
                out.push(',');
                rest = member(rest[1..].trim_start(), &mut out, open.len())?;
                continue;
            }
            '"' => {
                let end = string_end(rest)?;
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            _ => {}
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    open.is_empty().then_some(out)
}

/// Writes a member's annotation and its key; of `CreationTime` the value too. Returns what follows.
fn member<'r>(rest: &'r str, out: &mut String, depth: usize) -> Option<&'r str> {
    let end = string_end(rest)?;
    let key = &rest[1..end - 1];
    let value = rest[end..].trim_start().strip_prefix(':')?.trim_start();
    let annotation = match value.chars().next()? {
        '[' => Some("#Collection(microsoft.graph.security.defaultAuditData)"),
        '-' | '0'..='9' => Some("#Int64"),
        't' | 'f' => Some("#Boolean"),
        '{' => Some(DATA),
        _ => None,
    };
    if let Some(annotation) = annotation {
        write!(out, "\"{key}@odata.type\":\"{annotation}\",").ok()?;
    }
    write!(out, "\"{key}\":").ok()?;
    if depth == 1 && key == "CreationTime" && value.starts_with('"') {
        let end = string_end(value)?;
        let time = &value[1..end - 1];
        let zone = if DateTime::parse_from_rfc3339(time).is_ok() {
            ""
        } else {
            "Z"
        };
        write!(out, "\"{time}{zone}\"").ok()?;
        return Some(&value[end..]);
    }
    Some(value)
}

/// Where the string that `text` begins with ends.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gets_annotations_and_a_zone_and_loses_nothing() {
        let record = r#"{"CreationTime":"2026-07-17T08:28:17","Id":"a","RecordType":15,"List":[{"Name":"x,\"","On":true},[]],"Empty":{}}"#;
        assert_eq!(
            annotated(record).unwrap(),
            r##"{"@odata.type":"#microsoft.graph.security.defaultAuditData","CreationTime":"2026-07-17T08:28:17Z","Id":"a","RecordType@odata.type":"#Int64","RecordType":15,"List@odata.type":"#Collection(microsoft.graph.security.defaultAuditData)","List":[{"@odata.type":"#microsoft.graph.security.defaultAuditData","Name":"x,\"","On@odata.type":"#Boolean","On":true},[]],"Empty@odata.type":"#microsoft.graph.security.defaultAuditData","Empty":{"@odata.type":"#microsoft.graph.security.defaultAuditData"}}"##
        );
    }

    #[test]
    fn the_users_are_crossed_and_the_address_is_empty() {
        let record = r#"{"Id":"a","UserKey":"key","UserId":"ada@contoso.com","UserType":5,"ClientIP":"::1"}"#;
        let known = Known {
            at: DateTime::UNIX_EPOCH,
            id: "a",
            record_type: 15,
            number: 0,
        };
        let row: serde_json::Value =
            serde_json::from_str(&row(&known, record.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            (&row["userId"], &row["userPrincipalName"]),
            (&json!("key"), &json!("ada@contoso.com"))
        );
        assert_eq!(
            (&row["clientIp"], &row["userType"]),
            (&json!(null), &json!("Application"))
        );
        assert_eq!(row["auditLogRecordType"], "AzureActiveDirectoryStsLogon");
        assert_eq!(row["administrativeUnits"], json!([""]));
    }
}
