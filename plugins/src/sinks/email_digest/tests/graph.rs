//! Mails by Microsoft Graph.

use audit_exporter_core::Kind;
use audit_exporter_core::metrics::Metrics;
use audit_exporter_simulator::{Config, Simulator, TenantConfig};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::microsoft::testing::{Peer, Reply};

/// A digest of contoso by Graph, whose mail is due, and the peer that gets it.
async fn due(peer: &Peer) -> (Box<dyn Sink>, Standing) {
    let bench = Bench::with_a_flow().await;
    let mut context = bench.context("2026-11-21T07:00:01Z");
    context.options = Options::from_toml(
        "sinks.digest",
        &format!(
            "{}graph = {{ sender = \"audit/x@example.com\" }}\n",
            bench.options
        ),
    );
    let url = &peer.url;
    let access = format!(
        "client_id = \"app\"\nclient_secret = \"geheim\"\nauthority = \"{url}\"\ngraph_api = \"{url}\"\n"
    );
    let mut tenant = bench.tenants[0].clone();
    tenant.options = Options::from_toml("tenants.contoso", &access);
    context.tenants = Arc::from([tenant]);
    context.meter = Metrics::new().unwrap().meter("contoso", "digest");
    let sink = super::super::build(context).unwrap();
    let standing = bench.complete_to(Some(at("2100-01-01T00:00:00Z")));
    let begun = sink.tick(&standing).await.unwrap();
    bench.store.apply(begun.changes).await.unwrap();
    (sink, standing)
}

#[tokio::test]
async fn the_message_goes_to_the_mailbox_as_mime() {
    let peer = Peer::start(|seen, _| {
        if seen.is_token_request() {
            Reply::token("one", "3600")
        } else {
            Reply::new(202, "")
        }
    })
    .await;
    let (sink, standing) = due(&peer).await;
    let tick = sink.tick(&standing).await.unwrap();
    assert!(!tick.changes.is_empty());
    let seen = peer.seen();
    assert!(
        seen[0]
            .body
            .contains("scope=https%3A%2F%2Fgraph.microsoft.com%2F.default"),
        "{}",
        seen[0].body
    );
    let sent = &seen[1];
    assert_eq!(sent.method, "POST");
    assert_eq!(sent.target, "/v1.0/users/audit%2Fx@example.com/sendMail");
    assert_eq!(sent.bearer(), Some("Bearer one"));
    assert_eq!(sent.headers["content-type"], "text/plain");
    let mime = String::from_utf8(BASE64_STANDARD.decode(&sent.body).unwrap()).unwrap();
    let mail = Taken {
        from: String::new(),
        to: Vec::new(),
        text: mime,
    };
    assert_eq!(
        subject(&mail),
        "New flows: 1 · Friday, 20 November 2026 · contoso"
    );
    assert!(html(&mail).contains("maker1@contoso.example"));
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let peer = Peer::start(
        |seen, before| match (seen.is_token_request(), seen.bearer()) {
            (true, _) => Reply::token(if before == 0 { "old" } else { "new" }, "3600"),
            (false, Some("Bearer new")) => Reply::new(202, ""),
            _ => Reply::error(401, "InvalidAuthenticationToken"),
        },
    )
    .await;
    let (sink, standing) = due(&peer).await;
    sink.tick(&standing).await.unwrap();
    assert_eq!((peer.token_requests(), peer.calls().len()), (2, 2));
}

#[tokio::test]
async fn graphs_refusals_are_told_with_what_to_do() {
    for (status, code, kind, told) in [
        (403, "ErrorAccessDenied", Kind::Auth, "Mail.Send"),
        (
            404,
            "ErrorInvalidUser",
            Kind::Config,
            "sending as audit/x@example.com: there is no such mailbox",
        ),
        (
            413,
            "RequestEntityTooLarge",
            Kind::Config,
            "lower attachment_size or max_rows",
        ),
        (
            400,
            "ErrorInvalidRecipients",
            Kind::Config,
            "does not take the mail",
        ),
        (
            429,
            "ApplicationThrottled",
            Kind::Throttled,
            "asks to slow down",
        ),
        (
            503,
            "ServiceUnavailable",
            Kind::Unavailable,
            "ServiceUnavailable",
        ),
    ] {
        let peer = Peer::start(move |seen, _| {
            if seen.is_token_request() {
                Reply::token("one", "3600")
            } else {
                Reply::error(status, code).with("Retry-After", "17")
            }
        })
        .await;
        let (sink, standing) = due(&peer).await;
        let Trouble::Failed(error) = sink.tick(&standing).await.unwrap().trouble else {
            panic!("{code} is no trouble");
        };
        assert_eq!((error.kind(), error.code()), (kind, Some(code)), "{error}");
        assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(17));
        assert!(error.to_string().contains(told), "{told}: {error}");
    }
}

