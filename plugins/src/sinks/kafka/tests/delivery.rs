//! What is delivered, what is refused, and what an outage leaves.

use audit_exporter_core::Kind;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::{Delivered, Severity};
use bytes::Bytes;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{Bench, PARTITIONS, deliver, events, values_of};
use crate::testing::{TENANT_ID, event, origin};

const FLOW: &str = r#"{"Id":"8c2e5a7d","Operation":"CreateFlow","RecordType":30,"UserId":"lee@contoso.com","Workload":"MicrosoftFlow","CreationTime":"2026-03-01T07:59:59"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_the_event_its_key_and_its_headers() {
    for (option, key) in [
        ("event_id", Some("8c2e5a7d")),
        ("tenant", Some(TENANT_ID)),
        ("user", Some("lee@contoso.com")),
        ("none", None),
    ] {
        let bench = Bench::new(&["audit"]);
        let sink = bench.sink(&format!("topic = \"audit\"\nkey = \"{option}\""));
        let delivered = deliver(&*sink, &[event(FLOW)]).await.unwrap();
        assert_eq!(delivered, Delivered::default());
        let found = bench.read("audit");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].key.as_deref(), key);
        assert_eq!(found[0].value, FLOW);
        let headers: Vec<(&str, &str)> = found[0]
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            headers,
            [
                ("operation", "CreateFlow"),
                ("record_type", "30"),
                ("schema", "raw"),
                ("tenant", "contoso"),
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_record_lacks_has_no_key_and_no_header() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink("topic = \"audit\"\nformat = \"normalized\"");
    deliver(&*sink, &[event("no JSON at all")]).await.unwrap();
    let found = bench.read("audit");
    assert_eq!(found[0].key, None);
    let names: Vec<&String> = found[0].headers.keys().collect();
    assert_eq!(names, ["schema", "tenant"]);
    assert_eq!(found[0].headers["schema"], "normalized");
    let value: serde_json::Value = serde_json::from_str(&found[0].value).unwrap();
    assert_eq!(value["raw_text"], "no JSON at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_content_types_have_topics_of_their_own() {
    let bench = Bench::new(&[
        "m365.contoso.Audit.General",
        "m365.contoso.DLP.All",
        "theirs",
    ]);
    let sink = bench.sink(
        "topic = \"m365.{tenant}.{content_type}\"\n[per_tenant.fabrikam]\ntopic = \"theirs\"",
    );
    let of = |tenant, content_type, record: &'static str| {
        AuditEvent::new(
            Bytes::from_static(record.as_bytes()),
            origin(tenant, content_type),
        )
    };
    let events = [
        of("contoso", "Audit.General", r#"{"Id":"1"}"#),
        of("fabrikam", "Audit.General", r#"{"Id":"2"}"#),
        of("contoso", "DLP.All", r#"{"Id":"3"}"#),
    ];
    deliver(&*sink, &events).await.unwrap();
    assert_eq!(
        bench.values("m365.contoso.Audit.General"),
        [r#"{"Id":"1"}"#]
    );
    assert_eq!(bench.values("theirs"), [r#"{"Id":"2"}"#]);
    assert_eq!(bench.values("m365.contoso.DLP.All"), [r#"{"Id":"3"}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_in_one_partition_and_all_partitions_are_used() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink("topic = \"audit\"");
    let events = events(0, 300);
    deliver(&*sink, &events).await.unwrap();
    deliver(&*sink, &events).await.unwrap();
    let found = bench.read("audit");
    assert_eq!(found.len(), 600);
    for partition in 0..PARTITIONS {
        let mut keys: Vec<_> = found
            .iter()
            .filter(|record| record.partition == partition)
            .map(|record| record.key.clone())
            .collect();
        keys.sort();
        assert!(!keys.is_empty() && keys.chunks(2).all(|pair| pair[0] == pair[1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_is_rejected_and_the_others_are_delivered() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink("topic = \"audit\"\nmax_message_size = \"10kB\"");
    let mut events = events(0, 5);
    events[2] = event(&format!(r#"{{"Id":"{}"}}"#, "x".repeat(10_000)));
    let delivered = deliver(&*sink, &events).await.unwrap();
    assert_eq!(delivered.rejected.len(), 1, "{delivered:?}");
    assert_eq!(delivered.rejected[0].index, 2);
    let reason = &delivered.rejected[0].reason;
    assert!(
        reason.contains("MessageSizeTooLarge") && reason.contains("max_message_size"),
        "{reason}"
    );
    events.remove(2);
    assert_eq!(bench.values("audit"), values_of(&events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_brokers_refuse_is_sent_again_record_by_record() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink("topic = \"audit\"\nkey = \"tenant\"");
    let all = events(0, 4);
    // One partition gets all: the first refusal meets the batch, the second its first record alone.
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    bench
        .cluster
        .request_errors(RDKafkaApiKey::Produce, &[refusal, refusal]);
    let delivered = deliver(&*sink, &all).await.unwrap();
    assert_eq!(delivered.rejected.len(), 1, "{delivered:?}");
    let refused = &delivered.rejected[0];
    assert!(
        refused.reason.contains("InvalidRecord"),
        "{}",
        refused.reason
    );
    let mut others = all.clone();
    others.remove(refused.index);
    assert_eq!(bench.values("audit"), values_of(&others));
    // The producer goes on.
    deliver(&*sink, &events(4, 4)).await.unwrap();
    others.extend(events(4, 4));
    assert_eq!(bench.values("audit"), values_of(&others));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_is_not_noticed() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink("topic = \"audit\"");
    bench.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    );
    let all = events(0, 20);
    assert_eq!(deliver(&*sink, &all).await.unwrap(), Delivered::default());
    assert_eq!(bench.values("audit"), values_of(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_is_told_what_is_missing() {
    for (answer, kind, said) in [
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Kind::Auth,
            "grant this user Write",
        ),
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
            Kind::Auth,
            "IdempotentWrite",
        ),
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE,
            Kind::Config,
            "too old",
        ),
    ] {
        let bench = Bench::new(&["audit"]);
        let sink = bench.sink("topic = \"audit\"");
        bench
            .cluster
            .request_errors(RDKafkaApiKey::Produce, &[answer]);
        let all = events(0, 3);
        let error = deliver(&*sink, &all).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        // With the permission granted, the same batch goes through: by a new producer, and nothing is left of the old.
        bench.cluster.clear_request_errors(RDKafkaApiKey::Produce);
        deliver(&*sink, &all).await.unwrap();
        assert!(
            values_of(&all)
                .iter()
                .all(|value| bench.values("audit").contains(value))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_broken_off_leaves_nothing_behind() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink("topic = \"audit\"");
    deliver(&*sink, &events(0, 1)).await.unwrap();
    bench.cluster.broker_down(-1).unwrap();
    let (dropped, kept) = (events(1, 50), events(51, 50));
    let broken_off = deliver(&*sink, &dropped);
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(500), broken_off)
            .await
            .is_err()
    );
    bench.cluster.broker_up(-1).unwrap();
    deliver(&*sink, &kept).await.unwrap();
    let mut all = events(0, 1);
    all.extend(kept);
    assert_eq!(bench.values("audit"), values_of(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_queue_holds_waits_for_room() {
    let bench = Bench::new(&["audit"]);
    // The cluster keeps the last five mebibytes of a partition alone, so records are counted by their reports.
    let sink = bench.sink("topic = \"audit\"");
    let large = |n: usize| event(&format!(r#"{{"Id":"{n}","x":"{}"}}"#, "y".repeat(900_000)));
    let all: Vec<AuditEvent> = (0..40).map(large).collect();
    assert_eq!(deliver(&*sink, &all).await.unwrap(), Delivered::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_of_brokers_and_topics() {
    let bench = Bench::new(&["audit"]);
    let found = bench.sink("topic = \"audit\"").check().await;
    assert!(
        found[0].message.contains("1 broker in the cluster"),
        "{found:?}"
    );
    assert_eq!(found[1].message, "topic audit has 3 partitions");
    assert!(
        found[2].message.contains("only the header `tenant`"),
        "{found:?}"
    );
    let found = bench.sink("topic = \"{tenant}.x\"").check().await;
    assert_eq!(found.len(), 1, "{found:?}");
    let options = "topic = \"{tenant}.x\"\ntransactional = true";
    let found = bench.sink(options).check().await;
    assert_eq!(
        found[1].message,
        "topic audit-exporter-positions for positions is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_why_no_broker_answers() {
    let bench = Bench::new(&[]);
    let gone = MockCluster::new(1).unwrap();
    let address = gone.bootstrap_servers();
    drop(gone);
    let mut context = bench.context("topic = \"audit\"");
    context.options = audit_exporter_core::config::Options::from_toml(
        "sinks.kafka",
        &format!("brokers = [{address:?}]\ntopic = \"audit\""),
    );
    let found = super::build(context).unwrap().check().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].severity, Severity::Problem);
    assert!(found[0].message.starts_with(&address), "{found:?}");
    assert!(found[0].message.contains("Connection refused"), "{found:?}");
}
