//! Authentication reference, "Client credentials with secret", "Error response" and the checklist;
//! and what the API says to tokens (Management Activity API reference, checklist).

use audit_exporter_simulator::{AppConfig, Config, Faults, TenantConfig, TokenFaults};
use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::client::{Stage, code, generated, read};

async fn ask(stage: &Stage, path: &str, form: &[(&str, &str)]) -> Response {
    let url = format!("{}/{path}", stage.simulator.url());
    stage.http.post(url).form(form).send().await.unwrap()
}

fn claims(token: &str) -> Value {
    let middle = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

#[tokio::test]
async fn version_1_takes_a_resource_and_answers_strings() {
    let stage = Stage::new(generated(10, 10)).await;
    let tenant = &stage.tenant;
    let response = ask(
        &stage,
        &format!("{}/oauth2/token?api-version=1.0", tenant.domain),
        &[
            ("grant_type", "client_credentials"),
            ("client_id", &tenant.client_id),
            ("client_secret", &tenant.client_secret),
            ("resource", "https://manage.office.com"),
        ],
    )
    .await;
    let (status, body) = read(response).await;
    assert_eq!(status, 200);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], "3599");
    assert_eq!(body["ext_expires_in"], "3599");
    assert_eq!(body["resource"], "https://manage.office.com");
    let claims = claims(body["access_token"].as_str().unwrap());
    assert_eq!(body["expires_on"], claims["exp"].to_string());
    assert_eq!(claims["aud"], "https://manage.office.com");
    assert_eq!(claims["tid"], tenant.id);
    assert_eq!(claims["appid"], tenant.client_id);
    assert_eq!(claims["roles"][0], "ActivityFeed.Read");
    assert_eq!(
        claims["iss"],
        format!("https://sts.windows.net/{}/", tenant.id)
    );
}

