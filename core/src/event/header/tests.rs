use proptest::prelude::*;

use super::*;

#[test]
fn reads_the_header_of_a_usual_record() {
    let raw = br#"{"CreationTime":"2024-01-31T03:04:05","Id":"9f3e2b1c-0000-4000-8000-000000000001",
        "Operation":"CreateFlow","OrganizationId":"00000000-1111-4000-8000-000000000002","RecordType":30,
        "UserKey":"k","UserType":0,"Version":1,"Workload":"MicrosoftFlow","UserId":"ada@example.com",
        "Nested":{"Id":"not this","Operation":["nor this"]},"FlowDetailsUrl":"https:\/\/example.com\/"}"#;
    let header = Header::scan(raw);
    let text = |slice: Slice| slice.text(raw).map(Cow::into_owned);
    assert_eq!(
        text(header.id).unwrap(),
        "9f3e2b1c-0000-4000-8000-000000000001"
    );
    assert_eq!(header.created, time::parse("2024-01-31T03:04:05Z"));
    assert_eq!(text(header.operation).unwrap(), "CreateFlow");
    assert_eq!(text(header.workload).unwrap(), "MicrosoftFlow");
    assert_eq!(header.record_type, Some(RecordType(30)));
    assert_eq!(text(header.user_id).unwrap(), "ada@example.com");
    assert_eq!(
        text(header.organization_id).unwrap(),
        "00000000-1111-4000-8000-000000000002"
    );
}

/// The Id that is found is the same by every way of asking.
fn id(raw: &[u8]) -> Option<String> {
    let id = Header::scan(raw).id.text(raw).map(Cow::into_owned);
    let asked = top_level_text(raw, &["Id"]).map(Cow::into_owned);
    assert_eq!(id, asked);
    id
}

