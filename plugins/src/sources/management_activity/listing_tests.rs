use chrono::TimeZone;
use proptest::prelude::*;

use super::*;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 9, 12, 0, 0).unwrap()
}

fn read(page: &str) -> Result<Vec<Unit>> {
    units(page.as_bytes(), &"Audit.General".into(), now(), |id| {
        format!("made:{id}")
    })
}

#[test]
fn an_entry_is_a_unit() {
    let page = r#"[{"contentType":"Audit.General","contentId":"1$2$x","contentUri":"https://h/audit/1$2$x",
        "contentCreated":"2026-01-09T11:30:00.748Z","contentExpiration":"2026-01-29T11:30:00.748Z"},
        {"contentId":"old","contentUri":"https://h/audit/old","contentCreated":"2026-01-09T10:59:59"}]"#;
    let units = read(page).unwrap();
    assert_eq!(&*units[0].id, "1$2$x");
    assert_eq!(units[0].locator, "https://h/audit/1$2$x");
    assert_eq!(units[0].lane, LaneKind::Live);
    assert_eq!(units[0].expires - units[0].created, TimeDelta::days(20));
    assert_eq!(units[1].lane, LaneKind::CatchUp);
    assert_eq!(units[1].expires - units[1].created, TimeDelta::days(7));
}

#[test]
fn an_entry_with_gaps_is_still_a_unit() {
    let units = read(
        r#"[{"contentUri":"https://h/audit/a$b?x=y"},{"contentId":"c"},{"other":1},null,{"contentId":7},{"other":1}]"#,
    )
    .unwrap();
    assert_eq!(units.len(), 6);
    assert_eq!(&*units[0].id, "a$b");
    assert_eq!(units[1].locator, "made:c");
    assert!(units[2..].iter().all(|unit| unit.locator == NOWHERE));
    assert!(units[2..].iter().all(|unit| unit.created == now()));
    assert_eq!(units[2].id, units[5].id);
    assert_ne!(units[2].id, units[3].id);
}

#[test]
fn one_bad_field_of_an_entry_does_not_lose_the_content() {
    let uri = "https://h/audit/a$b";
    for bad in [
        r#""contentId":7,"contentCreated":"2026-01-09T11:30:00Z""#,
        r#""contentId":{"a":1},"contentCreated":"2026-01-09T11:30:00Z""#,
        r#""contentId":"a$b","contentCreated":1767958200"#,
        r#""contentId":"a$b","contentExpiration":["2026"]"#,
        r#""contentId":"a$b","contentType":null,"contentExpiration":false"#,
        r#""contentId":"a$b","contentId":"a$b""#,
        r#""contentId":"\ud800""#,
    ] {
        let units = read(&format!(r#"[{{{bad},"contentUri":"{uri}"}}]"#)).unwrap();
        assert_eq!((&*units[0].id, &*units[0].locator), ("a$b", uri), "{bad}");
    }
    let units = read(r#"[{"contentId":"c","contentUri":{"href":"x"}}]"#).unwrap();
    assert_eq!((&*units[0].id, &*units[0].locator), ("c", "made:c"));
}

#[test]
fn a_nameless_entry_keeps_its_name_from_release_to_release() {
    let units = read(r#"[{"other":1}]"#).unwrap();
    assert_eq!(&*units[0].id, "nameless-Audit.General-e5fda91a2d3f5098");
}

#[test]
fn what_is_not_a_list_is_refused() {
    assert!(read("[]").unwrap().is_empty());
    for page in ["", "{}", "<html>", "[{\"contentId\":\"a\"}", "[1] x"] {
        assert!(read(page).is_err(), "{page}");
    }
}

#[test]
fn a_time_at_the_end_of_the_calendar_does_not_stop_the_source() {
    for far in [
        "+262142-12-31T23:00:00",
        "+262142-12-31T23:59:59.999",
        "-262143-01-01T00:00:00",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00",
    ] {
        let page = format!(
            r#"[{{"contentId":"a","contentCreated":"{far}"}},
               {{"contentId":"b","contentCreated":"2026-01-09T11:30:00Z","contentExpiration":"{far}"}}]"#
        );
        let units = read(&page).unwrap();
        assert_eq!(units[0].created, now(), "{far}");
        assert_eq!(units[0].expires, now() + KEPT, "{far}");
        assert_eq!(units[1].expires, units[1].created + KEPT, "{far}");
    }
}

/// A value as it may stand where a text is expected.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[+-]?[0-9]{1,7}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})?"
            .prop_map(|time| format!("\"{time}\"")),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("{\"a\":[1,true]}".to_owned()),
        Just("\"\\ud800\"".to_owned()),
    ]
}

proptest! {
    /// Whatever stands in an entry: it is one unit, with times that can be reckoned with, and the same in each listing.
    #[test]
    fn any_entry_is_a_unit(
        id in any_value(),
        uri in any_value(),
        created in any_value(),
        expiration in any_value(),
        seconds in 0_i64..4_000_000_000,
    ) {
        let page = format!(
            r#"[{{"contentId":{id},"contentUri":{uri},"contentCreated":{created},"contentExpiration":{expiration}}}]"#
        );
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        let read = || units(page.as_bytes(), &"Audit.General".into(), now, |id| format!("made:{id}")).unwrap();
        let (first, again) = (read(), read());
        prop_assert_eq!(first.len(), 1);
        prop_assert_eq!(&first[0].id, &again[0].id);
        prop_assert!(!first[0].id.is_empty());
        for time in [first[0].created, first[0].expires] {
            prop_assert!((time - now).abs() <= PLAUSIBLE + KEPT);
        }
    }
}
