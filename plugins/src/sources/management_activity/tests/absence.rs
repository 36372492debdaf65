//! The time without a subscription is on record, whatever becomes of the request that starts it again.

use std::sync::Mutex;

use audit_exporter_core::journal::GapStatus;
use tokio::sync::Notify;

use super::listing::ONE;
use super::*;

/// What becomes of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Start {
    /// It is done and answered.
    #[default]
    Answered,
    /// It is done, but a gateway loses the answer.
    Lost,
    /// A gateway loses the request.
    Undone,
    /// It is refused.
    Refused,
}

/// A tenant's only subscription.
#[derive(Default)]
struct Service {
    is_enabled: AtomicUsize,
    /// It is denied wherever it is asked for, but by a start.
    is_hidden: AtomicUsize,
    start: Mutex<Start>,
    starts: AtomicUsize,
    started: Notify,
    minutes: AtomicI64,
}

impl Service {
    fn answer(&self, seen: &Seen) -> Reply {
        let is_enabled = self.is_enabled.load(Ordering::SeqCst) == 1;
        let is_shown = is_enabled && self.is_hidden.load(Ordering::SeqCst) == 0;
        if seen.target.contains("/subscriptions/list") {
            let shown = r#"[{"contentType":"Audit.General","status":"enabled"}]"#;
            return Reply::ok(if is_shown { shown } else { "[]" });
        }
        if !seen.target.contains("/subscriptions/start") {
            return if is_shown {
                Reply::ok("[]")
            } else {
                Reply::error(400, "AF20022")
            };
        }
        self.starts.fetch_add(1, Ordering::SeqCst);
        self.started.notify_one();
        let start = *self.start.lock().unwrap();
        if matches!(start, Start::Answered | Start::Lost) {
            self.is_enabled.store(1, Ordering::SeqCst);
        }
        match start {
            Start::Refused => Reply::error(403, "AF429"),
            Start::Lost | Start::Undone => Reply::new(502, "<html>"),
            Start::Answered if is_enabled => Reply::error(400, "AF20024"),
            Start::Answered => Reply::ok("{}"),
        }
    }
}

/// A source that has listed all, and then time passes: the subscription has ended, or is hidden.
struct Scene {
    service: Arc<Service>,
    bench: Bench,
    _peer: Peer,
}

impl Scene {
    async fn of(options: &str) -> Self {
        let service = Arc::new(Service::default());
        service.is_enabled.store(1, Ordering::SeqCst);
        let minutes = |service: &Service| service.minutes.load(Ordering::SeqCst);
        let peer = tenant_ahead(&service, minutes, Service::answer).await;
        let bench = Bench::new(&peer, &format!("{ONE}start = \"10m\"\n{options}")).await;
        let scene = Self {
            service,
            bench,
            _peer: peer,
        };
        scene.list().await.unwrap();
        scene
    }

    async fn ended(options: &str) -> Self {
        let mut scene = Self::of(options).await;
        scene.service.is_enabled.store(0, Ordering::SeqCst);
        scene.passes(60);
        scene
    }

    async fn hidden() -> Self {
        let mut scene = Self::of("").await;
        scene.hide(true);
        scene.passes(60);
        scene
    }

    fn hide(&self, is_hidden: bool) {
        self.service
            .is_hidden
            .store(is_hidden.into(), Ordering::SeqCst);
    }

    fn start_is(&self, start: Start) {
        *self.service.start.lock().unwrap() = start;
    }

    /// So many minutes after the first listing, in a new process.
    fn passes(&mut self, minutes: i64) {
        self.service.minutes.store(minutes, Ordering::SeqCst);
        self.bench.restart();
    }

    async fn list(&self) -> Result<()> {
        while self.bench.list().await? == Next::Now {}
        Ok(())
    }

    /// Lists until the start has reached the service, and no further: the answer is never dealt with.
    async fn list_until_killed(&self) {
        tokio::select! {
            biased;
            () = self.service.started.notified() => {}
            listed = self.list() => panic!("nothing was started: {listed:?}"),
        }
    }

    async fn gaps(&self) -> Vec<GapStatus> {
        self.bench.filled.journal.status().await.unwrap().gaps
    }

    /// The only gap is from the first listing on for so many minutes, and its reason says this.
    async fn assert_gap(&self, minutes: i64, says: &str) {
        let gaps = self.gaps().await;
        let [gap] = &*gaps else {
            panic!("{gaps:?}");
        };
        let seconds = (gap.to_ms - gap.from_ms) / 1000;
        assert!((seconds - minutes * 60).abs() <= 30, "{gap:?}");
        assert!(gap.reason.contains(says), "{}", gap.reason);
    }

    /// In whatever state it is, no gap comes now that all is well.
    async fn assert_at_rest(&mut self, minutes: i64) {
        let before = self.gaps().await.len();
        self.passes(minutes);
        self.list().await.unwrap();
        assert_eq!(self.gaps().await.len(), before);
    }
}

const SURE: &str = "there was no subscription, so";
const UNSURE: &str = "or all of it";