#[tokio::test]
async fn the_token_goes_nowhere_else() {
    let thief = Peer::start(|_, _| Reply::new(202, "")).await;
    let elsewhere = format!("{}/v1.0/users/x/sendMail", thief.url);
    let peer = Peer::start(move |seen, _| {
        if seen.is_token_request() {
            Reply::token("one", "3600")
        } else {
            Reply::new(307, "").with("Location", elsewhere.clone())
        }
    })
    .await;
    let (sink, standing) = due(&peer).await;
    let tick = sink.tick(&standing).await.unwrap();
    assert!(matches!(tick.trouble, Trouble::Failed(_)));
    assert_eq!(thief.calls(), Vec::<String>::new());
}

/// A tenant of the simulator's that sends by Graph, and what it says about the mails of contoso.
async fn by_simulator(roles: &[&str], mailbox: &str) -> (Simulator, Result<String>, Vec<String>) {
    let simulator = Simulator::start(Config {
        tenants: vec![TenantConfig {
            id: IDS[0].1.to_owned(),
            roles: roles.iter().map(ToString::to_string).collect(),
            mailboxes: vec!["audit@contoso.example".to_owned()],
            ..TenantConfig::default()
        }],
        ..Config::default()
    })
    .await
    .unwrap();
    let bench = Bench::flows().await;
    bench
        .deliver("2026-11-20T12:00:00Z", [flow(0, "2026-11-20T11:00:00", 1)])
        .await;
    let mut context = bench.context("2026-11-21T07:00:01Z");
    let options = format!("{}graph = {{ sender = \"{mailbox}\" }}\n", bench.options);
    context.options = Options::from_toml("sinks.digest", &options);
    let TenantConfig {
        client_id,
        client_secret,
        ..
    } = TenantConfig::default();
    let url = simulator.url();
    let access = format!(
        "client_id = \"{client_id}\"\nclient_secret = \"{client_secret}\"\nauthority = \"{url}\"\ngraph_api = \"{url}\"\n"
    );
    let mut tenant = bench.tenants[0].clone();
    tenant.options = Options::from_toml("tenants.contoso", &access);
    context.tenants = Arc::from([tenant]);
    let sink = super::super::build(context).unwrap();
    let found = sink
        .check()
        .await
        .into_iter()
        .map(|finding| finding.message)
        .collect();
    let sent = sink.command(r#"{"do":"send","period":"2026-11-20"}"#).await;
    (simulator, sent.map(|answer| answer.text), found)
}

#[tokio::test]
async fn a_simulated_graph_takes_the_mail_of_an_app_that_may_send() {
    let (simulator, sent, found) = by_simulator(&["Mail.Send"], "audit@contoso.example").await;
    assert!(
        sent.unwrap()
            .starts_with("contoso: sent to ada@example.com")
    );
    assert!(
        found[0].ends_with("may send as audit@contoso.example"),
        "{found:?}"
    );
    let mails = simulator.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].tenant.as_str(), mails[0].sender.as_str()),
        (IDS[0].1, "audit@contoso.example")
    );
    let mail = Taken {
        from: String::new(),
        to: Vec::new(),
        text: mails[0].mime.clone(),
    };
    assert!(html(&mail).contains("maker1@contoso.example"));
}

#[tokio::test]
async fn a_simulated_graph_refuses_an_app_without_permission_and_a_mailbox_that_is_not_there() {
    let (_simulator, sent, found) =
        by_simulator(&["ActivityFeed.Read"], "audit@contoso.example").await;
    assert!(sent.unwrap_err().to_string().contains("Mail.Send"));
    assert!(found[0].contains("Mail.Send"), "{found:?}");
    let (simulator, sent, _) = by_simulator(&["Mail.Send"], "nobody@contoso.example").await;
    assert!(
        sent.unwrap_err()
            .to_string()
            .contains("sending as nobody@contoso.example: there is no such mailbox")
    );
    assert_eq!(simulator.mails(), []);
}
