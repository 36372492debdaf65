//! Microsoft tells that there is content, or cannot.
//!
//! Where the webhook shall have done it, the source polls every six hours: that something arrives at all is the proof.

use std::net::{SocketAddr, TcpListener};

use audit_exporter_simulator::{Config, Generated, Records, TenantConfig};
use serde_json::json;

use crate::exporter::{Exporter, Home, wait_until};
use crate::http;
use crate::microsoft::Microsoft;

const SINK: &str = "[sinks.archive]\ntype = \"file\"\npath = \"archive/{content_type}.ndjson\"\n";
const WORD: &str = "a-word-that-only-microsoft-knows";
const RARELY: &str = "6h";
const OFTEN: &str = "1s";

fn microsoft() -> Microsoft {
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records: Records::Generated(Generated {
                events: 300,
                ..Generated::default()
            }),
            ..TenantConfig::default()
        }],
        ..Config::default()
    })
}

/// More events, which appear at once.
fn add_events(microsoft: &Microsoft) {
    let generated = json!({"events": 100, "days": 0.01});
    let wanted = json!({"tenant": microsoft.id(0), "generated": generated});
    microsoft.control("events", &wanted);
}

/// An address of this machine where nobody listens.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The listener's table, and a source that polls so often.
fn source(listen: SocketAddr, public: SocketAddr, poll: &str) -> String {
    format!(
        "[webhooks]\nlisten = \"{listen}\"\npublic_url = \"http://{public}/audit\"\n\
         [sources.activity]\ntype = \"management_activity\"\npoll_interval = \"{poll}\"\nwebhook = true\n\
         webhook_auth_id = \"{WORD}\"\n"
    )
}

/// Posts to the source's address as somebody who gives this word.
fn post(address: SocketAddr, word: &str, body: &str) -> Result<String, String> {
    let head = format!(
        "Webhook-AuthID: {word}\r\nContent-Length: {}\r\n",
        body.len()
    );
    http::request(address, "POST /audit/activity/contoso", &head, body)
}

/// Waits until the first poll is over: from now on nothing comes by itself.
fn await_polled(exporter: &Exporter) {
    wait_until("the first listing", || {
        exporter
            .sum("last_listing_timestamp_seconds", &[])
            .is_some()
    });
}

#[test]
fn content_arrives_when_microsoft_tells_of_it_and_nothing_else_does() {
    let microsoft = microsoft();
    let tenant = microsoft.tenant(0, "contoso", "");
    let hook = free_address();
    let home = Home::new(&format!("{tenant}{}{SINK}", source(hook, hook, RARELY)));
    // All of it: the word is sent with the first starts, and judged at the end.
    let run = || {
        home.run_with(|command| {
            command.env("RUST_LOG", "trace");
        })
    };
    let mut exporter = run();
    exporter.await_drained(microsoft.blobs());
    for _ in 0..2 {
        await_polled(&exporter);
        add_events(&microsoft);
        exporter.await_drained(microsoft.blobs());
        // A restart changes nothing.
        exporter.stop();
        exporter = run();
    }
    await_polled(&exporter);
    let account = || {
        let status = home.status().unwrap();
        (status["tenants"].clone(), status["sinks"].clone())
    };
    // That is said when what was found is registered.
    let listings = || exporter.log().matches("\"message\":\"listed\"").count();
    let (before, polled) = (account(), listings());
    // A stranger, and one who knows the word and lies.
    let lie = json!([{
        "tenantId": microsoft.id(0), "contentType": "Audit.General", "contentId": "made-up",
        "contentUri": format!("{}/api/v1.0/x/activity/feed/audit/made-up", microsoft.url()),
        "contentCreated": "2026-01-01T00:00:00.000Z", "contentExpiration": "2030-01-01T00:00:00.000Z",
    }])
    .to_string();
    for word in ["", "a-word-that-only-microsoft-knew"] {
        let refused = post(hook, word, &lie).unwrap_err();
        assert!(refused.contains("HTTP 404"), "{refused}");
    }
    assert!(polled > 0);
    assert_eq!(post(hook, WORD, &lie), Ok(String::new()));
    wait_until("the lie is looked into", || listings() > polled);
    assert_eq!(
        exporter.sum("webhook_requests_total", &["outcome=\"refused\""]),
        Some(2.0)
    );
    assert_eq!(account(), before, "no unit, no event");
    let log = exporter.stop();
    let telling = log.lines().find(|line| line.contains(WORD));
    assert_eq!(telling, None);
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn polling_brings_everything_while_microsoft_cannot_reach_the_webhook() {
    let microsoft = microsoft();
    let tenant = microsoft.tenant(0, "contoso", "");
    // The proxy is down.
    let source = source(free_address(), free_address(), OFTEN);
    let home = Home::new(&format!("{tenant}{source}{SINK}"));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    add_events(&microsoft);
    exporter.await_drained(microsoft.blobs());
    let log = exporter.log();
    assert!(
        log.contains("AF20021: a webhook could not be validated"),
        "{log}"
    );
    assert_eq!(exporter.sum("up", &["component=\"source\""]), Some(1.0));
    let checked = home.ask(&["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    for told in [
        "/audit/activity/contoso does not answer as Microsoft wants it to",
        "Audit.General: there is no webhook yet",
    ] {
        assert!(checked.stdout.contains(told), "{told}\n{}", checked.stdout);
    }
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn a_webhook_that_microsoft_has_disabled_is_told_and_set_again() {
    let microsoft = microsoft();
    let tenant = microsoft.tenant(0, "contoso", "");
    let hook = free_address();
    let home = Home::new(&format!("{tenant}{}{SINK}", source(hook, hook, OFTEN)));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    assert!(
        home.ask(&["check"])
            .stdout
            .contains("Audit.General: the webhook is enabled until")
    );
    exporter.stop();
    // Nobody takes the notifications now.
    add_events(&microsoft);
    wait_until("Microsoft gives up", || {
        let told = home.ask(&["check"]).stdout;
        told.contains("Audit.General: Microsoft has disabled the webhook")
    });
    let mut exporter = home.run();
    exporter.await_log("Microsoft has disabled the webhook");
    exporter.await_drained(microsoft.blobs());
    // The start that set it was minutes ago.
    microsoft.control("clock", &json!({"advance_seconds": 960}));
    wait_until("it is set again", || {
        let told = home.ask(&["check"]).stdout;
        told.contains("Audit.General: the webhook is enabled until")
    });
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn a_reload_takes_the_webhook_away_with_its_option() {
    let microsoft = microsoft();
    let tenant = microsoft.tenant(0, "contoso", "");
    let hook = free_address();
    let with = source(hook, hook, OFTEN);
    let home = Home::new(&format!("{tenant}{with}{SINK}"));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    home.configure(&format!(
        "{tenant}{}{SINK}",
        with.replace("webhook = true", "")
    ));
    let reloaded = home.ask(&["reload"]);
    assert_eq!(reloaded.stdout, "changed: activity of contoso\n");
    assert!(post(hook, WORD, "[]").unwrap_err().contains("HTTP 404"));
    microsoft.control("clock", &json!({"advance_seconds": 960}));
    exporter.await_log("the webhook is taken away");
    add_events(&microsoft);
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}
