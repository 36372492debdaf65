//! Against the simulator's collector, over HTTP.

mod acknowledgement;
mod contract;
mod refusals;

use std::time::Duration;

use audit_exporter_core::Kind;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::{Delivered, Finding, Severity};
use audit_exporter_simulator::{
    Config, Generated, HecConfig, HecEvent, HecFailure, HecToken, Records, Simulator, TenantConfig,
};

use super::*;
use crate::testing::{TENANT_ID, batch, context, event, origin, tenant};

/// A collector, and no events to collect.
async fn splunk(hec: HecConfig) -> Simulator {
    let none = Records::Generated(Generated {
        events: 0,
        ..Generated::default()
    });
    let config = Config {
        tenants: vec![TenantConfig {
            records: none,
            ..TenantConfig::default()
        }],
        hec,
        ..Config::default()
    };
    Simulator::start(config).await.unwrap()
}

/// A sink with the simulator's own token, and these options.
fn sink(splunk: &Simulator, options: &str) -> Box<dyn Sink> {
    let token = HecToken::default().token;
    let options = format!(
        "urls = [\"{}\"]\ntoken = \"{token}\"\n{options}",
        splunk.url()
    );
    with_options(&options)
}

fn with_options(options: &str) -> Box<dyn Sink> {
    let context = context("sinks.splunk", options);
    let tenants = [tenant("contoso")].into();
    build(Context { tenants, ..context }).unwrap()
}

fn records(count: usize) -> Vec<AuditEvent> {
    let record = |number| {
        event(&format!(
            "{{\"Id\":\"{number}\",\"CreationTime\":\"2026-03-01T10:00:00\"}}"
        ))
    };
    (0..count).map(record).collect()
}

/// The records that were indexed, in order.
fn indexed(splunk: &Simulator) -> Vec<String> {
    let events = splunk.hec_events();
    let mut records: Vec<String> = events.iter().map(|e| e.event.get().to_owned()).collect();
    records.sort_unstable();
    records
}

fn raw(events: &[AuditEvent]) -> Vec<String> {
    let text = |event: &AuditEvent| String::from_utf8(event.raw().to_vec()).unwrap();
    let mut records: Vec<String> = events.iter().map(text).collect();
    records.sort_unstable();
    records
}

#[tokio::test]
async fn a_record_travels_verbatim_with_its_metadata() {
    let splunk = splunk(HecConfig::default()).await;
    let options = "index = \"main\"\nhost = \"{tenant_id}\"\nsource = \"m365:{content_type}\"\n\
        fields = { tenant = \"{tenant}\", \"record type\" = \"{record_type}\", none = \"{operation}\" }";
    let record = "{\n \"Id\": \"1\",  \"CreationTime\":\"2026-03-01T10:00:00.25\", \"RecordType\": 30, \"n\":1.50}";
    let delivered = sink(&splunk, options)
        .deliver(&batch([event(record)]))
        .await;
    assert_eq!(delivered.unwrap(), Delivered::default());
    let events = splunk.hec_events();
    let [found] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(found.event.get(), record);
    let text = |value: &Option<Box<serde_json::value::RawValue>>| {
        value.as_ref().map(|value| value.get().to_owned())
    };
    assert_eq!(text(&found.time).as_deref(), Some("1772359200.250000"));
    assert_eq!(found.host.as_deref(), Some(TENANT_ID));
    assert_eq!(found.source.as_deref(), Some("m365:Audit.General"));
    assert_eq!(
        found.sourcetype.as_deref(),
        Some("o365:management:activity")
    );
    assert_eq!(found.index, "main");
    let fields = r#"{"record type":"30","tenant":"contoso"}"#;
    assert_eq!(text(&found.fields).as_deref(), Some(fields));
}

#[tokio::test]
async fn a_record_that_is_no_object_travels_as_text_and_loses_nothing_behind_it() {
    let splunk = splunk(HecConfig::default()).await;
    let odd = [
        r#"{"a":1},"extra":{"b":2}"#,
        r#"{"a":1}}{"event":{"forged":1}"#,
        "{\"a\":",
        "[1]",
        "null",
        "false",
        "\" \"",
        "7",
        "no JSON",
    ];
    let mut events: Vec<AuditEvent> = odd.iter().map(|record| event(record)).collect();
    events.push(event("  "));
    events.extend(records(1));
    let delivered = sink(&splunk, "")
        .deliver(&batch(events.clone()))
        .await
        .unwrap();
    let reason = "the record is empty, which Splunk does not take";
    let rejected: Vec<_> = delivered
        .rejected
        .iter()
        .map(|r| (r.index, &*r.reason))
        .collect();
    assert_eq!(rejected, [(odd.len(), reason)]);
    let found: Vec<HecEvent> = splunk.hec_events();
    let texts: Vec<String> = found[..odd.len()]
        .iter()
        .map(|event| serde_json::from_str(event.event.get()).unwrap())
        .collect();
    assert_eq!(texts, odd);
    assert_eq!(found.len(), odd.len() + 1);
    assert_eq!(
        found[odd.len()].event.get(),
        raw(&events[odd.len() + 1..])[0]
    );
}

