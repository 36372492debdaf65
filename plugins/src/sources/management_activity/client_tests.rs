use audit_exporter_core::clock::Clock;
use chrono::TimeZone;

use super::*;
use crate::microsoft::testing::{self, Peer, Reply, TENANT};

fn client(url: &str, more: &str) -> Client {
    let tenant = testing::tenant(url, more);
    let access = Access::of(&tenant).unwrap();
    Client::new(&testing::context(tenant, "", Clock::system()), access)
}

#[test]
fn operations_have_their_parameters_and_the_publisher() {
    let client = client("https://manage.office.com", "");
    let from = Utc.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
    let window = Window {
        from,
        to: from + chrono::TimeDelta::hours(23),
    };
    assert_eq!(
        client.listing("Audit.General", window).as_str(),
        format!(
            "https://manage.office.com/api/v1.0/{TENANT}/activity/feed/subscriptions/content?contentType=Audit.General\
             &startTime=2026-01-02T03%3A04%3A05&endTime=2026-01-03T02%3A04%3A05&PublisherIdentifier={TENANT}"
        )
    );
}

#[test]
fn an_address_is_taken_as_it_stands_and_gets_the_publisher() {
    let own = "11111111-2222-3333-4444-555555555555";
    let client = client(
        "https://manage.office.com",
        &format!("publisher_identifier = \"{own}\""),
    );
    let blob = "https://manage.office.com/api/v1.0/t/activity/feed/audit/2017$2017$audit_sharepoint$Audit_SharePoint";
    let cases = [
        (blob.to_owned(), format!("{blob}?PublisherIdentifier={own}")),
        (format!("{blob}?"), format!("{blob}?PublisherIdentifier={own}")),
        (
            "https://manage.office.com/api/v1/t/x?a=b%2Fc&startTime=2026-01-01T00:00:00&nextPage=$1+2%20==".to_owned(),
            format!("https://manage.office.com/api/v1/t/x?a=b%2Fc&startTime=2026-01-01T00:00:00&nextPage=$1+2%20==&PublisherIdentifier={own}"),
        ),
        (format!("{blob}#f"), format!("{blob}?PublisherIdentifier={own}")),
        (format!("{blob}?publisherIdentifier=x"), format!("{blob}?publisherIdentifier=x")),
        (format!(" {blob} "), format!("{blob}?PublisherIdentifier={own}")),
    ];
    for (given, expected) in cases {
        assert_eq!(client.handed_out(&given).unwrap().as_str(), expected);
    }
}

#[test]
fn an_address_elsewhere_is_refused() {
    let client = client("https://manage.office.com", "");
    for foreign in [
        "https://manage.office.com.evil.example/x",
        "http://manage.office.com/x",
        "/audit/x",
        "",
        "https://manage-gcc.office.com/x",
    ] {
        assert!(client.handed_out(foreign).is_err(), "{foreign}");
    }
}

#[tokio::test]
async fn the_next_page_is_read_in_any_spelling_of_the_header() {
    for header in ["NextPageUri", "Nextpageuri", "nextpageuri"] {
        let peer = Peer::start(move |seen, _| {
            if seen.is_token_request() {
                return Reply::token("t", "3600");
            }
            let host = seen.headers["host"].to_str().unwrap();
            Reply::ok("[]").with(
                Box::leak(header.to_owned().into_boxed_str()),
                format!("http://{host}/api/v1/{TENANT}/next?nextPage=$a"),
            )
        })
        .await;
        let client = client(&peer.url, "");
        let first = Url::parse(&format!("{}/first", peer.url)).unwrap();
        let page = client.page(first).await.unwrap();
        assert_eq!(
            page.next.unwrap().query().unwrap(),
            format!("nextPage=$a&PublisherIdentifier={TENANT}")
        );
    }
}

#[tokio::test]
async fn an_empty_address_of_the_next_page_does_not_fail_the_listing() {
    for next in ["", " "] {
        let peer = Peer::start(move |seen, _| {
            if seen.is_token_request() {
                Reply::token("t", "3600")
            } else {
                Reply::ok("[]").with("nextpageuri", next)
            }
        })
        .await;
        let first = Url::parse(&format!("{}/first", peer.url)).unwrap();
        let page = client(&peer.url, "").page(first).await.unwrap();
        assert_eq!(page.next, None);
    }
}

#[tokio::test]
async fn a_listing_that_leads_away_or_to_itself_is_refused() {
    for next in ["https://evil.example/next", "not a URL", "SELF"] {
        let peer = Peer::start(move |seen, _| {
            if seen.is_token_request() {
                return Reply::token("t", "3600");
            }
            let host = seen.headers["host"].to_str().unwrap();
            let next = next.replace("SELF", &format!("http://{host}{}", seen.target));
            Reply::ok("[]").with("nextpageuri", next)
        })
        .await;
        let client = client(&peer.url, "");
        let first = Url::parse(&format!("{}/first?PublisherIdentifier=x", peer.url)).unwrap();
        assert!(client.page(first).await.is_err(), "{next}");
    }
}

#[test]
fn a_subscription_without_a_status_is_enabled() {
    let list = r#"[{"contentType":"audit.sharepoint","webhook":null},{"contentType":"DLP.All","status":"disabled"},{"contentType":"Other"}]"#;
    let list: Vec<Subscription> = serde_json::from_str(list).unwrap();
    let read: Vec<_> = list
        .iter()
        .map(|found| (found.content_type(), found.is_enabled()))
        .collect();
    assert_eq!(
        read,
        [
            (Some("Audit.SharePoint"), true),
            (Some("DLP.All"), false),
            (None, true)
        ]
    );
}
