//! Management Activity API reference, "List content", "Pagination", "Blob content", and the
//! checklist.

use std::collections::BTreeSet;

use audit_exporter_simulator::{
    Config, ContentType, ExplicitBlob, Faults, Generated, HeaderCase, LongWindow, PageFaults,
    Records,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{Stage, blobs, code, config, record, tenant};

const CONTENT: &str = "subscriptions/content?contentType=Audit.General";

/// General blobs in the last day.
fn day(count: u64) -> Config {
    let general = Generated {
        events: count,
        events_per_blob: 1,
        days: 0.9,
        content_types: vec![ContentType::General],
        ..Generated::default()
    };
    config(tenant(Records::Generated(general)))
}

fn ids(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|it| it["contentId"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_tile_the_window_in_the_order_of_availability() {
    let stage = Stage::new(Config {
        page_size: 7,
        ..day(50)
    })
    .await;
    let (entries, pages) = stage.list(ContentType::General, "").await;
    assert_eq!((entries.len(), pages), (50, 8));
    assert_eq!(ids(&entries).into_iter().collect::<BTreeSet<_>>().len(), 50);
    let times: Vec<&str> = entries
        .iter()
        .map(|it| it["contentCreated"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted());
}

#[tokio::test]
async fn an_entry_has_the_documented_members() {
    let stage = Stage::new(day(1)).await;
    let entry = stage.list(ContentType::General, "").await.0.remove(0);
    assert_eq!(entry["contentType"], "Audit.General");
    let id = entry["contentId"].as_str().unwrap();
    assert_eq!(id.split('$').count(), 5, "{id}");
    assert!(id.ends_with("$audit_general$Audit_General$na0045"), "{id}");
    let uri = format!(
        "{}/api/v1.0/{}/activity/feed/audit/{id}",
        stage.simulator.url(),
        stage.tenant.id
    );
    assert_eq!(entry["contentUri"], uri);
    let time = |key: &str| {
        let text = entry[key].as_str().unwrap();
        assert_eq!(text.len(), "2017-10-13T18:00:51.748Z".len(), "{text}");
        text.parse::<DateTime<Utc>>().unwrap()
    };
    assert_eq!(
        time("contentExpiration") - time("contentCreated"),
        TimeDelta::days(20)
    );
    assert_eq!(entry.as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn the_next_page_is_named_in_a_header_without_the_publisher() {
    let stage = Stage::new(Config {
        page_size: 5,
        ..day(10)
    })
    .await;
    let path = format!("{CONTENT}&PublisherIdentifier={}", stage.tenant.id);
    let response = stage.get(&path).await;
    let next = response.headers()["nextpageuri"].to_str().unwrap();
    let start = format!(
        "{}/api/v1/{}/activity/feed/subscriptions/content?",
        stage.simulator.url(),
        stage.tenant.id
    );
    assert!(next.starts_with(&start), "{next}");
    assert!(!next.to_lowercase().contains("publisher"), "{next}");
    let query: Vec<(String, String)> = next
        .split_once('?')
        .map(|(_, query)| query.split('&').map(|it| it.split_once('=').unwrap()))
        .unwrap()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let keys: Vec<&str> = query.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["contentType", "startTime", "endTime", "nextPage"]);
    assert_eq!(stage.get_url(next).await.status(), 200);
    assert_eq!(stage.simulator.stats().without_publisher, 1);

    let spoilt = next.replace("nextPage=", "nextPage=AAAA");
    let answer = crate::client::read(stage.get_url(&spoilt).await).await;
    assert_eq!(code(&answer), (400, "AF20031".to_owned()));
}

#[tokio::test]
async fn the_header_is_spelled_as_configured() {
    for (case, expected) in [
        (HeaderCase::Documented, "\r\nNextPageUri: http"),
        (HeaderCase::Title, "\r\nNextpageuri: http"),
        (HeaderCase::Lower, "\r\nnextpageuri: http"),
    ] {
        let stage = Stage::new(Config {
            page_size: 1,
            next_page_header: case,
            ..day(2)
        })
        .await;
        let mut stream = TcpStream::connect(stage.simulator.address()).await.unwrap();
        let request = format!(
            "GET /api/v1.0/{}/activity/feed/{CONTENT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            stage.tenant.id, stage.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn windows_are_half_open() {
    let at: DateTime<Utc> = (Utc::now() - TimeDelta::hours(3))
        .format("%Y-%m-%dT%H:%M:00Z")
        .to_string()
        .parse()
        .unwrap();
    let blob = ExplicitBlob {
        created: Some(at),
        ..ExplicitBlob::new(ContentType::General, [record("a")])
    };
    let stage = Stage::new(blobs(vec![blob])).await;
    let count = async |from: i64, to: i64| {
        let text = |minutes: i64| {
            (at + TimeDelta::minutes(minutes))
                .format("%Y-%m-%dT%H:%M")
                .to_string()
        };
        let window = format!("&startTime={}&endTime={}", text(from), text(to));
        stage.list(ContentType::General, &window).await.0.len()
    };
    assert_eq!(count(0, 60).await, 1);
    assert_eq!(count(-60, 0).await, 0);
    assert_eq!(count(-60, 1).await, 1);
    assert_eq!(count(1, 60).await, 0);
}

#[tokio::test]
async fn bad_windows_get_the_code_that_the_wire_returns() {
    let stage = Stage::new(day(1)).await;
    let now = Utc::now();
    let text = |hours: i64| {
        (now - TimeDelta::hours(hours))
            .format("%Y-%m-%dT%H:%M:%S")
            .to_string()
    };
    for (start, end) in [
        (text(25), text(0)),
        (text(169), text(160)),
        (text(1), text(2)),
    ] {
        let answer = stage
            .json(&format!("{CONTENT}&startTime={start}&endTime={end}"))
            .await;
        assert_eq!(code(&answer), (400, "AF20055".to_owned()), "{start} {end}");
    }
    let one = stage
        .json(&format!("{CONTENT}&startTime={}", text(1)))
        .await;
    assert_eq!(code(&one), (400, "AF20055".to_owned()));
    assert_eq!(
        one.1["error"]["message"],
        "Start time and end time must both be specified (or both omitted) and must be less than or equal to 24 hours apart, with the start time prior to end time and start time no more than 7 days in the past."
    );
}

#[tokio::test]
async fn a_lenient_tenant_answers_long_windows_in_part() {
    let old = ExplicitBlob {
        created: Some(Utc::now() - TimeDelta::hours(40)),
        ..ExplicitBlob::new(ContentType::General, [record("old")])
    };
    let new = ExplicitBlob::new(ContentType::General, [record("new")]);
    let stage = Stage::new(Config {
        over_24_hours: LongWindow::Partial,
        ..blobs(vec![old, new])
    })
    .await;
    let text = |hours: i64| {
        (Utc::now() - TimeDelta::hours(hours))
            .format("%Y-%m-%dT%H:%M:%S")
            .to_string()
    };
    let window = format!("&startTime={}&endTime={}", text(48), text(0));
    assert_eq!(stage.list(ContentType::General, &window).await.0.len(), 1);
}

#[tokio::test]
async fn late_blobs_appear_in_windows_that_were_listed_before() {
    let late = ExplicitBlob {
        created: Some(Utc::now() - TimeDelta::hours(5)),
        visible_at: Some(Utc::now() + TimeDelta::minutes(20)),
        ..ExplicitBlob::new(ContentType::General, [record("late")])
    };
    let stage = Stage::new(blobs(vec![late])).await;
    assert_eq!(stage.list(ContentType::General, "").await.0.len(), 0);
    let id = stage.simulator.ledger().next().unwrap().blob;
    assert_eq!(
        code(&stage.json(&format!("audit/{id}")).await),
        (400, "AF20050".to_owned())
    );
    stage.simulator.control().advance(TimeDelta::minutes(30));
    assert_eq!(stage.list(ContentType::General, "").await.0.len(), 1);
}

#[tokio::test]
async fn live_blobs_keep_appearing() {
    let live = Generated {
        events: 0,
        events_per_blob: 10,
        content_types: vec![ContentType::General],
        live_events_per_second: 1.0,
        live_for_seconds: 3_600,
        ..Generated::default()
    };
    let stage = Stage::new(config(tenant(Records::Generated(live)))).await;
    assert_eq!(stage.list(ContentType::General, "").await.0.len(), 0);
    stage.simulator.control().advance(TimeDelta::seconds(105));
    assert_eq!(stage.list(ContentType::General, "").await.0.len(), 10);
    assert_eq!(stage.simulator.ledger().count(), 3_600);
}

#[tokio::test]
async fn empty_pages_repeated_entries_and_foreign_addresses_come_on_demand() {
    let stage = Stage::new(Config {
        page_size: 10,
        ..day(40)
    })
    .await;
    let control = stage.simulator.control();
    let with = |pages: PageFaults| {
        control.set_faults(Faults {
            pages,
            ..Faults::default()
        });
    };
    with(PageFaults {
        foreign_content_uri: 1.0,
        ..PageFaults::default()
    });
    let foreign = stage.simulator.foreign_url().to_owned();
    let (entries, _) = stage.list(ContentType::General, "").await;
    assert!(
        entries
            .iter()
            .all(|it| it["contentUri"].as_str().unwrap().starts_with(&foreign))
    );
    // Only the first time.
    let (entries, _) = stage.list(ContentType::General, "").await;
    assert!(entries.iter().all(|it| {
        it["contentUri"]
            .as_str()
            .unwrap()
            .starts_with(stage.simulator.url())
    }));

    with(PageFaults {
        empty: 1.0,
        ..PageFaults::default()
    });
    let (entries, pages) = stage.list(ContentType::General, "").await;
    assert_eq!((entries.len(), pages), (40, 8));

    with(PageFaults {
        repeated_entry: 1.0,
        ..PageFaults::default()
    });
    let (entries, pages) = stage.list(ContentType::General, "").await;
    assert_eq!((entries.len(), pages), (80, 4));
}

#[tokio::test]
async fn blobs_are_refused_by_name_age_and_shape() {
    let stage = Stage::new(day(2)).await;
    let control = stage.simulator.control();
    let ids = control.content_ids(&stage.tenant.id, ContentType::General);
    let unknown = ids[0].replacen("20", "19", 1);
    assert!(control.expire_blob(&ids[0]));
    for (id, expected) in [
        (ids[0].as_str(), "AF20051"),
        (&unknown, "AF20050"),
        ("garbage", "AF20052"),
    ] {
        let answer = stage.json(&format!("audit/{id}")).await;
        assert_eq!(code(&answer), (400, expected.to_owned()), "{id}");
    }
    assert_eq!(stage.json(&format!("audit/{}", ids[1])).await.0, 200);
    assert_eq!(control.served(&ids[1]), 1);
    let bare = stage
        .http
        .get(stage.url(&format!("audit/{}", ids[1])))
        .send()
        .await
        .unwrap();
    assert_eq!(bare.status(), 401);
}

#[tokio::test]
async fn answers_have_the_headers_of_the_service() {
    let stage = Stage::new(day(1)).await;
    let response = stage.get("subscriptions/list").await;
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("expires", "-1"),
        ("server", "Microsoft-IIS/8.5"),
        ("x-aspnet-version", "4.0.30319"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let date = |response: &reqwest::Response| {
        let text = response.headers()["date"].to_str().unwrap().to_owned();
        DateTime::parse_from_rfc2822(&text).unwrap().to_utc()
    };
    assert!((date(&response) - Utc::now()).abs() < TimeDelta::seconds(5));
    stage.simulator.control().set_faults(Faults {
        date_skew_seconds: -600,
        ..Faults::default()
    });
    let skewed = date(&stage.get("subscriptions/list").await) - Utc::now();
    assert!(
        (skewed + TimeDelta::seconds(600)).abs() < TimeDelta::seconds(5),
        "{skewed}"
    );
}
