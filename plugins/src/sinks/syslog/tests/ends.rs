//! How connections end, and what that says about the events.

use std::time::Duration;

use audit_exporter_core::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Reads one connection after the other to its end, and says good-bye in TLS or not.
async fn serve(listener: &TcpListener, acceptor: &TlsAcceptor, ends: &[bool]) -> Vec<String> {
    let mut texts = Vec::new();
    for says_goodbye in ends {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        texts.push(read(&mut stream).await);
        if *says_goodbye {
            stream.shutdown().await.unwrap();
        }
    }
    texts
}

/// A delivery to a server that ends its connections as `ends` say.
async fn delivered(option: &str, ends: &[bool]) -> Result<Delivered> {
    let (acceptor, authority) = tls_server();
    let (listener, address) = listen().await;
    let address = address.replace("127.0.0.1", "localhost");
    let options = format!("ca_file = {:?}\n{option}", authority.path());
    let sink = sink(&address, &options);
    let events = batch([event("{\"Id\":\"1\"}")]);
    let server = async {
        let texts = serve(&listener, &acceptor, ends).await;
        drop(listener);
        texts
    };
    let both = async { tokio::join!(sink.deliver(&events), server) };
    let (answer, texts) = timeout(Duration::from_secs(30), both)
        .await
        .expect("as many connections as ends");
    assert_eq!(messages(&texts[0]).len(), 1);
    assert!(texts[1..].iter().all(String::is_empty), "{texts:?}");
    answer
}

#[tokio::test]
async fn an_end_without_good_bye_counts_only_if_it_is_the_servers_usual_one() {
    for (option, ends) in [
        ("", &[true][..]),
        ("", &[false, false]),
        ("close_notify = \"required\"", &[true]),
        ("close_notify = \"ignored\"", &[false]),
    ] {
        let answer = delivered(option, ends).await;
        assert_eq!(answer.unwrap(), Delivered::default(), "{option} {ends:?}");
    }
    for (option, ends, told) in [
        ("", &[false, true][..], "as one that is killed"),
        // It was killed, and is not back yet.
        ("", &[false], "asked whether it always does"),
        (
            "close_notify = \"required\"",
            &[false],
            "as one that is killed",
        ),
    ] {
        let error = delivered(option, ends).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{option} {ends:?}");
        let text = error.to_string();
        assert!(
            text.contains("without TLS's close_notify") && text.contains(told),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_check_tells_of_a_server_that_never_says_good_bye() {
    let (acceptor, authority) = tls_server();
    let (listener, address) = listen().await;
    let address = address.replace("127.0.0.1", "localhost");
    for (option, ends, severities) in [
        ("", true, &[Severity::Ok][..]),
        ("", false, &[Severity::Ok, Severity::Warning]),
        ("close_notify = \"required\"", false, &[Severity::Problem]),
        ("close_notify = \"ignored\"", false, &[Severity::Ok]),
    ] {
        let options = format!("ca_file = {:?}\n{option}", authority.path());
        let sink = sink(&address, &options);
        let ends = [ends];
        let server = serve(&listener, &acceptor, &ends);
        let (found, _) = tokio::join!(sink.check(), server);
        let found_severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
        assert_eq!(found_severities, severities, "{option}: {found:?}");
    }
}

#[tokio::test]
async fn who_says_something_is_no_syslog_server() {
    async fn answers(listener: &TcpListener, said: &[u8], reads: bool) {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(said).await.unwrap();
        if reads {
            read(stream).await;
        }
    }
    let (listener, address) = listen().await;
    let sink = sink(&address, "tls = false");
    let few = batch([event("{\"Id\":\"1\"}")]);
    let many = batch((0..50_000).map(|number| event(&format!("{{\"Id\":\"{number}\"}}"))));
    let refusal = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n";
    let is_told = |error: &Error, words: &str| {
        assert_eq!(error.kind(), Kind::Config, "{error}");
        let told = format!("{address}: it answers {words}, and a syslog server says nothing");
        assert!(error.to_string().starts_with(&told), "{error}");
    };
    for (events, said, reads, words) in [
        (&few, &refusal[..], true, "\"HTTP/1.1 400 Bad Request\""),
        (&many, refusal, false, "\"HTTP/1.1 400 Bad Request\""),
        (&few, b"\x15\x03\x03\0", true, "bytes that are no text"),
    ] {
        let server = answers(&listener, said, reads);
        let (answer, ()) = tokio::join!(sink.deliver(events), server);
        is_told(&answer.unwrap_err(), words);
    }
    let server = answers(&listener, refusal, true);
    let (found, ()) = tokio::join!(sink.check(), server);
    assert_eq!(found[0].severity, Severity::Problem);
    assert!(
        found[0].message.contains("HTTP/1.1 400 Bad Request"),
        "{found:?}"
    );
}
