//! Transactions, as far as librdkafka's cluster has them: it commits nothing and hides nothing, but it knows who may
//! write. What consumers see is tested against the real brokers (tests/live/kafka).

use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::plugin::{Batch, Context, Sink};
use audit_exporter_core::{Error, Kind};
use chrono::Utc;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::super::build;
use super::{Bench, POSITIONS, batch_at, events, values_of};
use crate::testing::{batch, event};

const OPTIONS: &str = "topic = \"audit\"\ntransactional = true\nmax_message_size = \"10kB\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_known_after_a_restart() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(OPTIONS);
    assert_eq!(sink.recover(None).await.unwrap(), []);
    let batches = [(1, 10), (2, 20), (1, 11)]
        .map(|(lane, last)| batch_at(&bench.store, lane, last, events(last as usize, 1)));
    for batch in &batches {
        sink.deliver(batch).await.unwrap();
    }
    drop(sink);
    let sink = bench.sink(OPTIONS);
    let mut found = sink.recover(None).await.unwrap();
    found.sort_by_key(|position| position.lane);
    let wanted = [&batches[2], &batches[1]].map(|batch| batch.position.clone().unwrap());
    assert_eq!(found, wanted);
    assert_eq!(bench.read("audit").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_sees_no_position_but_its_own() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(OPTIONS);
    sink.deliver(&batch_at(&bench.store, 1, 5, events(0, 1)))
        .await
        .unwrap();
    let other = Context {
        name: "kafka2".into(),
        ..bench.context(OPTIONS)
    };
    assert_eq!(build(other).unwrap().recover(None).await.unwrap(), []);
    let replay = Context {
        replay: Some("monday".into()),
        ..bench.context(OPTIONS)
    };
    assert_eq!(build(replay).unwrap().recover(None).await.unwrap(), []);
    // Neither of them has taken over from the first.
    sink.deliver(&batch_at(&bench.store, 1, 6, events(1, 1)))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_order_or_partly_refused_leaves_the_position() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(OPTIONS);
    sink.deliver(&batch_at(&bench.store, 1, 5, events(0, 1)))
        .await
        .unwrap();
    sink.deliver(&batch(events(1, 1))).await.unwrap();
    let mut some = events(2, 2);
    some[0] = event(&"x".repeat(20_000));
    let delivered = sink
        .deliver(&batch_at(&bench.store, 1, 6, some))
        .await
        .unwrap();
    assert_eq!(delivered.rejected.len(), 1);
    drop(sink);
    let found = bench.sink(OPTIONS).recover(None).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].last, 5);
    assert_eq!(bench.read("audit").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_commit_leaves_no_position() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(OPTIONS);
    sink.recover(None).await.unwrap();
    // The answer to the last request before the commit never comes; then the process is gone.
    let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    bench.cluster.topic_error(POSITIONS, lost).unwrap();
    let all = events(0, 5);
    let batch = batch_at(&bench.store, 1, 5, all.clone());
    let error = sink.deliver(&batch).await.unwrap_err();
    assert!(error.to_string().contains("position"), "{error}");
    drop(sink);
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    bench.cluster.topic_error(POSITIONS, fine).unwrap();
    let sink = bench.sink(OPTIONS);
    assert_eq!(sink.recover(None).await.unwrap(), []);
    sink.deliver(&batch).await.unwrap();
    drop(sink);
    assert_eq!(bench.sink(OPTIONS).recover(None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_settled_by_its_mark() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(OPTIONS);
    sink.recover(None).await.unwrap();
    let all = events(0, 5);
    let batch = batch_at(&bench.store, 1, 5, all.clone());
    // The end of the transaction is not answered, and the caller gives up.
    let rtt = |millis| {
        let delay = std::time::Duration::from_millis(millis);
        bench.cluster.broker_round_trip_time(-1, delay).unwrap();
    };
    let gone = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE;
    bench
        .cluster
        .request_errors(RDKafkaApiKey::EndTxn, &[gone; 1000]);
    let waiting = sink.deliver(&batch);
    let patience = std::time::Duration::from_secs(2);
    assert!(tokio::time::timeout(patience, waiting).await.is_err());
    bench.cluster.clear_request_errors(RDKafkaApiKey::EndTxn);
    rtt(0);
    // This cluster shows the mark whatever became of the transaction, as the real one does after a commit.
    assert_eq!(sink.deliver(&batch).await.unwrap().rejected, []);
    assert_eq!(bench.values("audit"), values_of(&all));
    // Another batch is not mistaken for it.
    let next = batch_at(&bench.store, 1, 6, events(5, 5));
    sink.deliver(&next).await.unwrap();
    assert_eq!(bench.read("audit").len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_is_aborted_and_comes_again_without_the_refused() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(&format!("{OPTIONS}\nkey = \"tenant\""));
    sink.recover(None).await.unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    bench
        .cluster
        .request_errors(RDKafkaApiKey::Produce, &[refusal, refusal]);
    let batch = batch_at(&bench.store, 1, 5, events(0, 4));
    let delivered = sink.deliver(&batch).await.unwrap();
    assert_eq!(delivered.rejected.len(), 1, "{delivered:?}");
    assert!(delivered.rejected[0].reason.contains("InvalidRecord"));
    sink.deliver(&batch_at(&bench.store, 1, 6, events(4, 4)))
        .await
        .unwrap();
    drop(sink);
    assert_eq!(bench.sink(OPTIONS).recover(None).await.unwrap()[0].last, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_refused_is_known_after_a_call_that_is_broken_off() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(&format!("{OPTIONS}\nkey = \"tenant\""));
    sink.recover(None).await.unwrap();
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD;
    let busy = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    let answers = [&[refusal, refusal][..], &[busy; 1000]].concat();
    bench
        .cluster
        .request_errors(RDKafkaApiKey::Produce, &answers);
    let all = events(0, 4);
    let batch = batch_at(&bench.store, 1, 5, all.clone());
    let patience = Duration::from_secs(5);
    let waiting = tokio::time::timeout(patience, sink.deliver(&batch));
    assert!(waiting.await.is_err());
    bench.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let delivered = sink.deliver(&batch).await.unwrap();
    let refused: Vec<usize> = delivered.rejected.iter().map(|r| r.index).collect();
    assert_eq!(refused, [0]);
    // The next one owes it nothing.
    let next = batch_at(&bench.store, 1, 6, events(0, 4));
    assert_eq!(sink.deliver(&next).await.unwrap().rejected, []);
    let found = [&all[1..], &all].concat();
    assert_eq!(bench.values("audit"), values_of(&found));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_taken_over_from_stops_and_does_not_take_over_in_turn() {
    let bench = Bench::new(&["audit"]);
    let sink = bench.sink(OPTIONS);
    sink.recover(None).await.unwrap();
    sink.deliver(&batch_at(&bench.store, 1, 1, events(0, 1)))
        .await
        .unwrap();
    // This cluster lets anybody write; the real one answers so.
    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    bench
        .cluster
        .request_errors(RDKafkaApiKey::EndTxn, &[fenced]);
    for _ in 0..2 {
        let next = batch_at(&bench.store, 1, 2, events(1, 1));
        let error = sink.deliver(&next).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Bug, "{error}");
        let said = error.to_string();
        assert!(said.contains("another process has taken over"), "{said}");
        assert!(said.contains(&**bench.store.journal()), "{said}");
    }
}

/// Fails a delivery as the brokers do whose transaction was open while the machine was suspended.
async fn outlive(bench: &Bench, sink: &dyn Sink, batch: &Batch) -> Error {
    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    bench
        .cluster
        .request_errors(RDKafkaApiKey::AddPartitionsToTxn, &[fenced]);
    let suspend = async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_mins(6)).await;
        tokio::time::resume();
    };
    tokio::join!(sink.deliver(batch), suspend).0.unwrap_err()
}

/// A sink that has delivered something, by a clock that tests set.
async fn begun(bench: &Bench) -> Box<dyn Sink> {
    let sink = build(Context {
        clock: Clock::starting_at(Utc::now()),
        ..bench.context(OPTIONS)
    })
    .unwrap();
    sink.recover(None).await.unwrap();
    sink.deliver(&batch_at(&bench.store, 1, 1, events(0, 1)))
        .await
        .unwrap();
    sink
}

#[tokio::test]
async fn a_transaction_that_the_brokers_ended_for_its_age_is_begun_again() {
    let bench = Bench::new(&["audit"]);
    // What an earlier process has left does not count as another's.
    let earlier = bench.sink(OPTIONS);
    let batch = batch_at(&bench.store, 7, 1, events(9, 1));
    earlier.deliver(&batch).await.unwrap();
    drop(earlier);
    let sink = begun(&bench).await;
    for n in 1..3 {
        let next = batch_at(&bench.store, 1, 1 + n as u64, events(n, 1));
        let error = outlive(&bench, &*sink, &next).await;
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.to_string().contains("300 s"), "{error}");
        sink.deliver(&next).await.unwrap();
    }
    let all = [events(0, 3), events(9, 1)].concat();
    assert_eq!(bench.values("audit"), values_of(&all));
}

#[tokio::test]
async fn whoever_was_suspended_stops_if_another_has_delivered_meanwhile() {
    let bench = Bench::new(&["audit"]);
    let sink = begun(&bench).await;
    let next = batch_at(&bench.store, 1, 2, events(1, 1));
    outlive(&bench, &*sink, &next).await;
    let other = bench.sink(OPTIONS);
    other.recover(None).await.unwrap();
    other.deliver(&next).await.unwrap();
    for _ in 0..2 {
        let error = sink.deliver(&next).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Bug, "{error}");
    }
    assert_eq!(bench.values("audit"), values_of(&events(0, 2)));
}
