//! Indexer acknowledgement.

use super::*;

const ON: &str = "acknowledgement = true\nack_timeout = \"1s\"\n";

fn acknowledging() -> HecConfig {
    HecConfig {
        tokens: vec![HecToken {
            acknowledgement: true,
            ..HecToken::default()
        }],
        ..HecConfig::default()
    }
}

/// Requests for acknowledgements and with events, by outcome.
fn answers(splunk: &Simulator, outcome: &str) -> u64 {
    splunk.stats().count("hec", outcome)
}

#[tokio::test]
async fn a_delivery_is_ok_only_after_the_indexers_have_acknowledged_it() {
    let splunk = splunk(HecConfig {
        acknowledged_after_millis: 500,
        ..acknowledging()
    })
    .await;
    let sink = sink(&splunk, &format!("{ON}request_size = \"100B\""));
    let (events, begun) = (records(6), std::time::Instant::now());
    sink.deliver(&batch(events.clone())).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(indexed(&splunk), raw(&events));
    // A channel is used again once its acknowledgement came.
    sink.deliver(&batch(records(1))).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_never_acknowledged_is_sent_again_and_no_other() {
    let splunk = splunk(acknowledging()).await;
    splunk
        .control()
        .script_hec([HecFailure::LostAcknowledgement]);
    let sink = sink(&splunk, &format!("{ON}request_size = \"1B\""));
    let events = records(3);
    let error = sink.deliver(&batch(events.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let said =
        "the indexers have not acknowledged a request within 1 s (ack_timeout); it is sent again";
    assert!(error.to_string().ends_with(said), "{error}");
    sink.deliver(&batch(events.clone())).await.unwrap();
    let found = indexed(&splunk);
    assert_eq!(found.len(), 4);
    let mut once = found.clone();
    once.dedup();
    assert_eq!(once, raw(&events));
}

#[tokio::test]
async fn what_splunk_forgets_in_a_restart_is_sent_again() {
    let splunk = splunk(HecConfig {
        acknowledged_after_millis: 500,
        ..acknowledging()
    })
    .await;
    let (sink, events) = (sink(&splunk, ON), records(1));
    let batch = batch(events.clone());
    let restarts = async {
        while splunk.stats().hec_events == 0 {
            tokio::task::yield_now().await;
        }
        splunk.control().restart_hec();
    };
    let (answer, ()) = tokio::join!(sink.deliver(&batch), restarts);
    assert_eq!(answer.unwrap_err().kind(), Kind::Unavailable);
    sink.deliver(&batch).await.unwrap();
    assert_eq!(indexed(&splunk), [raw(&events), raw(&events)].concat());
}

#[tokio::test]
async fn a_poisoned_event_leaves_none_before_it_unacknowledged() {
    let splunk = splunk(HecConfig {
        refuses: Some("poison".to_owned()),
        ..acknowledging()
    })
    .await;
    let mut events = records(3);
    events.insert(2, event("{\"a\":\"poison\"}"));
    let delivered = sink(&splunk, ON).deliver(&batch(events)).await.unwrap();
    assert_eq!(delivered.rejected.len(), 1);
    // Those before it came twice: the first time, nothing said that they were safe.
    assert_eq!(indexed(&splunk).len(), 5);
}

#[tokio::test]
async fn no_event_is_sent_to_a_token_that_cannot_acknowledge_it() {
    let splunk = splunk(HecConfig::default()).await;
    let error = sink(&splunk, ON)
        .deliver(&batch(records(1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        error.to_string().contains("set acknowledgement = false"),
        "{error}"
    );
    assert_eq!(
        (splunk.hec_events().len(), answers(&splunk, "code_14")),
        (0, 1)
    );
}

#[tokio::test]
async fn a_token_that_wants_a_channel_is_told_apart() {
    let splunk = splunk(acknowledging()).await;
    let error = sink(&splunk, "")
        .deliver(&batch(records(1)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        error.to_string().contains("set acknowledgement = true"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_whose_acknowledgement_is_switched_off_repeats_events_once_at_most() {
    let other = "0d000000-0000-4000-8000-000000000000";
    let tokens = [true, false].map(|acknowledgement| HecToken {
        token: if acknowledgement {
            HecToken::default().token
        } else {
            other.to_owned()
        },
        acknowledgement,
        ..HecToken::default()
    });
    // Before the next request, and between a request and its acknowledgement.
    for meanwhile in [false, true] {
        let splunk = splunk(HecConfig {
            tokens: tokens.to_vec(),
            acknowledged_after_millis: if meanwhile { 500 } else { 0 },
            ..HecConfig::default()
        })
        .await;
        let file = tempfile::NamedTempFile::new().unwrap();
        let set = |token: &HecToken| std::fs::write(file.path(), &token.token).unwrap();
        set(&tokens[0]);
        let urls = format!("urls = [\"{}\"]\n", splunk.url());
        let token = format!("token = {{ file = {:?} }}\n", file.path());
        let sink = with_options(&(urls + &token + ON));
        sink.deliver(&batch(records(1))).await.unwrap();
        let switches = async {
            while meanwhile && splunk.stats().hec_events == 1 {
                tokio::task::yield_now().await;
            }
            set(&tokens[1]);
        };
        let events = batch(records(1));
        if meanwhile {
            let (answer, ()) = tokio::join!(sink.deliver(&events), switches);
            assert_eq!(answer.unwrap_err().kind(), Kind::Config);
        } else {
            switches.await;
        }
        for _ in 0..3 {
            let error = sink.deliver(&events).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Config, "{error}");
        }
        assert_eq!(splunk.stats().hec_events, 2, "{meanwhile}");
        set(&tokens[0]);
        sink.deliver(&events).await.unwrap();
        assert_eq!(splunk.stats().hec_events, 3, "{meanwhile}");
    }
}