#[tokio::test]
async fn a_time_that_splunk_would_misread_is_left_out() {
    let splunk = splunk(HecConfig::default()).await;
    let times = [
        "2026-03-01T10:00:00",
        "9999-12-31T00:00:00",
        "1601-01-01T00:00:00",
        "soon",
    ];
    let records = times.map(|time| event(&format!("{{\"CreationTime\":\"{time}\"}}")));
    sink(&splunk, "").deliver(&batch(records)).await.unwrap();
    let found = splunk.hec_events().into_iter();
    let found: Vec<_> = found
        .map(|event| event.time.map(|time| time.get().to_owned()))
        .collect();
    assert_eq!(found, [Some("1772359200".to_owned()), None, None, None]);
}

#[tokio::test]
async fn each_tenants_events_go_to_its_own_index_with_its_own_token() {
    let token = |name: &str| HecToken {
        token: format!("token-of-{name}"),
        indexes: vec![format!("{name}_audit")],
        ..HecToken::default()
    };
    let hec = HecConfig {
        tokens: vec![token("contoso"), token("fabrikam")],
        ..HecConfig::default()
    };
    let splunk = splunk(hec).await;
    let options = format!(
        "urls = [\"{}/services/collector/event\"]\ntoken = \"token-of-contoso\"\nindex = \"contoso_audit\"\n\
         [per_tenant.fabrikam]\ntoken = \"token-of-fabrikam\"\nindex = \"fabrikam_audit\"",
        splunk.url()
    );
    let sink = build(Context {
        tenants: [tenant("contoso"), tenant("fabrikam")].into(),
        ..context("sinks.splunk", &options)
    })
    .unwrap();
    for name in ["contoso", "fabrikam"] {
        let event = AuditEvent::new("{\"a\":1}".into(), origin(name, "Audit.General"));
        sink.deliver(&batch([event])).await.unwrap();
    }
    let found: Vec<_> = splunk
        .hec_events()
        .into_iter()
        .map(|e| (e.host.unwrap(), e.index))
        .collect();
    let own = |name: &str| (name.to_owned(), format!("{name}_audit"));
    assert_eq!(found, [own("contoso"), own("fabrikam")]);
}

#[tokio::test]
async fn an_endpoint_that_fails_hands_over_to_the_next_and_keeps_it() {
    let (one, other) = (
        splunk(HecConfig::default()).await,
        splunk(HecConfig::default()).await,
    );
    one.control().script_hec([HecFailure::Busy]);
    let options = format!(
        "urls = [\"{}\", \"{}\"]\ntoken = \"{}\"",
        one.url(),
        other.url(),
        HecToken::default().token
    );
    let sink = build(context("sinks.splunk", &options)).unwrap();
    let events = records(3);
    for event in &events {
        sink.deliver(&batch([event.clone()])).await.unwrap();
    }
    assert_eq!((indexed(&one).len(), indexed(&other)), (0, raw(&events)));
    other.stop().await;
    sink.deliver(&batch(records(1))).await.unwrap();
    assert_eq!(indexed(&one).len(), 1);
}

#[test]
fn options_are_checked() {
    let good = "urls = [\"https://splunk.example.com:8088\"]\ntoken = \"t\"\n";
    assert!(build(context("sinks.s", good)).is_ok());
    for (options, problem) in [
        ("urls = []\ntoken = \"t\"", "sinks.s.urls: expected at least one address, found none".to_owned()),
        ("token = \"t\"", "sinks.s.urls: ".to_owned()),
        (
            "urls = [\"splunk:8088\"]\ntoken = \"t\"",
            "sinks.s.urls[0]: expected an address such as \"https://siem.example.com:8088\", found \"splunk:8088\"".to_owned(),
        ),
        (
            "urls = [\"https://u:geheim@splunk\"]\ntoken = \"t\"",
            "sinks.s.urls[0]: expected an address such as \"https://siem.example.com:8088\", found one with a user or password".to_owned(),
        ),
        (&format!("{good}index = \"\""), "sinks.s.index: expected an index".to_owned()),
        (&format!("{good}host = \"{{tenent}}\""), "sinks.s.host: ".to_owned()),
        (&format!("{good}request_size = \"0B\""), "sinks.s.request_size: expected more than nothing".to_owned()),
        (&format!("{good}parallel_requests = 0"), "sinks.s.parallel_requests: expected more than nothing".to_owned()),
        (&format!("{good}ack_timeout = \"0s\""), "sinks.s.ack_timeout: expected a time span above 0".to_owned()),
        (&format!("{good}sourcetyp = \"x\""), "sinks.s.sourcetyp: unknown key; did you mean \"sourcetype\"?".to_owned()),
    ] {
        let error = build(context("sinks.s", options)).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        let error = error.to_string();
        assert!(error.starts_with(&problem), "{error}");
    }
}
