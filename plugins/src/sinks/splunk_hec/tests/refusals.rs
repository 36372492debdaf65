//! What Splunk, or a proxy before it, refuses.

use super::*;

#[tokio::test]
async fn a_poisoned_event_is_a_dead_letter_and_the_others_are_indexed_once() {
    let hec = HecConfig {
        refuses: Some("poison".to_owned()),
        ..HecConfig::default()
    };
    let splunk = splunk(hec).await;
    let mut events = records(20);
    events.insert(7, event("{\"name\":\"poison\"}"));
    events.insert(0, event("{\"name\":\"poison\"}"));
    let delivered = sink(&splunk, "")
        .deliver(&batch(events.clone()))
        .await
        .unwrap();
    let refused: Vec<_> = delivered
        .rejected
        .iter()
        .map(|r| (r.index, &*r.reason))
        .collect();
    let reason = "Invalid data format (HTTP 400, code 6)";
    assert_eq!(refused, [(0, reason), (8, reason)]);
    events.retain(|event| !event.raw().ends_with(b"poison\"}"));
    assert_eq!(indexed(&splunk), raw(&events));
}

#[tokio::test]
async fn what_is_too_large_is_split_until_it_fits() {
    let hec = HecConfig {
        max_content_length: 1000,
        ..HecConfig::default()
    };
    let splunk = splunk(hec).await;
    let mut events = records(40);
    events.push(event(&format!("{{\"text\":\"{}\"}}", "x".repeat(1000))));
    let sink = sink(&splunk, "compression = \"none\"");
    let delivered = sink.deliver(&batch(events.clone())).await.unwrap();
    let refused: Vec<_> = delivered.rejected.iter().map(|r| r.index).collect();
    assert_eq!(refused, [40]);
    events.pop();
    assert_eq!(indexed(&splunk), raw(&events));
}

#[tokio::test]
async fn what_may_pass_is_an_error_and_nothing_is_lost_or_repeated() {
    let splunk = splunk(HecConfig::default()).await;
    let sink = sink(&splunk, "");
    let events = records(5);
    for (failure, kind) in [
        (HecFailure::InternalError, Kind::Unavailable),
        (HecFailure::Busy, Kind::Unavailable),
        (HecFailure::ShuttingDown, Kind::Unavailable),
        (HecFailure::Full, Kind::Throttled),
        (HecFailure::AckChannelFull, Kind::Throttled),
        (HecFailure::BadGateway, Kind::Unavailable),
        (HecFailure::Welcome, Kind::Unavailable),
    ] {
        splunk.control().script_hec([failure]);
        let error = sink.deliver(&batch(events.clone())).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let address = splunk.address().to_string();
        assert!(error.to_string().starts_with(&address), "{error}");
    }
    assert!(indexed(&splunk).is_empty());
    sink.deliver(&batch(events.clone())).await.unwrap();
    assert_eq!(indexed(&splunk), raw(&events));
}

#[tokio::test]
async fn a_lost_answer_repeats_its_own_request_alone() {
    let splunk = splunk(HecConfig::default()).await;
    // Three requests, one after the other; the second is indexed, but its answer is lost.
    let sink = sink(&splunk, "request_size = \"1B\"\nparallel_requests = 1");
    splunk
        .control()
        .script_hec([HecFailure::NearlyFull, HecFailure::LostAnswer]);
    let (events, begun) = (records(3), std::time::Instant::now());
    let error = sink.deliver(&batch(events.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let paused = begun.elapsed() >= Duration::from_secs(1);
    assert!(paused, "it was asked to slow down");
    sink.deliver(&batch(events.clone())).await.unwrap();
    let mut expected = raw(&events);
    expected.insert(1, expected[1].clone());
    assert_eq!(indexed(&splunk), expected);
}

#[tokio::test]
async fn a_refused_token_or_index_says_what_to_do() {
    let token = |token: &str, disabled| HecToken {
        token: token.to_owned(),
        disabled,
        ..HecToken::default()
    };
    let hec = HecConfig {
        tokens: vec![token("off", true), token("on", false)],
        ..HecConfig::default()
    };
    let splunk = splunk(hec).await;
    for (options, kind, said) in [
        (
            "token = \"geheim\"",
            Kind::Auth,
            "Splunk answers: Invalid token (HTTP 403, code 4); check token",
        ),
        (
            "token = \"off\"",
            Kind::Auth,
            "Splunk answers: Token disabled (HTTP 403, code 1); enable the token there",
        ),
        (
            "token = \"on\"\nindex = \"secret\"",
            Kind::Config,
            "Splunk answers: Incorrect index (HTTP 400, code 7); check index, and which indexes the token may write",
        ),
    ] {
        let options = format!("urls = [\"{}\"]\n{options}", splunk.url());
        let sink = with_options(&options);
        let error = sink.deliver(&batch(records(2))).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.to_string(), format!("{}: {said}", splunk.address()));
        assert!(!error.to_string().contains("geheim"));
    }
}

#[tokio::test]
async fn a_check_tries_the_token_and_sends_no_event() {
    let splunk = splunk(HecConfig::default()).await;
    let good = sink(&splunk, "").check().await;
    let host = splunk.address();
    assert_eq!(
        good,
        [Finding::ok(format!("Splunk at {host} takes the token"))]
    );

    let options = format!("urls = [\"{}\"]\ntoken = \"wrong\"", splunk.url());
    let bad = with_options(&options).check().await;
    assert_eq!(bad[0].severity, Severity::Problem);
    assert!(bad[0].message.contains("Invalid token"), "{bad:?}");

    let unasked = sink(&splunk, "acknowledgement = true").check().await;
    assert!(
        unasked[0].message.contains("ACK is disabled"),
        "{unasked:?}"
    );
    assert!(splunk.hec_events().is_empty());
}
