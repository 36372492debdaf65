//! What the webhook asks of Microsoft, and what a notification does.

use std::collections::BTreeMap;
use std::sync::Mutex;

use audit_exporter_core::plugin::Heard;
use serde_json::Value;

use super::*;

mod trouble;

const WORD: &str = "correct-horse-battery-staple";
const OPTIONS: &str =
    "content_types = [\"Audit.General\", \"DLP.All\"]\nstart = \"10m\"\npoll_interval = \"6h\"\n";

fn with_webhook() -> String {
    format!("{OPTIONS}webhook = true\nwebhook_auth_id = \"{WORD}\"\n")
}

/// What `subscriptions/list` says, by content type, and what a start does to it.
#[derive(Default)]
struct Service {
    subscriptions: Mutex<BTreeMap<String, Value>>,
    /// The code that starts with a webhook are refused with.
    refusal: Mutex<Option<&'static str>>,
    refused: AtomicUsize,
    /// The code that starts without one are refused with.
    refusal_without: Mutex<Option<&'static str>>,
    /// A content type that `subscriptions/list` leaves out.
    left_out: Mutex<Option<&'static str>>,
    minutes: AtomicI64,
}

impl Service {
    /// A service with these subscriptions, all with this webhook.
    async fn start(content_types: &[&str], webhook: Value) -> (Arc<Self>, Peer) {
        let service = Arc::new(Self::default());
        for content_type in content_types {
            service.put(content_type, webhook.clone());
        }
        let minutes = |service: &Self| service.minutes.load(Ordering::SeqCst);
        let peer = tenant_ahead(&service, minutes, Self::answer).await;
        (service, peer)
    }

    fn put(&self, content_type: &str, webhook: Value) {
        let mut entry = serde_json::json!({"contentType": content_type, "status": "enabled"});
        entry["webhook"] = webhook;
        let mut all = self.subscriptions.lock().unwrap();
        all.insert(content_type.to_owned(), entry);
    }

    fn webhook(&self, content_type: &str) -> Value {
        self.subscriptions.lock().unwrap()[content_type]["webhook"].clone()
    }

    fn answer(&self, seen: &Seen) -> Reply {
        if seen.target.contains("/subscriptions/list") {
            let left_out = self.left_out.lock().unwrap().unwrap_or_default();
            let all = self.subscriptions.lock().unwrap();
            let shown = all.iter().filter(|(name, _)| *name != left_out);
            let all: Vec<Value> = shown.map(|(_, entry)| entry.clone()).collect();
            return Reply::ok(Value::from(all).to_string());
        }
        let content_type = parameter(&seen.target, "contentType").unwrap_or_default();
        let known = self
            .subscriptions
            .lock()
            .unwrap()
            .contains_key(&content_type);
        if !seen.target.contains("/subscriptions/start") {
            return if known {
                Reply::ok("[]")
            } else {
                Reply::error(400, "AF20022")
            };
        }
        if seen.body.is_empty() {
            let unchanged = known.then_some("AF20024");
            if let Some(code) = self.refusal_without.lock().unwrap().or(unchanged) {
                return Reply::error(400, code);
            }
            self.put(&content_type, Value::Null);
            return Reply::ok("{}");
        }
        if let Some(code) = *self.refusal.lock().unwrap() {
            // Microsoft's words name the request.
            let nth = self.refused.fetch_add(1, Ordering::SeqCst);
            let error =
                serde_json::json!({"code": code, "message": format!("Request {nth} is refused")});
            let body = serde_json::json!({"error": error}).to_string();
            return Reply::new(400, body);
        }
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        let mut webhook = body["webhook"].clone();
        webhook["status"] = "enabled".into();
        let is_none = webhook["address"] == "";
        self.put(&content_type, if is_none { Value::Null } else { webhook });
        Reply::ok("{}")
    }
}

