//! Options, and what is said when they are wrong.

use std::sync::Arc;

use audit_exporter_core::plugin::Context;
use audit_exporter_core::{Kind, Result};

use super::super::properties::{Network, Sending, not_made};
use super::super::{build, config};
use crate::testing::{context, tenant};

const PLAIN: &str = "brokers = [\"localhost:9092\"]\ntopic = \"audit\"\n";

fn refused(options: &str) -> String {
    let context = Context {
        tenants: Arc::new([tenant("contoso"), tenant("fabrikam")]),
        ..context("sinks.kafka", options)
    };
    let error = build(context).err().expect(options);
    assert_eq!(error.kind(), Kind::Config, "{options}");
    error.to_string()
}

fn network(options: &str) -> Result<Network> {
    let context = context("sinks.kafka", options);
    let (connection, _) = config::read(&context.options, None)?;
    Ok(Network {
        connection,
        http: context.http,
        clock: context.clock,
    })
}

fn property(options: &str, sending: Sending<'_>, name: &str) -> Result<Option<String>> {
    let config = network(options)?.producer(sending)?;
    Ok(config.get(name).map(str::to_owned))
}

#[test]
fn each_mistake_has_its_message() {
    for (more, said) in [
        ("key = \"id\"", "event_id"),
        ("max_message_size = \"10B\"", "max_message_size"),
        ("position_topic = \"a b\"", "position_topic"),
        ("topik = \"x\"", "did you mean"),
        (
            "[sasl]\nmechanism = \"plain\"\nusername = \"u\"",
            "sasl.password: missing",
        ),
        (
            "[sasl]\nmechanism = \"oauthbearer\"\nusername = \"u\"",
            "sasl.username: only for plain",
        ),
        (
            "[sasl]\nmechanism = \"plain\"\nusername = \"u\"\npassword = \"p\"\nscope = \"s\"",
            "sasl.scope: only for oauthbearer",
        ),
        ("[properties]\nacks = 1", "acks cannot be set here"),
        (
            "[properties]\nqueue.buffering.max.kbytes = 1",
            "memory is bounded",
        ),
        (
            "[properties]\n\"no.such.thing\" = 1",
            "librdkafka refuses no.such.thing",
        ),
        (
            "[properties]\n\"linger.ms\" = \"soon\"",
            "librdkafka refuses linger.ms",
        ),
        (
            "[per_tenant.fabrikam]\nbrokers = [\"other:9092\"]",
            "another sink",
        ),
    ] {
        let message = refused(&format!("{PLAIN}{more}"));
        assert!(message.contains(said), "{more}: {message}");
    }
    for (options, said) in [
        ("topic = \"audit\"", "brokers"),
        ("brokers = []\ntopic = \"audit\"", "at least one HOST:PORT"),
        ("brokers = [\"localhost\"]\ntopic = \"audit\"", "brokers[0]"),
        ("brokers = [\"l:1\"]\ntopic = \"a/b\"", "a topic's name"),
        ("brokers = [\"l:1\"]\ntopic = \"\"", "a topic's name"),
        ("brokers = [\"l:1\"]\ntopic = \"{tennant}\"", "tenant"),
        (
            "brokers = [\"l:1\"]\ntopic = \"{tenant}{tenant_id}{workload}{content_type}\"",
            "up to 249 characters",
        ),
    ] {
        let message = refused(options);
        assert!(message.contains(said), "{options}: {message}");
    }
}

#[test]
fn properties_are_passed_through_with_and_without_quotes() {
    let options = format!("{PLAIN}[properties]\nlinger.ms = 50\n\"client.rack\" = \"r1\"");
    for (name, value) in [("linger.ms", "50"), ("client.rack", "r1"), ("acks", "all")] {
        let found = property(&options, Sending::Together, name).unwrap();
        assert_eq!(found.as_deref(), Some(value), "{name}");
    }
}

#[test]
fn tls_and_sasl_say_the_protocol() {
    let sasl = "[sasl]\nmechanism = \"scram_sha_512\"\nusername = \"u\"\npassword = \"p\"\n";
    for (more, protocol) in [
        ("", "plaintext"),
        ("[tls]\n", "ssl"),
        (sasl, "sasl_plaintext"),
        (&format!("{sasl}[tls]\nca = \"ca.pem\""), "sasl_ssl"),
    ] {
        let options = format!("{PLAIN}{more}");
        let found = property(&options, Sending::Together, "security.protocol").unwrap();
        assert_eq!(found.as_deref(), Some(protocol), "{more}");
    }
    let options = format!("{PLAIN}{sasl}");
    let found = property(&options, Sending::Together, "sasl.mechanism").unwrap();
    assert_eq!(found.as_deref(), Some("SCRAM-SHA-512"));
}

#[test]
fn every_mechanism_is_built_in() {
    for sasl in [
        "mechanism = \"plain\"\nusername = \"u\"\npassword = \"p\"",
        "mechanism = \"scram_sha_256\"\nusername = \"u\"\npassword = \"p\"",
        "mechanism = \"scram_sha_512\"\nusername = \"u\"\npassword = \"p\"",
        "mechanism = \"oauthbearer\"\nclient_id = \"c\"\nclient_secret = \"s\"\ntoken_url = \"https://localhost/t\"",
    ] {
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let options = format!("{PLAIN}compression = \"{compression}\"\n[tls]\n[sasl]\n{sasl}");
            let config = network(&options)
                .unwrap()
                .producer(Sending::Together)
                .unwrap();
            let made: Result<rdkafka::producer::BaseProducer, _> = config.create();
            assert!(made.is_ok(), "{sasl} {compression}: {:?}", made.err());
        }
    }
}

#[test]
fn a_secret_goes_over_no_clear_connection() {
    let options = |url: &str| {
        format!(
            "{PLAIN}[tls]\n[sasl]\nmechanism = \"oauthbearer\"\nclient_id = \"c\"\nclient_secret = \"s\"\ntoken_url = \"{url}\""
        )
    };
    let refused = network(&options("http://login.example.com/t"))
        .err()
        .unwrap();
    assert!(refused.to_string().contains("sasl.token_url"), "{refused}");
    for here in ["http://localhost:8080/t", "http://[::1]/t"] {
        assert!(network(&options(here)).is_ok(), "{here}");
    }
}

#[test]
fn no_secret_is_shown() {
    let options = format!(
        "{PLAIN}[sasl]\nmechanism = \"plain\"\nusername = \"u\"\npassword = \"hunter2\"\n[tls]\nkey = \"hunter2\""
    );
    let network = network(&options).unwrap();
    assert!(!format!("{:?}", network.connection).contains("hunter2"));
    // A key that is none: librdkafka says so when the producer is made.
    let config = network.producer(Sending::Together).unwrap();
    let error = config
        .create::<rdkafka::producer::BaseProducer>()
        .err()
        .unwrap();
    let error = not_made(error);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
