//! What goes wrong with webhooks, how often that is told, and what it is not taken for.

use std::io;

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, set_default};

use super::*;

/// What is logged as a warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u8>>>);

impl io::Write for Warnings {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Warnings {
    /// Hears what is logged as long as this lives.
    fn hear(&self) -> (DefaultGuard, Dispatch) {
        let writer = self.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false);
        let lines = lines.with_max_level(tracing::Level::WARN);
        let lines = lines.with_writer(move || writer.clone()).finish();
        // As long as there is only one, the thread that meets a line first decides for all; it may be another test's.
        let other = Dispatch::new(tracing_subscriber::registry());
        (set_default(lines), other)
    }

    fn count(&self, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(words)).count()
    }
}

/// Lets time pass for the source and at Microsoft.
async fn pass(service: &Service, minutes: u16) {
    service.minutes.fetch_add(minutes.into(), Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(minutes.into())).await;
    tokio::time::resume();
}

fn with_body(peer: &Peer) -> usize {
    let bodies = starts(peer);
    bodies.iter().filter(|body| !body.is_empty()).count()
}

#[tokio::test]
async fn while_one_content_type_cannot_start_the_webhooks_of_the_others_are_not_told_and_tried_at_each_poll()
 {
    let warnings = Warnings::default();
    let _heard = warnings.hear();
    let disabled = ours(r#","status":"disabled""#);
    let (service, peer) = Service::start(&["Audit.General"], disabled).await;
    *service.refusal.lock().unwrap() = Some("AF20021");
    *service.refusal_without.lock().unwrap() = Some("AF20020");
    let bench = Bench::new(&peer, &with_webhook()).await;
    for hour in 1..=2 {
        for _ in 0..5 {
            bench.list().await.unwrap_err();
        }
        // That of DLP.All is not tried again while it has not started.
        assert_eq!(with_body(&peer), 1 + hour);
        pass(&service, 61).await;
    }
    assert_eq!(warnings.count("has disabled the webhook"), 1);
    assert_eq!(warnings.count("cannot be set"), 2, "one a content type");
    // Once it works, what happens next is new.
    *service.refusal.lock().unwrap() = None;
    bench.list().await.unwrap_err();
    assert_eq!(service.webhook("Audit.General")["status"], "enabled");
    bench.list().await.unwrap_err();
    service.put("Audit.General", ours(r#","status":"disabled""#));
    bench.list().await.unwrap_err();
    assert_eq!(warnings.count("has disabled the webhook"), 2);
}

#[tokio::test]
async fn a_refusal_in_other_words_is_not_told_again_and_another_code_is() {
    let warnings = Warnings::default();
    let _heard = warnings.hear();
    let (service, peer) = Service::start(&["Audit.General", "DLP.All"], Value::Null).await;
    let bench = Bench::new(&peer, &with_webhook()).await;
    for (code, told) in [("AF20098", 2), ("AF20098", 2), ("AF20099", 4)] {
        *service.refusal.lock().unwrap() = Some(code);
        let before = starts(&peer).len();
        list(&bench).await;
        assert_eq!(starts(&peer).len(), before + 2);
        assert_eq!(warnings.count("cannot be set"), told, "{code}");
        pass(&service, 61).await;
    }
}

#[tokio::test]
async fn a_subscription_that_was_enabled_all_along_leaves_no_gap_and_one_that_had_ended_does() {
    let (service, peer) = Service::start(&["Audit.General", "DLP.All"], ours("")).await;
    let mut bench = Bench::new(&peer, &with_webhook()).await;
    list(&bench).await;
    assert!(starts(&peer).is_empty());
    let gaps = async |bench: &Bench| bench.filled.journal.status().await.unwrap().gaps.len();
    // The list of subscriptions lacks it.
    *service.left_out.lock().unwrap() = Some("DLP.All");
    service.minutes.store(10, Ordering::SeqCst);
    bench.restart();
    list(&bench).await;
    assert_eq!(starts(&peer), [""], "it asks whether there is one");
    assert_eq!(gaps(&bench).await, 0);
    service.minutes.store(30, Ordering::SeqCst);
    list(&bench).await;
    assert_eq!(with_body(&peer), 1, "the webhook comes afterwards");
    // It ends indeed.
    *service.left_out.lock().unwrap() = None;
    service.subscriptions.lock().unwrap().remove("DLP.All");
    service.minutes.store(50, Ordering::SeqCst);
    bench.restart();
    list(&bench).await;
    assert_eq!(gaps(&bench).await, 1);
    assert_eq!(service.webhook("DLP.All"), Value::Null);
    service.minutes.store(70, Ordering::SeqCst);
    list(&bench).await;
    assert_eq!(service.webhook("DLP.All")["address"], HOOK);
    assert_eq!(gaps(&bench).await, 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_tenant_or_the_content_type_is_not_laid_to_the_webhook() {
    for code in ["AF10001", "AF20011", "AF20013", "AF20020", "AF20022"] {
        let warnings = Warnings::default();
        let heard = warnings.hear();
        let (service, peer) = Service::start(&[], Value::Null).await;
        *service.refusal.lock().unwrap() = Some(code);
        let bench = Bench::new(&peer, &with_webhook()).await;
        let error = bench.list().await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(starts(&peer).len(), with_body(&peer), "{code}");
        assert_eq!(warnings.count("the webhook cannot be set"), 0, "{code}");
        drop(heard);
    }
}

#[tokio::test]
async fn a_mere_look_has_nothing_to_tell_of_webhooks() {
    let warnings = Warnings::default();
    let _heard = warnings.hear();
    let disabled = ours(r#","status":"disabled""#);
    let (_service, peer) = Service::start(&["Audit.General"], disabled).await;
    let bench = Bench::new(&peer, &with_webhook()).await;
    let now = Utc::now();
    let span = vec![(now - TimeDelta::hours(2), now)];
    bench
        .source
        .survey(&bench.filled.intake, &span)
        .await
        .unwrap();
    let error = bench.list().await.unwrap_err();
    assert_eq!(error.code(), Some("AF20022"));
    assert_eq!(warnings.count("webhook"), 0);
    assert!(starts(&peer).is_empty());
}

#[tokio::test]
async fn check_judges_the_last_notification_whatever_page_it_is_on() {
    let row = |status: &str, hour: &str| {
        format!(
            r#"[{{"notificationStatus":"{status}","notificationSent":"2026-01-01T{hour}:00:00.000Z"}}]"#
        )
    };
    let (failed, well) = (
        |hour| row("failed: HTTP 502", hour),
        |hour| row("success", hour),
    );
    let fine = "Ok: DLP.All: the webhook is enabled";
    let fails = "Warning: DLP.All: the webhook is enabled, but 1 of the 2 notifications of the last two hours failed, the \
                 last at 2026-01-01T02:00:00.000Z: \"failed: HTTP 502\"";
    let unread = "Warning: DLP.All: the webhook is enabled; whether its notifications arrive cannot be asked: ";
    for (first, second, told) in [
        (failed("01"), Reply::ok(well("02")), fine),
        (well("01"), Reply::ok(failed("02")), fails),
        (well("01"), Reply::error(400, "AF20031"), unread),
        (well("01"), Reply::ok("<html>"), unread),
    ] {
        let second = Mutex::new(Some(second));
        let peer = tenant(move |seen| {
            if seen.target.contains("/subscriptions/list") {
                let entry = serde_json::json!({"contentType": "DLP.All", "status": "enabled", "webhook": ours("")});
                return Some(Reply::ok(Value::from(vec![entry]).to_string()));
            }
            if !seen.target.contains("/subscriptions/notifications") {
                return None;
            }
            if parameter(&seen.target, "nextPage").is_some() {
                return second.lock().unwrap().take();
            }
            let next = format!("http://{}{}&nextPage=2", host(seen), seen.target);
            Some(Reply::ok(first.clone()).with("nextpageuri", next))
        })
        .await;
        let found = source(&peer, &with_webhook().replace("\"Audit.General\", ", ""))
            .check()
            .await;
        let mut found = found.iter();
        let of_webhook = |one: &&Finding| one.message.starts_with("DLP.All: the webhook");
        let found = found.find(of_webhook).unwrap();
        let found = format!("{:?}: {}", found.severity, found.message);
        assert!(found.starts_with(told), "{told}\n{found}");
        let calls = peer.calls();
        let mut asked = calls.iter().filter(|call| call.contains("/notifications"));
        let first = asked.next().unwrap();
        // Two hours, for what failed earlier may be mended.
        assert!((119..=120).contains(&begins_ago(first)), "{first}");
    }
}
