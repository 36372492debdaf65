use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::Origin;

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        tenant: "00000000-1111-4000-8000-000000000002".into(),
        tenant_name: "contoso".into(),
        source: "activity".into(),
        content_type: "Audit.General".into(),
        unit: "blob$1".into(),
    })
}

fn written(raw: &[u8]) -> String {
    let event = AuditEvent::new(Bytes::copy_from_slice(raw), origin());
    let mut out = b"before".to_vec();
    write(&event, &mut out);
    let text = String::from_utf8(out).expect("the output is UTF-8");
    text.strip_prefix("before").unwrap().to_owned()
}

/// What is written for a record, without its origin.
fn fields(raw: &str) -> Value {
    let mut value: Value = serde_json::from_str(&written(raw.as_bytes())).unwrap();
    for key in [
        "tenant_id",
        "tenant",
        "source",
        "content_type",
        "content_blob",
    ] {
        assert!(value.as_object_mut().unwrap().remove(key).is_some());
    }
    value
}

#[test]
fn the_form_is_the_documented_one() {
    let raw = r#"{"CreationTime":"2024-01-31T03:04:05","Id":"1","Operation":"CreateFlow","RecordType":30,"Workload":"MicrosoftFlow","UserId":"ada@example.com","UserType":0,"OrganizationId":"2","ClientIP":"10.1.2.3:443","ObjectId":"o\/1","ResultStatus":"Succeeded","Other":[1,2]}"#;
    let expected = concat!(
        r#"{"id":"1","time":"2024-01-31T03:04:05Z","operation":"CreateFlow","record_type":30,"#,
        r#""record_type_name":"MicrosoftFlow","workload":"MicrosoftFlow","user_id":"ada@example.com","#,
        r#""user_type":"regular","organization_id":"2","client_ip":"10.1.2.3","client_port":443,"object_id":"o/1","#,
        r#""result_status":"Succeeded","tenant_id":"00000000-1111-4000-8000-000000000002","tenant":"contoso","#,
        r#""source":"activity","content_type":"Audit.General","content_blob":"blob$1","raw":"#,
    );
    assert_eq!(written(raw.as_bytes()), format!("{expected}{raw}}}"));

    let documentation = include_str!("../../../../docs/normalized-event.md");
    let value: Value = serde_json::from_str(&written(raw.as_bytes())).unwrap();
    for key in value.as_object().unwrap().keys() {
        assert!(documentation.contains(&format!("\n| `{key}` |")), "{key}");
    }
}

#[test]
fn absent_fields_are_left_out() {
    assert_eq!(fields("{}"), json!({"raw": {}}));
    assert_eq!(
        fields(r#"{"Id":"","ClientIP":"<null>","UserType":42,"RecordType":4711,"CreationTime":"soon","ObjectId":null}"#)
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["raw", "record_type"]
    );
}

#[test]
fn user_types_have_one_spelling() {
    for (value, expected) in [
        ("0", Some("regular")),
        ("\"3\"", Some("dc_admin")),
        ("\"DCAdmin\"", Some("dc_admin")),
        ("\"DcAdmin\"", Some("dc_admin")),
        ("\"ServicePrincipal\"", Some("service_principal")),
        ("10", Some("guest")),
        ("11", None),
        ("-1", None),
        ("null", None),
        ("\"Nobody\"", None),
    ] {
        let fields = fields(&format!(r#"{{"UserType":{value}}}"#));
        assert_eq!(
            fields.get("user_type").and_then(Value::as_str),
            expected,
            "{value}"
        );
    }
}

#[test]
fn the_client_is_found_under_both_names() {
    for (raw, address, port) in [
        (
            r#"{"ClientIP":"[2001:db8::1]:443"}"#,
            "2001:db8::1",
            Some(443),
        ),
        (r#"{"ClientIPAddress":"::ffff:10.1.2.3"}"#, "10.1.2.3", None),
        (
            r#"{"ClientIP":"","ClientIPAddress":"10.1.2.3"}"#,
            "10.1.2.3",
            None,
        ),
        (
            r#"{"ClientIP":"<null>","ClientIPAddress":"10.1.2.3"}"#,
            "10.1.2.3",
            None,
        ),
    ] {
        let fields = fields(raw);
        assert_eq!(fields["client_ip"], address, "{raw}");
        assert_eq!(
            fields.get("client_port").and_then(Value::as_i64),
            port,
            "{raw}"
        );
    }
}

#[test]
fn a_record_of_many_lines_becomes_one() {
    let line = written(b"{\r\n  \"Id\": \"1\"\n}");
    assert!(!line.contains(['\n', '\r']));
    assert!(line.ends_with(r#","raw":{    "Id": "1" }}"#));
}

#[test]
fn what_is_no_json_is_kept_as_text() {
    for (raw, text) in [
        (&b"{\"Id\":\"1\",}"[..], "{\"Id\":\"1\",}"),
        (b"not\njson", "not\njson"),
        (b"{\"Id\":\"1\"} x", "{\"Id\":\"1\"} x"),
        (
            b"{\"Id\":\"1\",\"a\":\"\xFF\"}",
            "{\"Id\":\"1\",\"a\":\"\u{fffd}\"}",
        ),
        (
            b"{\"Id\":\"1\",\"a\":\"\n\"}",
            "{\"Id\":\"1\",\"a\":\"\n\"}",
        ),
        (b"", ""),
    ] {
        let value: Value = serde_json::from_str(&written(raw)).unwrap();
        assert_eq!(value.get("raw"), None);
        assert_eq!(
            value
                .get("raw_text")
                .and_then(Value::as_str)
                .unwrap_or_default(),
            text
        );
    }
}

proptest! {
    #[test]
    fn every_line_is_json(
        bytes in any::<Vec<u8>>(),
        like in r#"\{("(Id|id|UserId|ClientIP)" ?[:,"] ?["\[\]{}",:\\a1\n]{0,4},?){0,5}\}?"#,
        text in any::<String>(),
    ) {
        let quoted = json!({"Id": text, "ResultStatus": text, "UserType": text, "ClientIP": text}).to_string();
        for raw in [&bytes[..], like.as_bytes(), quoted.as_bytes()] {
            let line = written(raw);
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert!(serde_json::from_str::<Value>(&line).is_ok(), "{}", line);
        }
    }
}
