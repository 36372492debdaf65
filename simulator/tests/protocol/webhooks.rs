//! Management Activity API reference, "Webhooks", and the checklist.

use std::{sync::Arc, sync::Mutex, time::Duration};

use audit_exporter_simulator::{Config, ContentType, ExplicitBlob};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::{Stage, blobs, code, read, record};

const START: &str = "subscriptions/start?contentType=Audit.General";

/// What an endpoint was sent, and what it answers.
#[derive(Default)]
struct Endpoint {
    status: Mutex<Option<u16>>,
    requests: Mutex<Vec<(HeaderMap, Value)>>,
}

impl Endpoint {
    async fn start() -> (Arc<Self>, String) {
        let endpoint = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/hook", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&endpoint));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (endpoint, address)
    }

    fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = Some(status);
    }

    async fn wait_for(&self, count: usize) -> Vec<(HeaderMap, Value)> {
        for _ in 0..200 {
            let requests = self.requests.lock().unwrap().clone();
            if requests.len() >= count {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the endpoint was not asked {count} times");
    }
}

async fn take(
    State(endpoint): State<Arc<Endpoint>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let value = serde_json::from_str(&body).unwrap();
    endpoint.requests.lock().unwrap().push((headers, value));
    // Answering takes a moment, as it does for a real endpoint.
    tokio::task::yield_now().await;
    let status = endpoint.status.lock().unwrap().unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

async fn stage() -> Stage {
    let mut config = Config {
        webhook_failures: 2,
        ..blobs(Vec::new())
    };
    config.tenants[0].subscribed = false;
    Stage::new(config).await
}

#[tokio::test]
async fn an_endpoint_is_validated_then_told_of_blobs() {
    let stage = stage().await;
    let (endpoint, address) = Endpoint::start().await;
    let body = json!({"webhook": {"address": address, "authId": "my-auth-id", "expiration": ""}})
        .to_string();
    let (status, started) = read(stage.post(START, &body).await).await;
    assert_eq!(status, 200);
    let webhook = json!({"status": "enabled", "address": address, "authId": "my-auth-id", "expiration": null});
    assert_eq!(started["webhook"], webhook);
    let (headers, validation) = endpoint.wait_for(1).await.remove(0);
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["webhook-authid"], "my-auth-id");
    assert_eq!(
        validation["validationCode"],
        headers["webhook-validationcode"].to_str().unwrap()
    );

    let blob = ExplicitBlob::new(ContentType::General, [record("a")]);
    let id = stage
        .simulator
        .control()
        .add_blob(&stage.tenant.id, blob)
        .unwrap();
    let (headers, notification) = endpoint.wait_for(2).await.remove(1);
    assert_eq!(headers["content-type"], "application/json; utf-8");
    let row = &notification[0];
    assert_eq!(row["contentId"], id);
    assert_eq!(row["tenantId"], stage.tenant.id);
    assert_eq!(row["clientId"], stage.tenant.client_id);
    assert_eq!(
        stage
            .get_url(row["contentUri"].as_str().unwrap())
            .await
            .status(),
        200
    );
    let (_, sent) = stage
        .json("subscriptions/notifications?contentType=Audit.General")
        .await;
    assert_eq!(sent[0]["notificationStatus"], "success");
    assert_eq!(sent[0]["contentId"], id);

    // Without a body the webhook stays; with an empty address it goes.
    assert_eq!(code(&read(stage.post(START, "").await).await).1, "AF20024");
    let none = json!({"webhook": {"address": ""}}).to_string();
    assert_eq!(
        read(stage.post(START, &none).await).await.1["webhook"],
        Value::Null
    );
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_200_is_refused() {
    let stage = stage().await;
    let (endpoint, address) = Endpoint::start().await;
    endpoint.answer(202);
    for (address, reason) in [
        (address.as_str(), "The endpoint did not return HTTP 200."),
        ("ftp://hooks.example", "The address must begin with HTTPS."),
    ] {
        let body = json!({"webhook": {"address": address}}).to_string();
        let answer = read(stage.post(START, &body).await).await;
        assert_eq!(code(&answer), (400, "AF20021".to_owned()));
        assert!(
            answer.1["error"]["message"]
                .as_str()
                .unwrap()
                .ends_with(reason)
        );
    }
    assert_eq!(stage.json("subscriptions/list").await.1, json!([]));
    let past =
        json!({"webhook": {"address": address, "expiration": "2020-01-01T00:00:00"}}).to_string();
    assert_eq!(
        code(&read(stage.post(START, &past).await).await),
        (400, "AF20003".to_owned())
    );
}

#[tokio::test]
async fn failures_disable_the_webhook_but_not_the_subscription_and_a_start_enables_it() {
    let stage = stage().await;
    let (endpoint, address) = Endpoint::start().await;
    let body = json!({"webhook": {"address": address}}).to_string();
    assert_eq!(stage.post(START, &body).await.status(), 200);
    endpoint.answer(500);
    let blob = ExplicitBlob::new(ContentType::General, [record("a")]);
    stage
        .simulator
        .control()
        .add_blob(&stage.tenant.id, blob)
        .unwrap();
    endpoint.wait_for(3).await;
    let mut status = Value::Null;
    for _ in 0..100 {
        let list = stage.json("subscriptions/list").await.1;
        assert_eq!(list[0]["status"], "enabled");
        status = list[0]["webhook"]["status"].clone();
        if status == "disabled" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(status, "disabled");
    assert_eq!(stage.list(ContentType::General, "").await.0.len(), 1);
    endpoint.answer(200);
    let again = read(stage.post(START, &body).await).await;
    assert_eq!(again.1["webhook"]["status"], "enabled");
    endpoint.wait_for(5).await;
}

#[tokio::test]
async fn notifications_are_listed_page_by_page() {
    let stage = Stage::new(Config {
        page_size: 2,
        ..blobs(Vec::new())
    })
    .await;
    let (endpoint, address) = Endpoint::start().await;
    let body = json!({"webhook": {"address": address}}).to_string();
    assert_eq!(stage.post(START, &body).await.status(), 200);
    let control = stage.simulator.control();
    let mut shown = Vec::new();
    for count in 2..=6 {
        let blob = ExplicitBlob::new(ContentType::General, [record("a")]);
        shown.push(control.add_blob(&stage.tenant.id, blob).unwrap());
        endpoint.wait_for(count).await;
    }
    // The last one is on record a moment after it was sent.
    let mut listed = Vec::new();
    for _ in 0..100 {
        listed = stage
            .pages("subscriptions/notifications?contentType=Audit.General")
            .await;
        if listed.iter().flatten().count() == shown.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(listed.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    let ids: Vec<_> = listed
        .iter()
        .flatten()
        .map(|row| row["contentId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, shown);
}
