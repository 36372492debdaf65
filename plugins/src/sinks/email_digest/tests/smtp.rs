//! What a mail server says, and what becomes of it.

use std::time::Duration;

use audit_exporter_core::Kind;
use tokio::time::timeout;

use super::*;

/// A day with one flow, whose mail meets a server that answers `command` so.
async fn refused(command: &str, answer: &str) -> Error {
    let bench = Bench::flows().await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    bench.server.refuse(command, answer);
    let error = bench.tick("2026-11-21T07:00:01Z").await.unwrap_err();
    assert_eq!(bench.taken(), []);
    error
}

#[tokio::test]
async fn a_servers_answers_are_told_with_its_code_and_what_follows_from_them() {
    for (command, answer, kind, told) in [
        (
            "MAIL",
            "550 5.7.60 not your address",
            Kind::Config,
            "does not take mails from audit@example.com",
        ),
        (
            "RCPT",
            "550 5.1.1 unknown",
            Kind::Config,
            "does not take mails to ada@example.com, so nobody got it",
        ),
        (
            "RCPT",
            "450 4.2.0 greylisted",
            Kind::Unavailable,
            "greylisted",
        ),
        ("MAIL", "530 5.7.0 log in first", Kind::Auth, "log in first"),
        (
            "MAIL",
            "432 4.3.2 too many concurrent connections",
            Kind::Throttled,
            "concurrent",
        ),
        (
            ".",
            "552 5.3.4 too large",
            Kind::Config,
            "does not take the mail",
        ),
        (".", "451 4.3.0 later", Kind::Unavailable, "later"),
        (
            "DATA",
            "554 5.7.1 no",
            Kind::Config,
            "does not take the mail",
        ),
    ] {
        let error = refused(command, answer).await;
        assert_eq!(error.kind(), kind, "{command} {answer}: {error}");
        assert_eq!(error.code(), answer.get(..3), "{error}");
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(error.to_string().contains("contoso"), "{error}");
    }
}

#[tokio::test]
async fn a_login_is_told_from_an_address() {
    for (authentication, mechanism) in [
        ("password", "AUTH PLAIN "),
        ("login", "AUTH LOGIN"),
        ("xoauth2", "AUTH XOAUTH2 "),
    ] {
        let bench = Bench::flows().await;
        let port = bench.server.port;
        let mut context = bench.context("2026-11-21T07:00:01Z");
        let smtp = format!(
            "smtp = {{ host = \"localhost\", port = {port}, tls = \"none\", user = \"u\", password = \"geheim\", authentication = \"{authentication}\" }}"
        );
        context.options = Options::from_toml("sinks.digest", &format!("{}{smtp}\n", bench.options));
        let sink = super::super::build(context).unwrap();
        let found = sink.check().await;
        assert_eq!(found.len(), 1);
        assert!(found[0].message.ends_with("takes mails as u"), "{found:?}");
        assert!(
            bench
                .server
                .commands()
                .iter()
                .any(|line| line.starts_with(mechanism))
        );
        bench.server.refuse("AUTH", "535 5.7.8 wrong");
        let found = sink.check().await;
        let message = &found[0].message;
        assert!(
            message.contains("does not accept the login: 535"),
            "{message}"
        );
        assert!(!message.contains("geheim"), "{message}");
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let bench = Bench::flows().await;
    let mut context = bench.context("2026-11-21T07:00:01Z");
    let smtp = format!(
        "smtp = {{ host = \"127.0.0.1\", port = {}, user = \"u\", password = \"geheim\" }}",
        bench.server.port
    );
    context.options = Options::from_toml("sinks.digest", &format!("{}{smtp}\n", bench.options));
    let found = super::super::build(context).unwrap().check().await;
    assert!(
        found[0].message.contains("does not offer STARTTLS"),
        "{found:?}"
    );
    let said = bench.server.commands();
    assert!(
        !said
            .iter()
            .any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let bench = Bench::flows().await;
    bench.tick("2026-11-20T00:10:00Z").await.unwrap();
    let mut context = bench.context("2026-11-21T07:00:01Z");
    let options = format!(
        "{}smtp = {{ host = \"127.0.0.1\", port = 1, tls = \"none\" }}\n",
        bench.options
    );
    context.options = Options::from_toml("sinks.digest", &options);
    let sink = super::super::build(context).unwrap();
    let standing = bench.complete_to(Some(at("2100-01-01T00:00:00Z")));
    let begun = sink.tick(&standing).await.unwrap();
    bench.store.apply(begun.changes).await.unwrap();
    let error = bench.tick_of(&*sink, &standing).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        error
            .to_string()
            .contains("mail server 127.0.0.1:1: cannot be reached"),
        "{error}"
    );
}

#[tokio::test]
async fn a_mail_that_was_taken_is_sent_whatever_becomes_of_the_good_bye() {
    let bench = Bench::with_a_flow().await;
    bench.server.refuse("QUIT", "");
    let sent = bench.tick("2026-11-21T07:00:01Z");
    let sent = timeout(Duration::from_secs(30), sent).await;
    sent.expect("a good-bye has its own time").unwrap();
    assert_eq!(bench.taken().len(), 1);
}

#[tokio::test]
async fn a_late_answer_is_heard_although_nobody_waited_so_long() {
    let bench = Bench::with_a_flow().await;
    let standing = bench.complete_to(Some(at("2100-01-01T00:00:00Z")));
    let sink = bench.sink("2026-11-21T07:00:01Z");
    let begun = sink.tick(&standing).await.unwrap();
    bench.store.apply(begun.changes).await.unwrap();
    bench.server.scan_for(Duration::from_secs(2));
    let patience = Duration::from_millis(500);
    assert!(timeout(patience, sink.tick(&standing)).await.is_err());
    let sent = sink.tick(&standing).await.unwrap();
    assert!(!sent.changes.is_empty());
    assert_eq!(bench.taken().len(), 1, "it was not handed over twice");
}
