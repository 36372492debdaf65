//! Another configuration while it runs.

use super::fakes::{Fate, World};
use super::*;
use crate::engine::reload::Reloaded;

const MINUTE: Duration = Duration::from_mins(1);

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|&word| word.to_owned()).collect()
}

/// A sink of these tenants alone.
fn only(sink: &str, tenants: &[&str]) -> String {
    format!("{sink}: tenants = {tenants:?}\n")
}

#[tokio::test(start_paused = true)]
async fn tenants_come_and_go_and_the_others_are_not_touched() {
    let world = World::new();
    for tenant in ["contoso", "fabrikam", "tailspin"] {
        world.show(tenant, &format!("{tenant}-1"), 5);
    }
    let sinks = only("c", &["contoso"]);
    let two = world.config_of(
        &["contoso", "fabrikam"],
        &(sinks.clone() + &only("f", &["fabrikam"])),
    );
    let mut engine = world.start_with(&two).await;
    until(&engine, |status| has_all(status, "f", 5)).await;
    assert_eq!(
        world.built(),
        [
            "activity of contoso",
            "activity of fabrikam",
            "sink c",
            "sink f"
        ]
    );

    let other = world.config_of(
        &["contoso", "tailspin"],
        &(sinks + &only("t", &["tailspin"])),
    );
    let reloaded = engine.reload(other).await.unwrap();
    assert_eq!(
        reloaded,
        Reloaded {
            started: words(&["activity of tailspin", "sink t"]),
            stopped: words(&["activity of fabrikam", "sink f"]),
            ..Reloaded::default()
        }
    );
    assert_eq!(world.built(), ["activity of tailspin", "sink t"]);
    until(&engine, |status| has_all(status, "t", 5)).await;
    assert_eq!(world.has("t"), world.records(Some("tailspin")));
    assert_eq!(&*engine.orphans()[0].sink, "f");

    world.show("contoso", "contoso-2", 3);
    world.show("fabrikam", "fabrikam-2", 3);
    until(&engine, |status| has_all(status, "c", 8)).await;
    assert_eq!(world.has("c"), world.records(Some("contoso")));
    assert_eq!(
        world.has("f").len(),
        5,
        "fabrikam is not collected any more"
    );
    let metrics = engine.metrics().render().unwrap();
    let shown = |name: &str| {
        let up = format!("audit_exporter_up{{component=\"sink\",name=\"{name}\",tenant=\"\"}}");
        metrics.contains(&up)
    };
    assert!(shown("t") && !shown("f"), "what has left is not down");
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_be_built_changes_nothing() {
    let world = World::new();
    world.show("contoso", "contoso-1", 6);
    let mut engine = world.start("a\nb").await;
    done(&engine, &world).await;
    let wrong = world.config("a\nb: place = \"nowhere\"\nc");
    let error = engine.reload(wrong).await.unwrap_err();
    assert!(error.to_string().contains("sinks.b.place"), "{error}");
    world.show("contoso", "contoso-2", 6);
    done(&engine, &world).await;
    assert_eq!(world.has("b"), world.records(None));
    assert!(world.has("c").is_empty());
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_the_journal_refuses_leaves_all_as_it_was_and_may_be_tried_again() {
    let world = World::new();
    world.show("contoso", "contoso-1", 6);
    world.show("fabrikam", "fabrikam-1", 4);
    let mut engine = world
        .start_with(&world.config_of(&["contoso"], "a\nb"))
        .await;
    until(&engine, |status| {
        has_all(status, "a", 6) && has_all(status, "b", 6)
    })
    .await;
    engine.journal.settled().await.unwrap();
    world.tamper(NO_STREAMS);
    // Sink b would leave, and sink c and a tenant come.
    let other = world.config_of(&["contoso", "fabrikam"], "a\nc");
    let error = engine.reload(other.clone()).await.unwrap_err();
    assert!(error.to_string().contains("as told"), "{error}");
    let status = engine.status().await.unwrap();
    let is_orphan = |name: &str| {
        let mut sinks = status.sinks.iter().filter(|sink| sink.sink == name);
        sinks.any(|sink| sink.orphan_since.is_some())
    };
    assert!(!is_orphan("a") && !is_orphan("b"), "{status:?}");
    assert!(engine.orphans().is_empty());
    world.show("contoso", "contoso-2", 6);
    until(&engine, |status| {
        has_all(status, "a", 12) && has_all(status, "b", 12)
    })
    .await;
    assert_eq!(world.has("b"), world.records(Some("contoso")));
    assert!(world.has("c").is_empty());

    engine.journal.settled().await.unwrap();
    world.tamper("DROP TRIGGER no_more");
    let reloaded = engine.reload(other).await.unwrap();
    assert_eq!(
        reloaded.started,
        ["activity of fabrikam", "sink c"].map(str::to_owned)
    );
    assert_eq!(&*engine.orphans()[0].sink, "b");
    until(&engine, |status| has_all(status, "a", 16)).await;
    assert_eq!(world.has("a"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

/// Refuses new streams, so a reload that brings a tenant.
const NO_STREAMS: &str =
    "CREATE TRIGGER no_more BEFORE INSERT ON streams BEGIN SELECT RAISE (ABORT, 'as told'); END";

/// An engine of two sinks, of which `a` (with these keys) has six events of each tenant and waits to be given six more.
async fn with_pending(world: &World, keys: &str) -> Engine {
    let show = |number| {
        for tenant in ["contoso", "fabrikam"] {
            world.show(tenant, &format!("{tenant}-{number}"), 6);
        }
    };
    show(1);
    let engine = world.start(&format!("a: {keys}\nb")).await;
    done(&engine, world).await;
    assert!(engine.journal.pause_sink("a", true).await.unwrap());
    show(2);
    until(&engine, |status| has_all(status, "b", 24)).await;
    engine.journal.settled().await.unwrap();
    engine
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_has_pending_survives_a_reload_that_is_refused() {
    for (keys, other) in [
        // One of its tenants is taken from it, or it gets another name.
        (
            "start = \"oldest\"",
            "a: start = \"oldest\"; tenants = [\"fabrikam\"]\nb",
        ),
        (
            "start = \"now\"",
            "a: start = \"now\"; tenants = [\"fabrikam\"]\nb",
        ),
        (
            "start = \"oldest\"",
            "c: start = \"oldest\"; renamed_from = \"a\"\nb",
        ),
        (
            "start = \"now\"",
            "c: start = \"now\"; renamed_from = \"a\"\nb",
        ),
    ] {
        let world = World::new();
        let mut engine = with_pending(&world, keys).await;
        world.tamper(NO_STREAMS);
        let other = world.config_of(&["contoso", "fabrikam", "tailspin"], other);
        let error = engine.reload(other).await.unwrap_err();
        assert!(error.to_string().contains("as told"), "{error}");
        assert!(engine.journal.pause_sink("a", false).await.unwrap());
        let status = done(&engine, &world).await;
        assert_eq!(world.has("a"), world.records(None), "{keys}");
        assert!(status.sinks.iter().all(|sink| sink.sink != "c"));
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_name_that_the_journal_refuses_leaves_the_old_one_at_work() {
    let world = World::new();
    let mut engine = with_pending(&world, "place = \"receipt\"").await;
    world.tamper(
        "CREATE TRIGGER no_more BEFORE UPDATE OF sink ON sinks BEGIN SELECT RAISE (ABORT, 'as told'); END",
    );
    let other = world.config("c: place = \"receipt\"; renamed_from = \"a\"\nb");
    let error = engine.reload(other.clone()).await.unwrap_err();
    assert!(error.to_string().contains("as told"), "{error}");
    assert!(engine.journal.pause_sink("a", false).await.unwrap());
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    assert_eq!(up(&engine, "sink", "a", ""), 1);

    engine.journal.settled().await.unwrap();
    world.tamper("DROP TRIGGER no_more");
    engine.reload(other).await.unwrap();
    world.show("contoso", "contoso-3", 6);
    let status = done(&engine, &world).await;
    assert!(status.sinks.iter().all(|sink| sink.sink != "a"));
    assert_eq!(world.has("a").len() + world.has("c").len(), 30);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_renamed_takes_the_delivery_under_way_along() {
    let world = World::new();
    world.show("contoso", "contoso-1", 6);
    world.on_delivery("a", Fate::Last(Duration::from_secs(10)));
    let mut engine = world.start("a: rows = true\nb").await;
    while world.far("a", |far| far.largest) < 6 {
        tokio::task::yield_now().await;
    }
    let other = world.config("c: rows = true; renamed_from = \"a\"\nb");
    let reloaded = engine.reload(other).await.unwrap();
    assert_eq!(reloaded.started, ["sink c"]);
    world.show("fabrikam", "fabrikam-1", 4);
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(Some("contoso")));
    assert_eq!(world.has("c"), world.records(Some("fabrikam")), "not twice");
    let rows = |sink: &str| {
        world.count(&format!(
            "SELECT count(*) FROM stores WHERE instance = 'sink/{sink}' AND key LIKE 'row/%'"
        ))
    };
    assert_eq!((rows("a"), rows("c")), (0, 10));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_ended_is_not_collected_any_more() {
    let world = World::new();
    world.show("contoso", "contoso-1", 6);
    world.show("fabrikam", "fabrikam-1", 6);
    let restless = |tenants: &[&str]| world.config_of(tenants, "restless = true\n[sinks]\na");
    let mut engine = world.start_with(&restless(&["contoso", "fabrikam"])).await;
    let collected = || world.count("SELECT count(*) FROM reach WHERE ended IS NULL");
    until(&engine, |_| collected() == 2).await;
    engine.reload(restless(&["contoso"])).await.unwrap();
    assert_eq!(collected(), 1);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_under_way_is_ended_before_the_sink_leaves() {
    let world = World::new();
    world.show("contoso", "contoso-1", 6);
    let mut engine = world.start("a: slow = true\nb").await;
    until(&engine, |status| has_all(status, "b", 6)).await;
    world.show("contoso", "contoso-2", 6);
    let again = world.config("a: slow = true; batch_events = 2\nb");
    let reloaded = engine.reload(again).await.unwrap();
    assert_eq!(reloaded.changed, ["sink a"]);
    assert_eq!(reloaded.to_string(), "changed: sink a");
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None), "nothing twice");
    assert_eq!(world.has("b"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_does_not_hold_up_a_reload_for_ever() {
    let world = World::new();
    world.show("contoso", "contoso-1", 6);
    world.on_delivery("a", Fate::Hang);
    let mut engine = world.start("a: timeout = \"1h\"\nb").await;
    until(&engine, |status| has_all(status, "b", 6)).await;
    let other = world.config("a: timeout = \"1m\"\nb");
    engine.reload(other).await.unwrap();
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_same_configuration_changes_nothing_and_the_engines_own_tables_wait() {
    let world = World::new();
    let mut engine = world.start("a\nb").await;
    world.built();
    let same = engine.reload(world.config("a\nb")).await.unwrap();
    assert_eq!(same, Reloaded::default());
    assert_eq!(
        same.to_string(),
        "no tenant, source, filter or sink has changed"
    );
    let with_limits = |more: &str| {
        let mut other = world.config(more);
        other.limits.record_size = crate::config::Size(100);
        other
    };
    for _ in 0..2 {
        let later = engine.reload(with_limits("a\nb")).await.unwrap();
        assert_eq!(later.at_restart, ["limits"]);
        assert!(world.built().is_empty());
    }
    // For what begins anew meanwhile, too.
    let changed = with_limits("lists_every = 30\n[sinks]\na\nb");
    let later = engine.reload(changed).await.unwrap();
    assert_eq!(later.changed.len(), 2, "{later}");
    assert_eq!(later.at_restart, ["limits"]);
    let name = "n".repeat(200);
    let record =
        format!(r#"{{"Id":"{name}","CreationTime":"2026-03-01T00:00:00","Operation":"Op0"}}"#);
    world.show_records("contoso", "long", vec![record]);
    done(&engine, &world).await;
    assert_eq!(
        world.has("a"),
        world.records(None),
        "no record is too large"
    );
    engine.shutdown(MINUTE).await.unwrap();
}
