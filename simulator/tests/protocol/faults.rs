//! Each fault does what it says, and all of them together lose nothing (Management Activity API
//! reference, "Throttling", "Errors", and the checklist).

use std::{collections::HashMap, io::Read};

use audit_exporter_simulator::{
    AnswerFaults, Config, ContentType, ExplicitBlob, Failure, Faults, Generated, Records, Script,
};
use flate2::read::GzDecoder;
use reqwest::StatusCode;
use serde_json::Value;

use crate::client::{Stage, blobs, code, config, generated, hash, read, record, tenant};

/// A stage with one blob, and the blob's path.
async fn one_blob() -> (Stage, String, String) {
    let records = (0..50).map(|number| record(&format!("id-{number}")));
    let stage = Stage::new(blobs(vec![ExplicitBlob::new(
        ContentType::General,
        records,
    )]))
    .await;
    let id = stage
        .simulator
        .control()
        .content_ids(&stage.tenant.id, ContentType::General)
        .remove(0);
    let path = format!("audit/{id}");
    (stage, id, path)
}

fn blobs_fail(answers: AnswerFaults) -> Faults {
    Faults {
        blobs: answers,
        most_in_a_row: 0,
        ..Faults::default()
    }
}

#[tokio::test]
async fn faults_can_be_read_and_set_over_http() {
    let (stage, _, path) = one_blob().await;
    let url = format!("{}/control/faults", stage.simulator.url());
    let wanted = r#"{"blobs": {"bad_gateway": 1.0}, "most_in_a_row": 0}"#;
    let set = stage.http.post(&url).body(wanted).send().await.unwrap();
    assert_eq!(set.status(), StatusCode::OK);
    let read: Value = stage
        .http
        .get(&url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(read["blobs"]["bad_gateway"], 1.0);
    assert_eq!(stage.get(&path).await.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn throttling_has_both_shapes() {
    let (stage, _, path) = one_blob().await;
    let control = stage.simulator.control();
    control.set_faults(blobs_fail(AnswerFaults {
        throttled_403: 1.0,
        ..AnswerFaults::default()
    }));
    let response = stage.get(&path).await;
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers().get("retry-after"), None);
    assert_eq!(
        response.text().await.unwrap(),
        "{'error':{'code':'AF429','message':'Too many requests. Method=GetBlob, PublisherId=00000000-0000-0000-0000-000000000000'}}"
    );
    control.set_faults(Faults {
        retry_after_seconds: Some(3),
        ..blobs_fail(AnswerFaults {
            throttled_429: 1.0,
            ..AnswerFaults::default()
        })
    });
    let publisher = "11111111-1111-4111-8111-111111111111";
    let response = stage
        .get(&format!("{path}?PublisherIdentifier={publisher}"))
        .await;
    assert_eq!(response.headers()["retry-after"], "3");
    let answer = read(response).await;
    assert_eq!(code(&answer), (429, "AF429".to_owned()));
    let text = format!("Too many requests. Method=GetBlob, PublisherId={publisher}");
    assert_eq!(answer.1["error"]["message"], text);
}

#[tokio::test]
async fn server_errors_come_in_every_form() {
    let (stage, id, path) = one_blob().await;
    let control = stage.simulator.control();
    let fail = |failure: Failure| {
        assert!(control.script_blob(
            &id,
            Some(Script {
                failure,
                times: Some(1)
            })
        ));
    };
    fail(Failure::InternalError);
    assert_eq!(code(&stage.json(&path).await), (500, "AF50000".to_owned()));
    fail(Failure::InternalErrorInAnHour);
    let hour = stage.json(&path).await;
    assert_eq!(code(&hour), (500, "AF50000".to_owned()));
    assert!(
        hour.1["error"]["message"]
            .as_str()
            .unwrap()
            .contains("in an hour")
    );
    for (failure, status, text) in [
        (Failure::BadGateway, 502, "<h1>502 Bad Gateway</h1>"),
        (
            Failure::Unavailable,
            503,
            "<h1>503 Service Unavailable</h1>",
        ),
        (Failure::Empty500, 500, ""),
        (Failure::Unauthorized, 401, "Authorization has been denied"),
        (Failure::Missing, 404, "Not Found"),
    ] {
        fail(failure);
        let response = stage.get(&path).await;
        assert_eq!(response.status(), status);
        assert!(response.text().await.unwrap().contains(text));
    }
    assert_eq!(stage.json(&path).await.0, 200);
}

#[tokio::test]
async fn redirects_lead_to_the_foreign_host_which_counts_tokens() {
    let (stage, id, path) = one_blob().await;
    let redirect = Script {
        failure: Failure::Redirect,
        times: None,
    };
    assert!(stage.simulator.control().script_blob(&id, Some(redirect)));
    let response = stage.get(&path).await;
    assert_eq!(response.status(), StatusCode::FOUND);
    let location = response.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(stage.simulator.foreign_url()));
    assert_eq!(stage.simulator.stats().foreign_tokens, 0);
    stage.get_url(location).await;
    stage.http.get(location).send().await.unwrap();
    let stats = stage.simulator.stats();
    assert_eq!((stats.foreign_requests, stats.foreign_tokens), (2, 1));
}

#[tokio::test]
async fn bodies_end_early_in_every_way() {
    let (stage, id, path) = one_blob().await;
    let control = stage.simulator.control();
    let whole = stage.get(&path).await.text().await.unwrap();
    let fail = |failure: Failure| {
        control.script_blob(
            &id,
            Some(Script {
                failure,
                times: Some(1),
            }),
        )
    };
    let zipped = async || {
        let request = stage.http.get(stage.url(&path)).bearer_auth(&stage.token);
        request
            .header("accept-encoding", "gzip")
            .send()
            .await
            .unwrap()
    };
    fail(Failure::CutBody);
    let plain = stage.get(&path).await.text().await.unwrap();
    assert!(whole.starts_with(&plain) && plain.len() < whole.len());
    assert!(serde_json::from_str::<Value>(&plain).is_err());

    fail(Failure::CutBody);
    let response = zipped().await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut text = String::new();
    GzDecoder::new(&response.bytes().await.unwrap()[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain);

    fail(Failure::CutGzip);
    let cut = zipped().await.bytes().await.unwrap();
    assert!(
        GzDecoder::new(&cut[..])
            .read_to_end(&mut Vec::new())
            .is_err()
    );

    fail(Failure::Reset);
    assert!(stage.get(&path).await.bytes().await.is_err());
    assert_eq!(stage.get(&path).await.text().await.unwrap(), whole);
    let stats = stage.simulator.stats();
    let counted =
        ["cut_body", "cut_gzip", "reset", "200"].map(|outcome| stats.count("blob", outcome));
    assert_eq!(counted, [2, 1, 1, 2]);
}

#[tokio::test]
async fn a_stalled_answer_starts_and_does_not_end() {
    let (stage, id, path) = one_blob().await;
    let stall = Script {
        failure: Failure::Stall,
        times: None,
    };
    assert!(stage.simulator.control().script_blob(&id, Some(stall)));
    let mut response = stage.get(&path).await;
    assert!(response.chunk().await.unwrap().is_some());
    let rest = tokio::time::timeout(std::time::Duration::from_millis(200), response.chunk());
    assert!(rest.await.is_err());
}

#[tokio::test]
async fn slow_answers_are_slow() {
    let (stage, _, path) = one_blob().await;
    let answers = AnswerFaults {
        slow: 1.0,
        slow_millis: 150,
        ..AnswerFaults::default()
    };
    stage.simulator.control().set_faults(blobs_fail(answers));
    let begun = std::time::Instant::now();
    assert_eq!(stage.get(&path).await.status(), 200);
    assert!(begun.elapsed().as_millis() >= 150);
}

#[tokio::test]
async fn stuck_blobs_never_answer_and_expired_ones_are_gone() {
    let (stage, _, path) = one_blob().await;
    let control = stage.simulator.control();
    control.set_faults(Faults {
        stuck_blobs: 1.0,
        ..Faults::default()
    });
    for _ in 0..10 {
        assert_eq!(code(&stage.json(&path).await), (500, "AF50000".to_owned()));
    }
    control.set_faults(Faults {
        expired_blobs: 1.0,
        ..Faults::default()
    });
    assert_eq!(code(&stage.json(&path).await), (400, "AF20051".to_owned()));
}

#[tokio::test]
async fn the_request_limit_is_hard() {
    let mut config = generated(10, 10);
    config.requests_per_minute = Some(5);
    let stage = Stage::new(config).await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(stage.get("subscriptions/list").await.status().as_u16());
    }
    assert_eq!(
        statuses.iter().filter(|status| **status == 403).count(),
        2,
        "{statuses:?}"
    );
    stage
        .simulator
        .control()
        .advance(chrono::TimeDelta::minutes(1));
    assert_eq!(stage.get("subscriptions/list").await.status(), 200);
}

#[tokio::test]
async fn a_tenant_may_have_a_limit_of_its_own() {
    let stage = Stage::new(generated(10, 10)).await;
    let control = stage.simulator.control();
    for (limit, second) in [(Some(1), 403), (None, 200)] {
        assert!(control.set_limit(&stage.tenant.id, limit));
        control.advance(chrono::TimeDelta::minutes(1));
        assert_eq!(stage.get("subscriptions/list").await.status(), 200);
        let status = stage.get("subscriptions/list").await.status();
        assert_eq!(status, second, "{limit:?}");
    }
    assert!(!control.set_limit("nobody", Some(1)));
}

#[tokio::test]
async fn giants_are_streamed_and_match_the_ledger() {
    let giants = Generated {
        events: 0,
        content_types: vec![ContentType::General],
        giant_blob_bytes: 24 << 20,
        giant_record_bytes: 3 << 20,
        ..Generated::default()
    };
    let stage = Stage::new(config(tenant(Records::Generated(giants)))).await;
    let mut expected: HashMap<String, Vec<String>> = HashMap::new();
    for entry in stage.simulator.ledger() {
        expected.entry(entry.blob).or_default().push(entry.sha256);
    }
    assert_eq!(expected.len(), 2);
    for (id, hashes) in expected {
        let request = stage
            .http
            .get(stage.url(&format!("audit/{id}")))
            .bearer_auth(&stage.token);
        let zipped = request
            .header("accept-encoding", "gzip")
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let mut body = String::new();
        GzDecoder::new(&zipped[..])
            .read_to_string(&mut body)
            .unwrap();
        let plain = stage
            .get(&format!("audit/{id}"))
            .await
            .text()
            .await
            .unwrap();
        assert!(body == plain);
        let least = if hashes.len() == 1 { 3 << 20 } else { 24 << 20 };
        assert!(
            body.len() >= least,
            "{} records, {} bytes",
            hashes.len(),
            body.len()
        );
        let records: Vec<&serde_json::value::RawValue> = serde_json::from_str(&body).unwrap();
        let served: Vec<String> = records.iter().map(|it| hash(it.get().as_bytes())).collect();
        assert!(served == hashes);
    }
}

/// Asks until the answer is whole: what a patient client does.
async fn patiently(stage: &mut Stage, url: &str) -> (Option<String>, Value) {
    for _ in 0..20 {
        let request = stage.http.get(url).bearer_auth(&stage.token);
        let Ok(response) = request.send().await else {
            continue;
        };
        if response.status() == 401 {
            stage.token = stage.new_token().await;
        }
        let next = response
            .headers()
            .get("nextpageuri")
            .map(|it| it.to_str().unwrap().to_owned());
        let good = response.status() == 200;
        if let Ok(text) = response.text().await
            && let Ok(value) = serde_json::from_str::<Value>(&text)
            && good
        {
            return (next, value);
        }
    }
    panic!("no good answer from {url}");
}

#[tokio::test]
async fn all_faults_at_once_lose_nothing() {
    let general = Generated {
        events: 1_500,
        events_per_blob: 10,
        days: 0.9,
        ..Generated::default()
    };
    let faults = Faults::all(11);
    let config = Config {
        faults,
        page_size: 20,
        ..config(tenant(Records::Generated(general)))
    };
    let mut stage = Stage::new(config).await;
    stage
        .simulator
        .control()
        .advance(chrono::TimeDelta::seconds(20));
    let mut bodies: HashMap<String, usize> = HashMap::new();
    for content_type in ContentType::ALL {
        let first = stage.url(&format!(
            "subscriptions/content?contentType={}",
            content_type.name()
        ));
        let mut url = Some(first);
        while let Some(page) = url.take() {
            let (next, entries) = patiently(&mut stage, &page).await;
            for entry in entries.as_array().unwrap() {
                let id = entry["contentId"].as_str().unwrap().to_owned();
                if bodies.contains_key(&id) {
                    continue;
                }
                let path = stage.url(&format!("audit/{id}"));
                let (_, body) = patiently(&mut stage, &path).await;
                bodies.insert(id, body.as_array().unwrap().len());
            }
            url = next;
        }
    }
    let mut expected: HashMap<String, usize> = HashMap::new();
    for entry in stage.simulator.ledger() {
        *expected.entry(entry.blob).or_default() += 1;
    }
    assert!(expected.values().sum::<usize>() > 1_500);
    assert_eq!(bodies, expected);
    assert_eq!(stage.simulator.stats().foreign_tokens, 0);
}
