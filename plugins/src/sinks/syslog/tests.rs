mod contract;
mod ends;

use audit_exporter_core::Kind;
use audit_exporter_core::plugin::Severity;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::testing::{batch, context, event, tenant, tls_server};

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn sink(address: &str, options: &str) -> Box<dyn Sink> {
    let options = format!("address = \"{address}\"\n{options}");
    let context = context("sinks.syslog", &options);
    let tenants = [tenant("contoso")].into();
    build(Context { tenants, ..context }).unwrap()
}

/// Everything that comes on one connection, until its end.
async fn read(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Takes messages apart by their lengths.
fn messages(mut text: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = text.split_once(' ') {
        let (message, behind) = rest.split_at(length.parse().unwrap());
        messages.push(message);
        text = behind;
    }
    assert_eq!(text, "");
    messages
}

#[tokio::test]
async fn a_delivery_is_ok_after_the_server_has_read_all_of_it() {
    let (listener, address) = listen().await;
    let sink = sink(&address, "tls = false");
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
    let events = batch([
        event("{\"Id\":\n\"1\"}"),
        event(&huge),
        event("{\"Id\":\"2\"}"),
    ]);
    let server = async { read(listener.accept().await.unwrap().0).await };
    let (delivered, text) = tokio::join!(sink.deliver(&events), server);
    let rejected: Vec<_> = delivered
        .unwrap()
        .rejected
        .iter()
        .map(|r| r.index)
        .collect();
    assert_eq!(rejected, [1], "a server would cut it");
    let messages = messages(&text);
    assert_eq!(messages.len(), 2);
    assert!(messages[0].ends_with("] {\"Id\": \"1\"}"), "{text}");
    assert!(
        messages[1].starts_with("<110>1 - contoso audit-exporter - - [audit@32473 "),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_closes_or_resets_early_has_got_nothing() {
    let (listener, address) = listen().await;
    let sink = sink(&address, "tls = false");
    let events = batch((0..20_000).map(|number| event(&format!("{{\"Id\":\"{number}\"}}"))));
    let early: [fn(TcpStream); 2] = [drop, |stream| {
        stream.set_zero_linger().unwrap();
    }];
    for leave in early {
        let server = async { leave(listener.accept().await.unwrap().0) };
        let (answer, ()) = tokio::join!(sink.deliver(&events), server);
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().starts_with(&address), "{error}");
    }
    let server = async { read(listener.accept().await.unwrap().0).await };
    let (delivered, text) = tokio::join!(sink.deliver(&events), server);
    assert_eq!(delivered.unwrap(), Delivered::default());
    assert_eq!(messages(&text).len(), 20_000);
}

#[tokio::test]
async fn a_check_connects_and_sends_nothing() {
    let (listener, address) = listen().await;
    let sink = sink(&address, "tls = false");
    let server = async { read(listener.accept().await.unwrap().0).await };
    let (found, text) = tokio::join!(sink.check(), server);
    assert_eq!(
        (&*text, found.len(), found[0].severity),
        ("", 1, Severity::Ok)
    );
    drop(listener);
    let found = sink.check().await;
    assert_eq!(found[0].severity, Severity::Problem);
    assert!(found[0].message.contains("cannot be reached"), "{found:?}");
}

#[tokio::test]
async fn over_tls_the_server_must_be_who_the_address_names() {
    let (acceptor, authority) = tls_server();
    let (listener, address) = listen().await;
    let port = address.rsplit_once(':').unwrap().1;
    let trusts = format!("ca_file = {:?}", authority.path());
    let events = batch([event("{\"Id\":\"1\"}")]);
    for (host, options, problem) in [
        ("localhost", &*trusts, None),
        ("127.0.0.1", &*trusts, Some("is for another name")),
        ("localhost", "", Some("ca_file may name a file")),
    ] {
        let sink = sink(&format!("{host}:{port}"), options);
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            match acceptor.accept(stream).await {
                Ok(mut stream) => {
                    let text = read(&mut stream).await;
                    stream.shutdown().await.unwrap();
                    text
                }
                Err(_) => String::new(),
            }
        };
        let (answer, text) = tokio::join!(sink.deliver(&events), server);
        assert_eq!(text.is_empty(), problem.is_some(), "{host}");
        match (answer, problem) {
            (Ok(_), None) => {}
            (Err(error), Some(problem)) if error.to_string().contains(problem) => {}
            (answer, problem) => panic!("{answer:?}, and expected was {problem:?}"),
        }
    }
}

#[test]
fn options_are_checked() {
    for (options, problem) in [
        ("", "sinks.syslog.address: "),
        (
            "address = \"syslog\"",
            "sinks.syslog.address: expected a host and port such as",
        ),
        (
            "address = \"syslog:0x1\"",
            "sinks.syslog.address: expected a host and port such as",
        ),
        (
            "address = \"s:1\"\nfacility = \"local8\"",
            "sinks.syslog.facility: expected a facility, found \"local8\"",
        ),
        (
            "address = \"s:1\"\ndata_id = \"a b\"",
            "sinks.syslog.data_id: expected a name and a number",
        ),
        (
            "address = \"s:1\"\ntls = false\nca_file = \"x\"",
            "sinks.syslog.ca_file: has no effect without TLS",
        ),
        (
            "address = \"s:1\"\ntls = false\nclose_notify = \"ignored\"",
            "sinks.syslog.close_notify: has no effect without TLS",
        ),
        (
            "address = \"s:1\"\nca_file = \"/nowhere\"",
            "sinks.syslog.ca_file: /nowhere cannot be used: ",
        ),
    ] {
        let error = build(context("sinks.syslog", options)).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().starts_with(problem), "{error}");
    }
}
