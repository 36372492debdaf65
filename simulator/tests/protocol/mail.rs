//! Graph's `sendMail`.

use audit_exporter_simulator::{Records, TenantConfig};
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::client::{Stage, config, tenant};

const MIME: &str = "From: a@contoso.example\r\nTo: b@contoso.example\r\n\r\nGrüße\r\n";

async fn stage(roles: &[&str]) -> Stage {
    Stage::new(config(TenantConfig {
        roles: roles.iter().map(ToString::to_string).collect(),
        mailboxes: vec!["a@contoso.example".to_owned()],
        ..tenant(Records::Explicit(Vec::new()))
    }))
    .await
}

/// Sends as `sender`; the status and the error's code.
async fn send(stage: &Stage, sender: &str, token: &str, body: String) -> (u16, String) {
    let url = format!("{}/v1.0/users/{sender}/sendMail", stage.simulator.url());
    let request = stage
        .http
        .post(url)
        .bearer_auth(token)
        .header("Content-Type", "text/plain");
    let answer = request.body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let error: serde_json::Value = answer.json().await.unwrap_or_default();
    let code = error["error"]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}

#[tokio::test]
async fn a_message_in_base64_is_accepted_and_kept() {
    let stage = stage(&["Mail.Send"]).await;
    let body = BASE64_STANDARD.encode(MIME);
    let answer = send(&stage, "a@contoso.example", &stage.token, body).await;
    assert_eq!(answer, (202, String::new()));
    let mails = stage.simulator.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].tenant.as_str(), mails[0].mime.as_str()),
        (stage.tenant.id.as_str(), MIME)
    );
}

#[tokio::test]
async fn refusals_are_those_of_graph() {
    let body = || BASE64_STANDARD.encode(MIME);
    let may = stage(&["Mail.Send"]).await;
    let may_not = stage(&["ActivityFeed.Read"]).await;
    for (stage, sender, token, body, expected) in [
        (
            &may,
            "a@contoso.example",
            "x",
            body(),
            (401, "InvalidAuthenticationToken"),
        ),
        (
            &may_not,
            "a@contoso.example",
            &*may_not.token,
            body(),
            (403, "ErrorAccessDenied"),
        ),
        (
            &may,
            "c@contoso.example",
            &*may.token,
            body(),
            (404, "ErrorInvalidUser"),
        ),
        (
            &may,
            "a@contoso.example",
            &*may.token,
            "no base64".to_owned(),
            (400, "ErrorMimeContentInvalidBase64String"),
        ),
        (
            &may,
            "a@contoso.example",
            &*may.token,
            "x".repeat((4 << 20) + 1),
            (413, "RequestEntityTooLarge"),
        ),
    ] {
        let (status, code) = send(stage, sender, token, body).await;
        assert_eq!((status, code.as_str()), expected);
        assert_eq!(stage.simulator.mails(), []);
    }
}
