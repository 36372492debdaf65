//! Management Activity API reference, "Start", "Stop", "List subscriptions", and the checklist.

use audit_exporter_simulator::{
    AnswerFaults, AppConfig, Config, ContentType, ExplicitBlob, Faults, TenantConfig,
};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::client::{Stage, blobs, code, generated, read, record};

const START: &str = "subscriptions/start?contentType=Audit.General";
const STOP: &str = "subscriptions/stop?contentType=Audit.General";
const CONTENT: &str = "subscriptions/content?contentType=Audit.General";

async fn unsubscribed(mut config: Config) -> Stage {
    config.tenants[0].subscribed = false;
    Stage::new(config).await
}

#[tokio::test]
async fn a_subscription_is_started_listed_and_stopped() {
    let stage = unsubscribed(generated(10, 10)).await;
    assert_eq!(stage.json("subscriptions/list").await.1, json!([]));
    let started = read(stage.post(START, "").await).await;
    let expected = json!({"contentType": "Audit.General", "status": "enabled", "webhook": null});
    assert_eq!(started, (200.try_into().unwrap(), expected.clone()));
    assert_eq!(stage.json("subscriptions/list").await.1, json!([expected]));

    let again = read(stage.post(START, "").await).await;
    assert_eq!(code(&again), (400, "AF20024".to_owned()));
    assert_eq!(
        again.1["error"]["message"],
        "The subscription is already enabled. No property change."
    );

    let stopped = stage.post(STOP, "").await;
    assert_eq!(stopped.status(), 200);
    assert_eq!(stopped.headers().get("content-type"), None);
    assert_eq!(stopped.text().await.unwrap(), "");
    assert_eq!(stage.json("subscriptions/list").await.1, json!([]));
    assert_eq!(
        code(&read(stage.post(STOP, "").await).await),
        (400, "AF20022".to_owned())
    );
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_done() {
    let stage = unsubscribed(generated(10, 10)).await;
    let lost = AnswerFaults {
        lost: 1.0,
        ..AnswerFaults::default()
    };
    let control = stage.simulator.control();
    control.set_faults(Faults {
        subscriptions: lost,
        ..Faults::default()
    });
    assert_eq!(stage.post(START, "").await.status(), 504);
    control.set_faults(Faults::default());
    let again = read(stage.post(START, "").await).await;
    assert_eq!(code(&again), (400, "AF20024".to_owned()));
    assert_eq!(stage.simulator.stats().count("start", "lost"), 1);
}

#[tokio::test]
async fn without_a_subscription_there_is_nothing_to_list_or_fetch() {
    let stage = unsubscribed(generated(10, 10)).await;
    let id = stage.simulator.ledger().next().unwrap().blob;
    for path in [
        CONTENT.to_owned(),
        "subscriptions/notifications?contentType=Audit.General".to_owned(),
        format!("audit/{id}"),
    ] {
        let answer = stage.json(&path).await;
        assert_eq!(code(&answer), (400, "AF20022".to_owned()), "{path}");
        assert_eq!(
            answer.1["error"]["message"],
            "No subscription found for the specified content type."
        );
    }
}

#[tokio::test]
async fn an_administrator_disables_and_a_start_enables_again() {
    let stage = Stage::new(generated(10, 10)).await;
    let control = stage.simulator.control();
    assert_eq!(
        control.disable_subscription(&stage.tenant.id, ContentType::General, false),
        1
    );
    let answer = stage.json(CONTENT).await;
    assert_eq!(code(&answer), (400, "AF20023".to_owned()));
    assert_eq!(
        answer.1["error"]["message"],
        "The subscription was disabled by a tenant admin."
    );
    let list = stage.json("subscriptions/list").await.1;
    assert_eq!(
        list.as_array()
            .unwrap()
            .iter()
            .filter(|it| it["status"] == "disabled")
            .count(),
        1
    );
    assert_eq!(stage.post(START, "").await.status(), 200);
    assert_eq!(stage.json(CONTENT).await.0, 200);
}

#[tokio::test]
async fn content_types_are_checked() {
    let stage = Stage::new(generated(10, 10)).await;
    for (path, expected) in [
        ("subscriptions/start", "AF20001"),
        ("subscriptions/start?contentType=", "AF20001"),
        (
            "subscriptions/start?contentType=Audit.Everything",
            "AF20020",
        ),
        ("subscriptions/stop?contentType=Audit.Everything", "AF20020"),
    ] {
        assert_eq!(
            code(&read(stage.post(path, "").await).await),
            (400, expected.to_owned()),
            "{path}"
        );
    }
    assert_eq!(
        code(&stage.json("subscriptions/content").await),
        (400, "AF20001".to_owned())
    );
    assert_eq!(
        stage
            .json("subscriptions/content?contentType=audit.general")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn each_application_has_subscriptions_of_its_own() {
    let other = AppConfig {
        client_id: "33333333-3333-4333-8333-333333333333".to_owned(),
        client_secret: "s".to_owned(),
        roles: TenantConfig::default().roles,
    };
    let mut config = generated(10, 10);
    config.tenants[0].other_apps.push(other.clone());
    let mut stage = unsubscribed(config).await;
    assert_eq!(stage.post(START, "").await.status(), 200);
    stage.token = stage.token_of(&other).await;
    assert_eq!(
        code(&stage.json(CONTENT).await),
        (400, "AF20022".to_owned())
    );
}

#[tokio::test]
async fn what_appeared_while_stopped_stays_out_of_reach() {
    let now = Utc::now();
    let blob = |minutes: i64| ExplicitBlob {
        created: Some(now - TimeDelta::minutes(5)),
        visible_at: Some(now + TimeDelta::minutes(minutes)),
        ..ExplicitBlob::new(ContentType::General, [record("a")])
    };
    let stage = Stage::new(blobs(vec![blob(-1), blob(5), blob(15)])).await;
    let control = stage.simulator.control();
    let ids = control.content_ids(&stage.tenant.id, ContentType::General);
    let listed = async || -> Vec<String> {
        let all = stage.list(ContentType::General, "").await.0;
        all.iter()
            .map(|it| it["contentId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed().await, ids[..1]);
    stage.post(STOP, "").await;
    control.advance(TimeDelta::minutes(10));
    stage.post(START, "").await;
    assert_eq!(listed().await, ids[..1]);
    control.advance(TimeDelta::minutes(10));
    assert_eq!(listed().await, [ids[0].clone(), ids[2].clone()]);
    assert_eq!(
        code(&stage.json(&format!("audit/{}", ids[1])).await),
        (400, "AF20050".to_owned())
    );
}

#[tokio::test]
async fn the_back_fill_reaches_as_far_as_configured() {
    let hours = |hours: i64| ExplicitBlob {
        created: Some(Utc::now() - TimeDelta::hours(hours)),
        ..ExplicitBlob::new(ContentType::General, [record("a")])
    };
    let config = Config {
        backfill_hours: Some(10),
        ..blobs(vec![hours(20), hours(5)])
    };
    let stage = unsubscribed(config).await;
    stage.post(START, "").await;
    assert_eq!(stage.list(ContentType::General, "").await.0.len(), 1);
}

#[tokio::test]
async fn starts_have_a_cool_down_if_configured() {
    let stage = unsubscribed(Config {
        start_cool_down_seconds: 900,
        ..generated(10, 10)
    })
    .await;
    assert_eq!(stage.post(START, "").await.status(), 200);
    stage.post(STOP, "").await;
    assert_eq!(
        code(&read(stage.post(START, "").await).await),
        (403, "AF429".to_owned())
    );
    stage.simulator.control().advance(TimeDelta::minutes(16));
    assert_eq!(stage.post(START, "").await.status(), 200);
}

#[tokio::test]
async fn status_is_left_out_as_in_the_sample_if_configured() {
    let stage = unsubscribed(Config {
        omit_status: true,
        ..generated(10, 10)
    })
    .await;
    stage.post(START, "").await;
    let expected = json!([{"contentType": "Audit.General", "webhook": null}]);
    assert_eq!(stage.json("subscriptions/list").await.1, expected);
}

#[tokio::test]
async fn a_tenant_without_auditing_answers_with_the_diagnostic_dump() {
    let stage = Stage::new(generated(10, 10)).await;
    let control = stage.simulator.control();
    assert!(control.set_audit(&stage.tenant.id, false));
    let (status, body) = read(stage.post(START, "").await).await;
    assert_eq!(status, 400);
    let (code, message) = (
        body["error"]["code"].as_str().unwrap(),
        body["error"]["message"].as_str().unwrap(),
    );
    assert!(code.starts_with("StartSubscription [CorrId="), "{code}");
    assert!(code.contains(&format!(
        "][TenantId={},ContentType=Audit.General,ApplicationId=",
        stage.tenant.id
    )));
    assert!(
        code.ends_with("PublisherId=00000000-0000-0000-0000-000000000000][AppId"),
        "{code}"
    );
    let text = format!(
        " failed. Exception: Microsoft.Office.Compliance.Audit.DataServiceException: Tenant {} does not exist.\r\n   at ",
        stage.tenant.id
    );
    assert!(message.contains(&text), "{message}");
    assert!(!code.contains("AF"));
    assert!(control.set_audit(&stage.tenant.id, true));
    assert_eq!(stage.json("subscriptions/list").await.0, 200);
}

#[tokio::test]
async fn a_post_without_a_length_is_refused_and_so_are_wrong_methods_and_paths() {
    let stage = Stage::new(generated(10, 10)).await;
    let mut stream = TcpStream::connect(stage.simulator.address()).await.unwrap();
    let path = format!("/api/v1.0/{}/activity/feed/{START}", stage.tenant.id);
    let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");
    assert_eq!(
        stage
            .get("subscriptions/start?contentType=Audit.General")
            .await
            .status(),
        405
    );
    assert_eq!(stage.get("nonsense").await.status(), 404);
}

#[tokio::test]
async fn friendly_names_come_in_one_language() {
    let stage = Stage::new(generated(10, 10)).await;
    let ask = async |language: &str| {
        let request = stage
            .http
            .get(stage.url("resources/dlpSensitiveTypes"))
            .bearer_auth(&stage.token);
        read(
            request
                .header("accept-language", language)
                .send()
                .await
                .unwrap(),
        )
        .await
    };
    let (status, names) = ask("de-DE").await;
    assert_eq!(status, 200);
    assert!(
        names
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["id"].is_string() && it["name"].is_string())
    );
    assert_eq!(code(&ask("de, en").await), (400, "AF20053".to_owned()));
    assert_eq!(code(&ask("!").await), (400, "AF20054".to_owned()));
}
