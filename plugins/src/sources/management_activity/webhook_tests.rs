use audit_exporter_core::clock::Clock;
use chrono::TimeZone;

use super::*;
use crate::microsoft::testing::{self, TENANT};

const WORD: &str = "correct-horse-battery-staple";
const HOOK: &str = "https://hooks.example.com/audit/contoso";
const APP: &str = "9a1b0000-0000-0000-0000-000000000001";

fn try_webhook(auth_id: Secret) -> Result<Webhook> {
    let tenant = testing::tenant("https://manage.office.com", "");
    let access = Access::of(&tenant).unwrap();
    let context = Context {
        webhook: Some(Url::parse(HOOK).unwrap()),
        ..testing::context(tenant, "", Clock::system())
    };
    Webhook::new(&context, &access, auth_id)
}

fn webhook() -> Webhook {
    try_webhook(Secret::literal(WORD)).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name = reqwest::header::HeaderName::from_static(name);
        (name, HeaderValue::from_str(value).unwrap())
    });
    pairs.collect()
}

#[test]
fn only_the_whole_word_makes_a_request_microsofts() {
    let webhook = webhook();
    assert!(webhook.expects(&headers(&[("webhook-authid", WORD)])));
    for wrong in [
        "",
        "correct-horse-battery-stapl",
        "CORRECT-HORSE-BATTERY-STAPLE",
    ] {
        assert!(
            !webhook.expects(&headers(&[("webhook-authid", wrong)])),
            "{wrong}"
        );
    }
    assert!(!webhook.expects(&headers(&[("authorization", WORD)])));
    assert!(!webhook.expects(&HeaderMap::new()));
}

#[test]
fn a_word_that_is_too_short_or_no_header_is_refused_and_not_shown() {
    for wrong in [
        "short-word",
        "a word with spaces",
        "wörter-sind-nicht-ascii",
        &"x".repeat(129),
    ] {
        let error = try_webhook(Secret::literal(wrong))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("webhook_auth_id: expected 16 to 128"),
            "{error}"
        );
        assert!(!error.contains(wrong), "{error}");
    }
}

#[test]
fn nobody_is_expected_while_the_word_cannot_be_read_and_a_new_one_is_taken_up() {
    #[derive(serde::Deserialize)]
    struct Keys {
        key: Secret,
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("word");
    let text = format!("key = {{ file = {file:?} }}");
    let options = Options::from_toml("sources.audit", &text);
    let webhook = try_webhook(options.parse::<Keys>().unwrap().key).unwrap();
    assert!(!webhook.expects(&headers(&[("webhook-authid", "")])));
    assert_eq!(
        webhook.start_body(Utc::now()).unwrap_err().kind(),
        Kind::Auth
    );
    for word in [WORD, "another-word-another-day"] {
        std::fs::write(&file, format!("{word}\n")).unwrap();
        webhook.renew_auth_id();
        assert!(webhook.expects(&headers(&[("webhook-authid", word)])));
    }
    // What is no word leaves the one before.
    std::fs::write(&file, "short").unwrap();
    webhook.renew_auth_id();
    assert!(webhook.expects(&headers(&[("webhook-authid", "another-word-another-day")])));
}

#[test]
fn a_validation_names_the_same_code_twice() {
    let webhook = webhook();
    let asked = headers(&[("webhook-validationcode", "abc")]);
    let read = |body: &str| webhook.read(&asked, body.as_bytes());
    assert_eq!(
        read(r#"{"validationCode":"abc"}"#),
        Some(Message::Validation)
    );
    for wrong in [
        r#"{"validationCode":"abd"}"#,
        "{}",
        "[]",
        "",
        r#"{"validationCode":1}"#,
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn of_a_notification_only_content_types_of_this_tenant_and_app_are_taken() {
    let webhook = webhook();
    let read = |body: &str| webhook.read(&HeaderMap::new(), body.as_bytes());
    let row = |tenant: &str, app: &str, content_type: &str| {
        format!(
            r#"{{"tenantId":"{tenant}","clientId":"{app}","contentType":"{content_type}","contentId":"x","contentUri":"https://evil.example/x"}}"#
        )
    };
    let rows = [
        row(&TENANT.to_uppercase(), APP, "audit.general"),
        row(TENANT, APP, "DLP.All"),
        row(TENANT, APP, "Audit.Unheard"),
        row("another", APP, "Audit.Exchange"),
        row(TENANT, "another", "Audit.SharePoint"),
        r#"{"contentType":7}"#.to_owned(),
        "null".to_owned(),
    ];
    let taken = Message::Content(["Audit.General", "DLP.All"].into());
    assert_eq!(read(&format!("[{}]", rows.join(","))), Some(taken));
    assert_eq!(read("[]"), Some(Message::Content(BTreeSet::new())));
    for wrong in ["", "{}", "[", "<html>", "null"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

fn listed(text: &str) -> Listed {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_state_of_a_webhook_is_told_apart() {
    let webhook = webhook();
    let now = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
    let state = |more: &str| {
        let text = format!(r#"{{"status":"enabled","address":"{HOOK}","authId":"{WORD}"{more}}}"#);
        webhook.state(Some(&listed(&text)), now)
    };
    let at = |day| Utc.with_ymd_and_hms(2026, 3, day, 0, 0, 0).unwrap();
    assert_eq!(webhook.state(None, now), State::Missing);
    assert_eq!(webhook.state(Some(&listed("{}")), now), State::Missing);
    assert_eq!(state(r#","expiration":null"#), State::Working(None));
    assert_eq!(
        state(r#","expiration":"2026-03-12T00:00:00Z""#),
        State::Working(Some(at(12)))
    );
    assert_eq!(
        state(r#","expiration":"2026-03-06T00:00:00""#),
        State::Ending(at(6))
    );
    assert_eq!(
        state(r#","expiration":"2026-03-01T11:59:59Z""#),
        State::Expired
    );
    for (text, wanted) in [
        (r#"{"status":"Expired","address":"HOOK"}"#, State::Expired),
        (r#"{"status":"disabled","address":"HOOK"}"#, State::Disabled),
        (
            r#"{"status":"enabled","address":"HOOK"}"#,
            State::Working(None),
        ),
        (
            r#"{"status":"enabled","address":"HOOK","authId":"old"}"#,
            State::OtherAuthId,
        ),
        (
            r#"{"status":"enabled","address":"https://other.example/x"}"#,
            State::Elsewhere("other.example".into()),
        ),
        (
            r#"{"status":"enabled","address":"HOOK2"}"#,
            State::Elsewhere("hooks.example.com".into()),
        ),
    ] {
        let listed = listed(&text.replace("HOOK", HOOK));
        assert_eq!(webhook.state(Some(&listed), now), wanted, "{text}");
    }
}

#[test]
fn a_start_names_the_address_the_word_and_an_end() {
    let now = Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap();
    let body: Value = serde_json::from_str(&webhook().start_body(now).unwrap()).unwrap();
    assert_eq!(
        body,
        json!({"webhook": {"address": HOOK, "authId": WORD, "expiration": "2026-03-15T12:00:00Z"}})
    );
    let none: Value = serde_json::from_str(NONE).unwrap();
    assert_eq!(none["webhook"]["address"], "");
}

#[test]
fn a_listed_word_is_not_shown() {
    let shown = format!("{:?}", listed(&format!(r#"{{"authId":"{WORD}"}}"#)));
    assert!(!shown.contains(WORD), "{shown}");
}
