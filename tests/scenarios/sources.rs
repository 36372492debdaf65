//! The configurations of the sources and of the webhook do what their comments say.

use std::cell::Cell;

use audit_exporter_core::coverage::{Coverage, Question};
use audit_exporter_simulator::{Generated, Records, Simulator, TenantConfig};
use chrono::{TimeDelta, Utc};

use crate::configs::{APP, CONTOSO, assert_same, by_day, by_name, collected, contoso};
use crate::program::{
    SECRET, Setup, blobs, expected, hashes, lines, microsoft, raw_of, tenant, with,
};

/// Asks for each way in which `legacy-search.toml` can be read.
async fn legacy_search(change: impl Fn(Setup) -> Setup) -> (Simulator, Setup) {
    let microsoft = contoso().await;
    let setup = Setup::of("legacy-search.toml")
        .at("contoso", &microsoft)
        .with("TENANTS__CONTOSO__EXCHANGE_API", microsoft.url())
        .variable("M365_CLIENT_SECRET", SECRET)
        .with("SOURCES__SEARCH__REQUESTS_PER_MINUTE", "10000")
        .with("SOURCES__SEARCH__SETTLE", "0s")
        .with("SOURCES__SEARCH__SLICE", "1m");
    let setup = change(setup);
    let once = setup.command(&["run", "--once"]).output().unwrap();
    let said = String::from_utf8(once.stderr).unwrap();
    assert!(once.status.success(), "{said}");
    (microsoft, setup)
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_search_has_the_new_and_the_edited_flows() {
    let (microsoft, setup) = legacy_search(|setup| setup).await;
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Exchange.ManageAsApp"), "{said}");
    let flows = lines(&setup.path("everything/contoso.ndjson"));
    let wanted = expected(&microsoft, |_, _| true);
    assert!(!flows.is_empty() && hashes(&flows).iter().all(|flow| wanted.contains(flow)));
    let is_flow = |name: &str| ["createflow", "editflow"].contains(&name.to_lowercase().as_str());
    assert_eq!(with(&flows, "Operation", is_flow).len(), flows.len());
    assert_same(&raw_of(&by_day(&setup, "data/flows")), &flows);
    // The same by the older service, with an account in place of the app.
    let account = format!("auditor@{}.onmicrosoft.com", &CONTOSO[CONTOSO.len() - 4..]);
    let (_other, older) = legacy_search(|setup| {
        setup
            .with("SOURCES__SEARCH__TRANSPORT", "rest")
            .with("SOURCES__SEARCH__USERNAME", &account)
            .with("SOURCES__SEARCH__PASSWORD", "simulator-password")
    })
    .await;
    let (code, said) = older.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Microsoft has retired"), "{said}");
    let found = lines(&older.path("everything/contoso.ndjson"));
    assert_eq!(found.len(), flows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_audit_brings_each_event_once_though_two_sources_have_it() {
    let records = Records::Generated(Generated {
        events: 2_000,
        // Only an Id says that two sources have the same event.
        oddities: 0.0,
        huge_records: 0.0,
        ..Generated::default()
    });
    let contoso = TenantConfig {
        records,
        ..tenant(CONTOSO, APP)
    };
    let microsoft = microsoft(vec![contoso]).await;
    let setup = Setup::of("graph-audit.toml")
        .at("contoso", &microsoft)
        .with("SOURCES__QUERIES__POLL_INTERVAL", "1s")
        .variable("M365_CLIENT_SECRET", SECRET);
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("audit log queries"), "{said}");
    let blobs = blobs(&microsoft, |_, _| true);
    let all = |setup: &Setup| {
        let queries = microsoft.stats().audit_queries as usize;
        has_searched(setup) && setup.is_settled(blobs + queries)
    };
    setup.run_until(all).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    assert_same(&by_name(&setup, "data/contoso"), &everything);
    let repeats: i64 = coverage(&setup).tenants[0]
        .rows
        .iter()
        .map(|row| row.events.repeats)
        .sum();
    // All but the oldest and the newest came by both.
    assert!(repeats > 1_000, "{repeats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_brings_what_is_new_long_before_the_next_poll() {
    let microsoft = contoso().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    let setup = Setup::of("webhook.toml")
        .at("contoso", &microsoft)
        .with("WEBHOOKS__LISTEN", &listen)
        .with("WEBHOOKS__PUBLIC_URL", &format!("http://{listen}/audit"))
        .variable("M365_CLIENT_SECRET", SECRET)
        .variable("WEBHOOK_AUTH_ID", "a-word-that-only-microsoft-knows");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("/audit/activity/contoso does not answer"),
        "{said}"
    );
    let first = blobs(&microsoft, |_, _| true);
    // Once the first poll is over, the next is a quarter of an hour away.
    let wanted = Cell::new(first);
    let has_all = |setup: &Setup| {
        if !setup.is_settled(wanted.get()) {
            return false;
        }
        if wanted.get() > first {
            return true;
        }
        let more = Generated {
            events: 200,
            days: 0.01,
            ..Generated::default()
        };
        let added = microsoft.control().add_events(CONTOSO, more);
        wanted.set(first + added.unwrap().len());
        false
    };
    setup.run_until(has_all).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    assert_same(&by_name(&setup, "data/contoso"), &everything);
    assert!(microsoft.stats().notifications > 0);
}

fn coverage(setup: &Setup) -> Coverage {
    let question = Question::usual(Utc::now());
    Coverage::read(&setup.path("journal"), &question, str::to_owned).unwrap()
}

/// Whether Graph has been searched up to the last slice that is due.
fn has_searched(setup: &Setup) -> bool {
    let question = Question::usual(Utc::now());
    let Ok(coverage) = Coverage::read(&setup.path("journal"), &question, str::to_owned) else {
        return false;
    };
    let due = (Utc::now() - TimeDelta::minutes(80)).timestamp_millis();
    let mut passes = coverage.tenants.iter().flat_map(|tenant| &tenant.passes);
    passes.any(|pass| {
        pass.source == "queries" && pass.listed_to_ms.get("poll").is_some_and(|to| *to > due)
    })
}