/// A webhook as the service lists it.
fn ours(more: &str) -> Value {
    let text = format!(
        r#"{{"status":"enabled","address":"{HOOK}","authId":"{WORD}","expiration":null{more}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

/// The bodies of all starts.
fn starts(peer: &Peer) -> Vec<String> {
    let starts = peer.seen().into_iter();
    let starts = starts.filter(|seen| seen.target.contains("/subscriptions/start"));
    starts.map(|seen| seen.body).collect()
}

fn listings(peer: &Peer, content_type: &str) -> usize {
    let calls = peer.calls().into_iter();
    let is_listing = |call: &String| {
        call.contains("/subscriptions/content")
            && parameter(call, "contentType").as_deref() == Some(content_type)
    };
    calls.filter(is_listing).count()
}

/// Lists until there is nothing more to do before the next poll.
async fn list(bench: &Bench) -> Duration {
    loop {
        if let Next::After(wait) = bench.list().await.unwrap() {
            return wait;
        }
    }
}

fn notify(bench: &Bench, content_type: &str) -> Heard {
    let mut headers = HeaderMap::new();
    headers.insert("webhook-authid", WORD.parse().unwrap());
    assert!(bench.source.expects(&headers));
    let body = format!(r#"[{{"tenantId":"{TENANT}","contentType":"{content_type}"}}]"#);
    bench.source.notified(&headers, body.as_bytes())
}

#[tokio::test]
async fn a_subscription_is_started_with_its_webhook() {
    let (service, peer) = Service::start(&[], Value::Null).await;
    let bench = Bench::new(&peer, &with_webhook()).await;
    list(&bench).await;
    assert_eq!(starts(&peer).len(), 2);
    assert_eq!(service.webhook("DLP.All")["address"], HOOK);
    assert_eq!(service.webhook("DLP.All")["authId"], WORD);
    list(&bench).await;
    assert_eq!(starts(&peer).len(), 2, "it is there");
}

#[tokio::test]
async fn a_webhook_that_microsoft_refuses_costs_no_subscription() {
    for code in ["AF20021", "AF20003", "AF20099"] {
        let (service, peer) = Service::start(&[], Value::Null).await;
        *service.refusal.lock().unwrap() = Some(code);
        let mut bench = Bench::new(&peer, &with_webhook()).await;
        list(&bench).await;
        assert_eq!(listings(&peer, "Audit.General"), 1, "{code}");
        let mut bodies = starts(&peer);
        bodies.sort();
        assert_eq!(bodies.iter().filter(|body| body.is_empty()).count(), 2);
        assert_eq!(bodies.len(), 4, "each with it, and then without");
        // It is there now: the webhook is tried again when that is allowed, and no sooner.
        *service.refusal.lock().unwrap() = None;
        bench.restart();
        list(&bench).await;
        assert_eq!(starts(&peer).len(), 4, "{code}");
        service.minutes.store(16, Ordering::SeqCst);
        bench.restart();
        list(&bench).await;
        assert_eq!(service.webhook("Audit.General")["address"], HOOK, "{code}");
        assert!(bench.filled.journal.status().await.unwrap().gaps.is_empty());
    }
}

#[tokio::test]
async fn a_webhook_that_is_not_as_it_should_be_is_set_again_and_then_listed_once_more() {
    let soon = Utc::now() + TimeDelta::days(2);
    let ending = ours(&format!(r#","expiration":"{}""#, soon.to_rfc3339()));
    for webhook in [
        Value::Null,
        ours(r#","status":"disabled""#),
        ours(r#","status":"expired""#),
        ours(r#","authId":"an-older-word-of-ours""#),
        ours(r#","address":"https://elsewhere.example""#),
        // Not to be read: no reason not to read the subscription.
        serde_json::json!({"address": 7}),
        ending,
    ] {
        let (service, peer) = Service::start(&["Audit.General", "DLP.All"], webhook.clone()).await;
        let bench = Bench::new(&peer, &with_webhook()).await;
        assert_eq!(bench.list().await.unwrap(), Next::Now, "{webhook}");
        list(&bench).await;
        assert_eq!(starts(&peer).len(), 2, "{webhook}");
        let now = service.webhook("DLP.All");
        assert_eq!(
            (&now["status"], &now["authId"]),
            (&"enabled".into(), &WORD.into())
        );
        assert_eq!(listings(&peer, "DLP.All"), 2);
    }
    let (_service, peer) = Service::start(&["Audit.General", "DLP.All"], ours("")).await;
    let bench = Bench::new(&peer, &with_webhook()).await;
    list(&bench).await;
    assert!(starts(&peer).is_empty(), "one that works is left alone");
}

#[tokio::test]
async fn a_refused_webhook_of_an_enabled_subscription_fails_no_listing() {
    let (service, peer) = Service::start(&["Audit.General", "DLP.All"], Value::Null).await;
    for code in ["AF20021", "AF429", "AF50000"] {
        *service.refusal.lock().unwrap() = Some(code);
        let bench = Bench::new(&peer, &with_webhook()).await;
        list(&bench).await;
        list(&bench).await;
    }
    let bodies = starts(&peer);
    assert_eq!(bodies.len(), 3 * 2, "not at each poll");
    assert!(bodies.iter().all(|body| !body.is_empty()));
}

#[tokio::test]
async fn without_the_option_our_webhook_is_taken_away_and_no_other() {
    let (service, peer) = Service::start(&["Audit.General", "DLP.All"], Value::Null).await;
    let mut bench = Bench::new(&peer, &with_webhook()).await;
    list(&bench).await;
    // Addresses may be spelt in another way.
    service.put(
        "Audit.General",
        ours(r#","address":"HTTP://127.0.0.1:9/audit/./contoso""#),
    );
    // Somebody has given this one to another program meanwhile.
    let theirs = ours(r#","address":"https://elsewhere.example""#);
    service.put("DLP.All", theirs.clone());
    service.minutes.store(16, Ordering::SeqCst);
    bench.options = OPTIONS.to_owned();
    for _ in 0..2 {
        bench.restart();
        list(&bench).await;
    }
    assert_eq!(service.webhook("Audit.General"), Value::Null);
    assert_eq!(service.webhook("DLP.All"), theirs);
    assert_eq!(starts(&peer).len(), 3);
}

#[tokio::test]
async fn what_is_told_of_is_listed_alone_and_the_poll_stays_when_it_was() {
    let (_service, peer) = Service::start(&["Audit.General", "DLP.All"], ours("")).await;
    let bench = Bench::new(&peer, &with_webhook()).await;
    let poll = list(&bench).await;
    for content_type in ["audit.general", "Audit.General"] {
        assert_eq!(notify(&bench, content_type), Heard::News);
    }
    // Not collected here, or not known.
    for content_type in ["Audit.Exchange", "Audit.Unheard"] {
        assert_eq!(notify(&bench, content_type), Heard::Nothing);
    }
    let rest = list(&bench).await;
    assert!(
        rest <= poll && rest > poll.saturating_sub(Duration::from_mins(5)),
        "{rest:?} of {poll:?}"
    );
    assert_eq!(
        (listings(&peer, "Audit.General"), listings(&peer, "DLP.All")),
        (2, 1)
    );
    // Without news it is a poll.
    list(&bench).await;
    assert_eq!(
        (listings(&peer, "Audit.General"), listings(&peer, "DLP.All")),
        (3, 2)
    );
}

#[tokio::test]
async fn after_a_failure_everything_is_listed_whatever_the_news() {
    let fails = Arc::new(AtomicUsize::new(0));
    let failing = Arc::clone(&fails);
    let peer = tenant(move |seen| {
        let is_listing = seen.target.contains("/subscriptions/content");
        (is_listing && failing.load(Ordering::SeqCst) > 0).then(|| Reply::new(502, "<html>"))
    })
    .await;
    let bench = Bench::new(&peer, &with_webhook()).await;
    list(&bench).await;
    fails.store(1, Ordering::SeqCst);
    notify(&bench, "DLP.All");
    assert_eq!(bench.list().await.unwrap_err().kind(), Kind::Unavailable);
    fails.store(0, Ordering::SeqCst);
    let before = listings(&peer, "Audit.General");
    notify(&bench, "DLP.All");
    list(&bench).await;
    assert!(listings(&peer, "Audit.General") > before);
}

#[tokio::test]
async fn without_the_option_nobody_is_expected() {
    let (_service, peer) = Service::start(&["Audit.General"], ours("")).await;
    let bench = Bench::new(&peer, OPTIONS).await;
    assert!(!bench.source.expects(&HeaderMap::new()));
    let context = testing::context(
        testing::tenant(&peer.url, ""),
        &with_webhook(),
        Clock::system(),
    );
    let error = ManagementActivity::new(&context).err().unwrap().to_string();
    assert!(error.contains("webhooks.public_url"), "{error}");
}

#[tokio::test]
async fn check_tells_how_each_webhook_stands() {
    let (service, peer) = Service::start(&["Audit.General", "DLP.All"], ours("")).await;
    let source = source(&peer, &with_webhook());
    let told = async || {
        let found = source.check().await;
        let line = |finding: Finding| format!("{:?}: {}\n", finding.severity, finding.message);
        found.into_iter().map(line).collect::<String>()
    };
    assert!(told().await.contains("Ok: DLP.All: the webhook is enabled"));
    for (webhook, says) in [
        (
            Value::Null,
            "Warning: DLP.All: there is no webhook yet; a run sets it",
        ),
        (
            ours(r#","status":"disabled""#),
            "Warning: DLP.All: Microsoft has disabled the webhook",
        ),
        (
            ours(r#","status":"expired""#),
            "Warning: DLP.All: the webhook has expired",
        ),
        (
            ours(r#","authId":"other""#),
            "Warning: DLP.All: the webhook has another webhook_auth_id",
        ),
        (
            ours(r#","address":"https://else.example/""#),
            "another address, at else.example;",
        ),
    ] {
        service.put("DLP.All", webhook);
        let told = told().await;
        assert!(told.contains(says), "{says}\n{told}");
        assert!(!told.contains(WORD), "{told}");
    }
    assert!(starts(&peer).is_empty());
}
