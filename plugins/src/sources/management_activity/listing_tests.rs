use chrono::TimeZone;

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
fn what_is_not_a_list_is_refused() {
    assert!(read("[]").unwrap().is_empty());
    for page in ["", "{}", "<html>", "[{\"contentId\":\"a\"}", "[1] x"] {
        assert!(read(page).is_err(), "{page}");
    }
}