#[tokio::test]
async fn version_2_takes_a_scope_and_answers_numbers_and_basic_authentication_will_do() {
    let stage = Stage::new(generated(10, 10)).await;
    let url = format!(
        "{}/{}/oauth2/v2.0/token",
        stage.simulator.url(),
        stage.tenant.id
    );
    let pair = format!("{}:{}", stage.tenant.client_id, stage.tenant.client_secret);
    let form = [
        ("grant_type", "client_credentials"),
        ("scope", "https://manage.office.com/.default"),
    ];
    let request = stage.http.post(url).form(&form);
    let response = request.header(
        "Authorization",
        format!("Basic {}", BASE64_STANDARD.encode(pair)),
    );
    let (status, body) = read(response.send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(body["expires_in"], 3599);
    assert_eq!(body["ext_expires_in"], 3599);
    assert_eq!(body.as_object().unwrap().len(), 4);
    assert_eq!(claims(body["access_token"].as_str().unwrap())["ver"], "1.0");
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // one entry a refusal
async fn refusals_carry_the_documented_codes_and_shape() {
    let stage = Stage::new(generated(10, 10)).await;
    let tenant = &stage.tenant;
    let right = [
        ("grant_type", "client_credentials"),
        ("client_id", tenant.client_id.as_str()),
        ("client_secret", tenant.client_secret.as_str()),
        ("scope", "https://manage.office.com/.default"),
    ];
    let with = |name: &'static str, value: &'static str| {
        let mut form: Vec<(&str, &str)> = right
            .iter()
            .copied()
            .filter(|(key, _)| *key != name)
            .collect();
        if !value.is_empty() {
            form.push((name, value));
        }
        form
    };
    let v2 = format!("{}/oauth2/v2.0/token", tenant.id);
    let v1 = format!("{}/oauth2/token", tenant.id);
    let unknown = "99999999-9999-4999-8999-999999999999/oauth2/v2.0/token";
    for (path, form, status, number, error) in [
        (
            v2.as_str(),
            with("client_secret", "the-secret-id"),
            401,
            7_000_215,
            "invalid_client",
        ),
        (
            &v2,
            with("client_secret", ""),
            401,
            7_000_218,
            "invalid_client",
        ),
        (
            &v2,
            with("client_id", "99999999-9999-4999-8999-999999999999"),
            400,
            700_016,
            "unauthorized_client",
        ),
        (&v2, with("client_id", ""), 400, 900_144, "invalid_request"),
        (&v2, with("grant_type", ""), 400, 900_144, "invalid_request"),
        (
            &v2,
            with("grant_type", "password"),
            400,
            70_003,
            "unsupported_grant_type",
        ),
        (&v2, with("scope", ""), 400, 900_144, "invalid_request"),
        (
            &v2,
            with("scope", "https://manage.office.com"),
            400,
            70_011,
            "invalid_scope",
        ),
        (
            &v2,
            with("scope", "a/.default b/.default"),
            400,
            70_011,
            "invalid_scope",
        ),
        (
            &v2,
            with("scope", "https://graph.example/.default"),
            400,
            500_011,
            "invalid_resource",
        ),
        (
            &v2,
            with("resource", "https://manage.office.com"),
            400,
            901_002,
            "invalid_request",
        ),
        (&v1, with("scope", ""), 400, 900_144, "invalid_request"),
        (
            &v1,
            with("resource", "https://manage.office365.us"),
            400,
            500_011,
            "invalid_resource",
        ),
        (unknown, right.to_vec(), 400, 90_002, "invalid_request"),
        (
            "nobody.example/oauth2/token",
            right.to_vec(),
            400,
            90_002,
            "invalid_request",
        ),
        (
            "not-a-tenant/oauth2/token",
            right.to_vec(),
            400,
            900_023,
            "invalid_request",
        ),
        (
            "common/oauth2/v2.0/token",
            right.to_vec(),
            400,
            50_194,
            "invalid_request",
        ),
    ] {
        let (got, body) = read(ask(&stage, path, &form).await).await;
        assert_eq!(
            (got.as_u16(), &body["error_codes"][0]),
            (status, &Value::from(number)),
            "{path} {form:?}"
        );
        assert_eq!(body["error"], error);
        let text = body["error_description"].as_str().unwrap();
        assert!(text.starts_with(&format!("AADSTS{number}: ")), "{text}");
        assert!(
            text.contains(" Trace ID: ") && text.contains(" Correlation ID: "),
            "{text}"
        );
        assert!(text.ends_with(&format!(
            "Timestamp: {}",
            body["timestamp"].as_str().unwrap()
        )));
        for key in ["trace_id", "correlation_id", "error_uri"] {
            assert!(body[key].is_string(), "{key}");
        }
    }
}

#[tokio::test]
async fn an_application_of_another_cloud_is_refused() {
    let mut config = generated(10, 10);
    config.tenants[0].other_cloud = true;
    let stage = Stage::new(config).await;
    assert!(stage.token.is_empty());
    assert_eq!(stage.simulator.stats().count("token", "AADSTS900382"), 1);
}

#[tokio::test]
async fn throttled_and_unavailable_token_endpoints_name_a_time_to_wait() {
    let stage = Stage::new(generated(10, 10)).await;
    for (throttled, unavailable, status) in [(1.0, 0.0, 429), (0.0, 1.0, 503)] {
        let tokens = TokenFaults {
            throttled,
            unavailable,
            retry_after_seconds: Some(7),
            ..TokenFaults::default()
        };
        stage.simulator.control().set_faults(Faults {
            tokens,
            most_in_a_row: 0,
            ..Faults::default()
        });
        let path = format!("{}/oauth2/v2.0/token", stage.tenant.id);
        let response = ask(&stage, &path, &[]).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(read(response).await.1["error"], "temporarily_unavailable");
    }
}

#[tokio::test]
async fn tokens_end_when_they_say_or_earlier() {
    let mut config = generated(10, 10);
    config.faults.tokens.lifetime_seconds = 60;
    let stage = Stage::new(config).await;
    let control = stage.simulator.control();
    assert_eq!(stage.json("subscriptions/list").await.0, 200);
    control.advance(TimeDelta::seconds(61));
    let response = stage.get("subscriptions/list").await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(response.status(), 401);

    let tokens = TokenFaults {
        refused_after_seconds: Some(10),
        ..TokenFaults::default()
    };
    control.set_faults(Faults {
        tokens,
        ..Faults::default()
    });
    let token = stage.new_token().await;
    let ask = async || {
        stage
            .http
            .get(stage.url("subscriptions/list"))
            .bearer_auth(&token)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(ask().await.status(), 200);
    control.advance(TimeDelta::seconds(11));
    assert_eq!(ask().await.status(), 401);
}

#[tokio::test]
async fn only_good_tokens_open_the_api() {
    let stage = Stage::new(generated(10, 10)).await;
    let url = stage.url("subscriptions/list");
    let with = async |value: String| {
        stage
            .http
            .get(&url)
            .header("Authorization", value)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(stage.http.get(&url).send().await.unwrap().status(), 401);
    assert_eq!(with("Bearer garbage".to_owned()).await, 401);
    assert_eq!(with(format!("Bearer {}x", stage.token)).await, 401);
    assert_eq!(with(format!("Basic {}", stage.token)).await, 401);
    // The scheme's case does not matter.
    assert_eq!(with(format!("bearer {}", stage.token)).await, 200);
}

#[tokio::test]
async fn tenant_and_permission_of_the_token_are_checked() {
    let mut config = generated(10, 10);
    config.tenants.push(TenantConfig {
        id: "22222222-2222-4222-8222-222222222222".to_owned(),
        domain: "fabrikam.example".to_owned(),
        ..TenantConfig::default()
    });
    let powerless = AppConfig {
        client_id: "33333333-3333-4333-8333-333333333333".to_owned(),
        client_secret: "s".to_owned(),
        roles: vec!["ServiceHealth.Read".to_owned()],
    };
    config.tenants[0].other_apps.push(powerless.clone());
    let stage = Stage::new(config).await;
    let at = |tenant: &str| {
        format!(
            "{}/api/v1.0/{tenant}/activity/feed/subscriptions/list",
            stage.simulator.url()
        )
    };
    let other = read(
        stage
            .get_url(&at("22222222-2222-4222-8222-222222222222"))
            .await,
    )
    .await;
    assert_eq!(code(&other), (400, "AF20010".to_owned()));
    let domain = read(stage.get_url(&at("contoso.onmicrosoft.com")).await).await;
    assert_eq!(code(&domain), (400, "AF20013".to_owned()));
    assert_eq!(
        domain.1["error"]["message"],
        "The tenant ID passed in the URL (contoso.onmicrosoft.com) is not a valid GUID."
    );
    let token = stage.token_of(&powerless).await;
    let request = stage
        .http
        .get(stage.url("subscriptions/list"))
        .bearer_auth(token);
    assert_eq!(
        code(&read(request.send().await.unwrap()).await),
        (403, "AF10001".to_owned())
    );
}

#[tokio::test]
async fn statuses_that_microsoft_does_not_document_can_be_chosen() {
    let statuses = [("AF20020".to_owned(), 422)].into();
    let stage = Stage::new(Config {
        statuses,
        ..generated(10, 10)
    })
    .await;
    let answer = stage
        .json("subscriptions/content?contentType=Nonsense")
        .await;
    assert_eq!(answer.0, StatusCode::UNPROCESSABLE_ENTITY);
}
