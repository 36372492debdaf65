//! The admin listener of a running engine.

use std::collections::HashSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fakes::{Fate, World};
use super::*;
use crate::config::Config;
use crate::error::Kind;

const MINUTE: Duration = Duration::from_mins(1);

pub(super) fn config(world: &World, sinks: &str) -> Config {
    let mut config = world.config(sinks);
    config.admin.enabled = true;
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    config
}

/// Sends a request and gives the status and the body.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = if headers.contains("Host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let request = format!("{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

async fn get(engine: &Engine, path: &str) -> (u16, String) {
    ask(engine.admin().unwrap(), "GET", path, "").await
}

/// Waits until the program is ready.
async fn ready(engine: &Engine) {
    while get(engine, "/readyz").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_series_is_declared_once_and_none_is_there_twice() {
    let world = World::new();
    world.show("contoso", "u", 4);
    world.on_delivery("a", Fate::Refuse(vec![0]));
    let engine = world.start_with(&config(&world, "a\nb")).await;
    done(&engine, &world).await;
    ready(&engine).await;
    let (status, text) = get(&engine, "/metrics").await;
    assert_eq!(status, 200);
    let (mut helped, mut typed, mut series) = (HashSet::new(), HashSet::new(), HashSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(typed.insert(kind.split_once(' ').unwrap().0), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(series.insert(name), "{line}");
            let family = name.split('{').next().unwrap();
            let declared = ["", "_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| family.strip_suffix(suffix))
                .any(|family| helped.contains(family) && typed.contains(family));
            assert!(declared, "{line}");
            assert!(family.starts_with("audit_exporter_"), "{line}");
        }
    }
    for wanted in [
        r#"audit_exporter_events_received_total{content_type="Audit.General",source="activity",tenant="contoso"} 4"#,
        r#"audit_exporter_events_delivered_total{sink="a",tenant="contoso"} 3"#,
        r#"audit_exporter_events_dead_lettered_total{sink="a",tenant="contoso"} 1"#,
        r#"audit_exporter_sink_skipped_events{sink="b",tenant="contoso"} 0"#,
        r#"audit_exporter_sink_balanced{sink="b",tenant="contoso"} 1"#,
        r#"audit_exporter_sink_pending_events{sink="b",tenant="contoso"} 0"#,
        r#"audit_exporter_units_pending{content_type="Audit.General",source="activity",tenant="contoso"} 0"#,
        r#"audit_exporter_up{component="sink",name="a",tenant=""} 1"#,
    ] {
        assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
    }
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn what_expires_first_is_told_in_seconds_from_now() {
    let world = World::new();
    let began = world.now();
    for unit in ["long", "bad", "longer"] {
        world.show("contoso", unit, 1);
        world.on_each_fetch(unit, Fate::Fail(Kind::Unavailable));
    }
    world.show("fabrikam", "u", 1);
    let engine = world
        .start_with(&config(&world, "restless = true\n[sinks]a"))
        .await;
    until(&engine, |status| {
        let pending: i64 = status.tenants.iter().map(|tenant| tenant.pending).sum();
        status.tenants.len() == 2 && pending == 3
    })
    .await;
    let (_, text) = get(&engine, "/metrics").await;
    // To the millisecond.
    let taken = (world.now() - began).as_seconds_f64() + 0.001;
    let told = |name: &str, tenant: &str| {
        let labels =
            format!(r#"{{content_type="Audit.General",source="activity",tenant="{tenant}"}} "#);
        let series = format!("audit_exporter_{name}{labels}");
        let value = text.lines().find_map(|line| line.strip_prefix(&series))?;
        Some(value.parse::<f64>().unwrap())
    };
    // Shown and listed since it began: so much has passed at most.
    for (name, tenant, hours) in [
        ("units_expiry_seconds", "contoso", 7.0),
        ("listing_expiry_seconds", "contoso", 7.0 * 24.0),
        ("listing_expiry_seconds", "fabrikam", 7.0 * 24.0),
    ] {
        let left = told(name, tenant).unwrap();
        let at_first = hours * 3600.0;
        assert!(
            (at_first - taken..=at_first).contains(&left),
            "{name} {tenant}: {left}"
        );
    }
    assert_eq!(
        told("units_expiry_seconds", "fabrikam"),
        None,
        "nothing waits"
    );
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn readiness_names_what_does_not_work_and_health_is_health() {
    let world = World::new();
    world.show("contoso", "u", 1);
    world.on_delivery("a", Fate::Panic);
    world.on_list(Fate::Hang);
    let engine = world.start_with(&config(&world, "a\nb")).await;
    until(&engine, |status| {
        status.sinks.iter().any(|s| s.delivered == 1) || world.lists() == 2
    })
    .await;
    let hanging = loop {
        let (status, text) = get(&engine, "/readyz").await;
        assert_eq!(status, 503);
        let mut names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_suffix(" does not work; see the log"))
            .collect();
        names.retain(|name| name.starts_with("source"));
        if let [one] = names[..] {
            break one.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(
        hanging == "source activity contoso" || hanging == "source activity fabrikam",
        "{hanging}"
    );
    if hanging.ends_with("fabrikam") {
        is_down(&engine, "sink", "a", "", "bug").await;
        let (_, text) = get(&engine, "/readyz").await;
        assert!(
            text.lines()
                .any(|line| line == "sink a does not work; see the log"),
            "{text}"
        );
    }
    assert_eq!(get(&engine, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&engine, "/nothing").await.0, 404);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_request_by_a_foreign_name_is_refused() {
    let world = World::new();
    let mut config = config(&world, "a");
    config.admin.hosts = vec!["audit.example".to_owned()];
    let engine = world.start_with(&config).await;
    let address = engine.admin().unwrap();
    for (host, status) in [
        ("Audit.Example:9477", 200),
        ("www.audit.example", 421),
        ("127.0.0.1", 200),
        ("127.0.0.1:9477", 200),
        ("localhost:9477", 200),
        ("LOCALHOST", 200),
        ("[::1]:9477", 200),
        ("evil.example", 421),
        ("evil.example:9477", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
        ("", 421),
    ] {
        let answer = ask(address, "GET", "/healthz", &format!("Host: {host}\r\n")).await;
        assert_eq!(answer.0, status, "{host}");
    }
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn only_the_control_token_lets_dead_letters_be_touched() {
    let world = World::new();
    world.show("contoso", "u", 2);
    world.on_delivery("a", Fate::Refuse(vec![0]));
    let config = config(&world, "a");
    let engine = world.start_with(&config).await;
    done(&engine, &world).await;
    let address = engine.admin().unwrap();
    for path in ["/-/dead-letters/replay", "/-/dead-letters/drop"] {
        for token in ["", "Authorization: Bearer guessed\r\n"] {
            let answer = ask(address, "POST", path, token).await;
            assert_eq!(answer.0, 401, "{path}");
        }
    }
    let path = &config.journal.path;
    let dropped = crate::admin::ask_to_drop(path, &[1, 2]).await.unwrap();
    assert_eq!(dropped, [1], "it was still there");
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn only_the_control_token_lets_a_sink_be_forgotten() {
    let world = World::new();
    world.show("contoso", "u", 4);
    let config_of = |sinks| config(&world, sinks);
    let engine = world.start_with(&config_of("a\ngone")).await;
    done(&engine, &world).await;
    engine.shutdown(MINUTE).await.unwrap();
    let only_a = config_of("a");
    let engine = world.start_with(&only_a).await;
    assert_eq!(engine.orphans()[0].sink, "gone".into());
    let (address, token) = admin::find(&only_a.journal.path).unwrap();
    assert_eq!(Some(address), engine.admin());
    let forget = async |sink: &str, header: String| {
        ask(address, "POST", &format!("/-/sinks/{sink}/forget"), &header).await
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let refused = (401, "the control token is missing or wrong\n".to_owned());
    assert_eq!(forget("gone", String::new()).await, refused);
    assert_eq!(forget("gone", bearer("")).await, refused);
    assert_eq!(forget("gone", bearer(&token[1..])).await, refused);
    assert_eq!(
        forget("gone", bearer(&"0".repeat(token.len()))).await,
        refused
    );
    assert_eq!(
        forget("gone", format!("Authorization: Basic {token}\r\n")).await,
        refused
    );
    assert_eq!(forget("a", bearer(&token)).await.0, 422);
    let (_, metrics) = get(&engine, "/metrics").await;
    assert!(metrics.contains(r#"sink="gone""#));
    assert_eq!(
        forget("gone", bearer(&token)).await,
        (200, "sink gone is forgotten\n".to_owned())
    );
    assert_eq!(
        forget("gone", bearer(&token)).await,
        (404, "the journal knows no sink gone\n".to_owned())
    );
    let (_, metrics) = get(&engine, "/metrics").await;
    assert!(!metrics.contains(r#"sink="gone""#), "a series of it stays");
    engine.shutdown(MINUTE).await.unwrap();
    assert!(
        admin::find(&only_a.journal.path).is_none(),
        "nobody listens there any more"
    );
    // The token stays, and is its user's alone.
    let engine = world.start_with(&only_a).await;
    assert_eq!(admin::find(&only_a.journal.path).unwrap().1, token);
    let file = only_a.journal.path.join("control.token");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config(&world, "a");
    config.admin.listen = address;
    let error = world.try_start(&config).await.err().unwrap();
    assert_eq!(error.kind(), crate::Kind::Config);
    assert_eq!(
        error.to_string(),
        format!(
            "admin.listen: {address} cannot be used; is another audit-exporter running? choose another port: \
             Address already in use (os error 98)"
        )
    );
    // And nothing was started that would hold the journal.
    let engine = world.start("a").await;
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_kept_open_does_not_hold_up_the_stop() {
    let world = World::new();
    let engine = world.start_with(&config(&world, "a")).await;
    let mut stream = TcpStream::connect(engine.admin().unwrap()).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    engine.shutdown(MINUTE).await.unwrap();
}

#[test]
fn the_listener_is_on_loopback_unless_told_otherwise() {
    assert!(crate::config::Admin::default().listen.ip().is_loopback());
}