#[test]
fn finds_the_id_in_every_shape() {
    for (raw, expected) in [
        (r#"{"Id":"a"}"#, Some("a")),
        (r#" { "Id" : "a" } "#, Some("a")),
        ("{\n\t\"x\": [],\r\n\t\"Id\":\n\"a\"}", Some("a")),
        (r#"{"id":"a"}"#, Some("a")),
        (r#"{"ID":"a","id":"b"}"#, Some("b")),
        (r#"{"Id":"a","id":"b"}"#, Some("a")),
        (r#"{"id":"b","Id":"a"}"#, Some("a")),
        (r#"{"Id":"a","Id":"b"}"#, Some("b")),
        (r#"{"Id":"a","Id":null}"#, None),
        (r#"{"Id":"","x":1}"#, None),
        (r#"{"Id":null}"#, None),
        (r#"{"Id":["a"]}"#, None),
        (r#"{"Id":{"Id":"a"}}"#, None),
        (r#"{"Id":17}"#, Some("17")),
        (r#"{"Id":-1.5e3,"x":1}"#, Some("-1.5e3")),
        (r#"{"Id":true}"#, Some("true")),
        (r#"{"Id":"a\/\"b\u00e9\\"}"#, Some("a/\"bé\\")),
        (r#"{"Id":"\ud83d"}"#, Some("\u{fffd}")),
        (r#"{"a":{"b":"}"},"c":[{"d":"]"}],"Id":"a"}"#, Some("a")),
        (r#"{"a\"":1,"Id":"a"}"#, Some("a")),
        (r#"{"I\u0064":"a"}"#, None),
        (r#"{"Idx":"a","xId":"b"}"#, None),
        // Broken records: what stands before the defect counts.
        (r#"{"Id":"a","x":"#, Some("a")),
        (r#"{"Id":"a" "x":1}"#, Some("a")),
        (r#"{"Id":"a","x":{"#, Some("a")),
        (r#"{"x" 1,"Id":"a"}"#, None),
        (r#"{,"Id":"a"}"#, None),
        (r#"{"Id":"a"#, None),
        (r#"{"Id":17"#, None),
        (r#"{"Id":"a\"#, None),
        (r#"{"Id":"#, None),
        (r#"{"Id":}"#, None),
        (r#"[{"Id":"a"}]"#, None),
        (r#""Id":"a""#, None),
        ("{", None),
        ("", None),
    ] {
        assert_eq!(id(raw.as_bytes()).as_deref(), expected, "{raw}");
    }
    assert_eq!(id(b"{\"Id\":\"a\xFF\"}").as_deref(), Some("a\u{fffd}"));
    assert_eq!(
        id(b"{\"\xFF\":\"\xFE\",\"Id\":\"a\"}").as_deref(),
        Some("a")
    );
}

#[test]
fn reads_the_record_type_as_number_string_and_name() {
    for (value, expected) in [
        ("30", Some(30)),
        ("\"20\"", Some(20)),
        ("\"ExchangeAdmin\"", Some(1)),
        ("\"exchangeadmin\"", Some(1)),
        ("4711", Some(4711)),
        ("\"New Thing\"", None),
        ("null", None),
        ("1.5", None),
    ] {
        let raw = format!(r#"{{"RecordType":{value}}}"#);
        let header = Header::scan(raw.as_bytes());
        assert_eq!(header.record_type, expected.map(RecordType), "{value}");
    }
}

#[test]
fn looks_up_other_fields() {
    let raw = br#"{"ClientIP":null,"clientipaddress":"10.0.0.1","Items":[1, {"a":"]"}],"Name":"a\/b","N":1}"#;
    let names = ["A", "B", "C", "D", "ClientIP", "ClientIPAddress"];
    assert_eq!(top_level_text(raw, &names).as_deref(), Some("10.0.0.1"));
    assert_eq!(top_level_text(raw, &["N", "Name"]).as_deref(), Some("1"));
    assert_eq!(
        top_level_text(raw, &["Items", "Name"]).as_deref(),
        Some("a/b")
    );
    assert_eq!(top_level_text(raw, &[]), None);
    assert_eq!(top_level(raw, "ClientIP"), Some(&b"null"[..]));
    assert_eq!(top_level(raw, "Items"), Some(&br#"[1, {"a":"]"}]"#[..]));
    assert_eq!(top_level(raw, "Name"), Some(&br#""a\/b""#[..]));
    assert_eq!(top_level(raw, "a"), None);
}

/// The members of an object's top level, byte by byte.
fn members_by_bytes(raw: &[u8]) -> Vec<(usize, usize, usize, usize)> {
    let mut members = Vec::new();
    let mut at = skip_spaces(raw, 0);
    let mut wanted = b'{';
    while raw.get(at) == Some(&wanted) {
        let Some(member) = member_by_bytes(raw, at + 1) else {
            break;
        };
        members.push(member);
        at = skip_spaces(raw, member.3);
        wanted = b',';
    }
    members
}

fn member_by_bytes(raw: &[u8], at: usize) -> Option<(usize, usize, usize, usize)> {
    let key = skip_spaces(raw, at);
    let key_end = string_by_bytes(raw, key)?;
    let colon = skip_spaces(raw, key_end);
    let value = skip_spaces(raw, colon + 1);
    let end = match (raw.get(colon)?, raw.get(value)?) {
        (b':', b'"') => string_by_bytes(raw, value)?,
        (b':', b'{' | b'[') => nested_by_bytes(raw, value)?,
        (b':', _) => {
            value
                + raw[value..]
                    .iter()
                    .position(|byte| b",]} \t\r\n".contains(byte))?
        }
        _ => return None,
    };
    (end > value).then_some((key, key_end, value, end))
}

fn string_by_bytes(raw: &[u8], at: usize) -> Option<usize> {
    let mut rest = raw.get(at..)?.iter().enumerate();
    (*rest.next()?.1 == b'"').then_some(())?;
    while let Some((index, byte)) = rest.next() {
        match byte {
            b'"' => return Some(at + index + 1),
            b'\\' => drop(rest.next()),
            _ => {}
        }
    }
    None
}

fn nested_by_bytes(raw: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match raw.get(at)? {
            b'"' => {
                at = string_by_bytes(raw, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

proptest! {
    #[test]
    fn blocks_and_bytes_find_the_same_members(
        members in prop::collection::vec(
            (
                r#" ?"([a\\"]{0,3}|Id)" ?:? ?"#,
                prop_oneof![
                    r#""([a\]}\[{,:]{0,40}|\\["\\]){0,3}"|[0-9"\\{\[]{1,3}"#,
                    r#"[\[{]{1,3}("[a\\,\[]{0,70}",?|[\[\]{}"\\]|[x,]{0,70}){0,4}[\]}]{1,3}"#,
                ],
                r" ?,? ?",
            ),
            0..12,
        ),
    ) {
        let members: String = members
            .iter()
            .flat_map(|(key, value, comma)| [&key[..], value, comma])
            .collect();
        let raw = format!("{{{members}}}");
        let raw = raw.as_bytes();
        let place = |part: &[u8]| part.as_ptr() as usize - raw.as_ptr() as usize;
        let found: Vec<_> = Members::of(raw)
            .map(|(key, value)| (place(key) - 1, place(key) + key.len() + 1, value.start, value.end))
            .collect();
        prop_assert_eq!(found, members_by_bytes(raw));
    }

    #[test]
    fn takes_any_bytes(
        bytes in any::<Vec<u8>>(),
        like in r#"\{("(Id|id|UserId|a)" ?[:,"] ?[\[\]{}",:\\a1]{0,4},?){0,5}\}?"#,
    ) {
        for raw in [&bytes[..], like.as_bytes()] {
            let header = Header::scan(raw);
            std::hint::black_box((
                header.id.text(raw),
                header.user_id.text(&raw[..raw.len() / 2]),
                top_level(raw, "a"),
                top_level_text(raw, &["Id", "a"]),
            ));
        }
    }

    #[test]
    fn finds_what_serde_finds(id in any::<String>(), before in any::<String>(), operation in any::<String>()) {
        let value = serde_json::json!({
            "A": {"Id": before, "x": [before]},
            "B": before,
            "Id": id,
            "Operation": operation,
            "Z": [[before], 1.5],
        });
        let raw = serde_json::to_vec(&value).unwrap();
        let header = Header::scan(&raw);
        prop_assert_eq!(header.id.text(&raw).unwrap_or_default(), id);
        prop_assert_eq!(header.operation.text(&raw).unwrap_or_default(), operation);
        let nested = top_level(&raw, "A").map(serde_json::from_slice::<serde_json::Value>);
        prop_assert_eq!(nested.unwrap().unwrap(), value["A"].clone());
    }
}