#[tokio::test]
async fn a_start_whose_answer_is_lost_hides_no_gap() {
    for is_restarted in [false, true] {
        let mut scene = Scene::ended("").await;
        scene.start_is(Start::Lost);
        let error = scene.list().await.unwrap_err();
        assert!(error.to_string().contains("HTTP 502"), "{error}");
        if is_restarted {
            scene.passes(70);
        }
        scene.list().await.unwrap();
        scene
            .assert_gap(if is_restarted { 70 } else { 60 }, UNSURE)
            .await;
        assert_eq!(scene.service.starts.load(Ordering::SeqCst), 1);
        scene.assert_at_rest(90).await;
    }
}

#[tokio::test]
async fn a_kill_after_a_start_that_was_accepted_hides_no_gap() {
    let mut scene = Scene::ended("").await;
    scene.list_until_killed().await;
    assert!(scene.gaps().await.is_empty());
    scene.passes(62);
    scene.list().await.unwrap();
    scene.assert_gap(62, UNSURE).await;
    scene.assert_at_rest(90).await;
}

#[tokio::test]
async fn a_kill_before_a_start_is_done_leaves_the_gap_to_the_start_that_is() {
    let mut scene = Scene::ended("").await;
    scene.start_is(Start::Undone);
    scene.list_until_killed().await;
    scene.start_is(Start::Answered);
    // It is too early to ask again.
    scene.passes(62);
    scene.list().await.unwrap_err();
    assert!(scene.gaps().await.is_empty());
    scene.passes(76);
    scene.list().await.unwrap();
    scene.assert_gap(76, SURE).await;
    scene.assert_at_rest(100).await;
}

#[tokio::test]
async fn a_start_that_shows_after_minutes_leaves_one_gap() {
    let mut scene = Scene::ended("").await;
    scene.hide(true);
    scene.list().await.unwrap_err();
    scene.passes(65);
    scene.list().await.unwrap_err();
    scene.hide(false);
    scene.passes(70);
    scene.list().await.unwrap();
    scene.assert_gap(60, SURE).await;
    assert_eq!(scene.service.starts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_subscription_that_was_enabled_all_along_leaves_no_gap_though_a_start_was_refused() {
    for is_refused in [false, true] {
        let mut scene = Scene::hidden().await;
        if is_refused {
            scene.start_is(Start::Refused);
            scene.list().await.unwrap_err();
            scene.start_is(Start::Answered);
        }
        // The start says that it is enabled.
        scene.list().await.unwrap_err();
        assert_eq!(
            scene.service.starts.load(Ordering::SeqCst),
            1 + usize::from(is_refused)
        );
        scene.hide(false);
        scene.assert_at_rest(90).await;
        assert!(scene.gaps().await.is_empty());
    }
}

#[tokio::test]
async fn a_gap_that_nobody_can_tell_from_none_is_on_record_and_says_so() {
    let mut scene = Scene::hidden().await;
    scene.start_is(Start::Undone);
    scene.list().await.unwrap_err();
    scene.start_is(Start::Answered);
    scene.list().await.unwrap_err();
    assert_eq!(scene.service.starts.load(Ordering::SeqCst), 2);
    scene.assert_gap(60, UNSURE).await;
    scene.hide(false);
    scene.assert_at_rest(90).await;
}

#[tokio::test]
async fn a_subscription_that_somebody_else_starts_again_hides_no_gap() {
    let mut scene = Scene::ended("start_subscriptions = false").await;
    scene.list().await.unwrap_err();
    scene.service.is_enabled.store(1, Ordering::SeqCst);
    scene.passes(120);
    scene.list().await.unwrap();
    scene.assert_gap(120, UNSURE).await;
    assert_eq!(scene.service.starts.load(Ordering::SeqCst), 0);
    scene.assert_at_rest(150).await;
}

#[tokio::test]
async fn a_first_start_whose_answer_is_lost_has_no_gap_before_it() {
    let mut scene = Scene::ended("").await;
    let filled = Filled::of(scene.bench.filled.intake.tenant().clone());
    scene.bench.filled = filled.await;
    scene.start_is(Start::Lost);
    scene.list().await.unwrap_err();
    scene.list().await.unwrap();
    assert!(scene.gaps().await.is_empty());
}

#[tokio::test]
async fn what_went_out_of_reach_after_a_first_start_that_was_lost_is_on_record() {
    let mut scene = Scene::ended("").await;
    let filled = Filled::of(scene.bench.filled.intake.tenant().clone());
    scene.bench.filled = filled.await;
    scene.start_is(Start::Lost);
    scene.list().await.unwrap_err();
    scene.passes(60 + 10 * 24 * 60);
    scene.list().await.unwrap();
    let gaps = scene.gaps().await;
    let [gap] = &*gaps else {
        panic!("{gaps:?}");
    };
    let hours = (gap.to_ms - gap.from_ms) / 3_600_000;
    assert!((72..=73).contains(&hours), "{gap:?}");
}
