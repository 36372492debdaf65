use std::fmt::Write as _;

use super::fakes::{Fate, TENANTS, World};
use super::*;
use crate::Kind;

const MINUTE: Duration = Duration::from_mins(1);
const PASSING: [Kind; 4] = [Kind::Unavailable, Kind::Throttled, Kind::Auth, Kind::Config];

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_is_tried_again() {
    let world = World::new();
    for kind in PASSING {
        world.on_list(Fate::Fail(kind));
        world.on_list(Fate::Fail(kind));
    }
    world.show("contoso", "u", 3);
    world.show("fabrikam", "v", 3);
    let engine = world.start("a").await;
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    for tenant in TENANTS {
        assert_eq!(up(&engine, "source", "activity", tenant), 1);
    }
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_a_listing_stops_that_source_alone_and_shows() {
    for fate in [Fate::Panic, Fate::Fail(Kind::Bug)] {
        let world = World::new();
        world.on_list(fate);
        for tenant in TENANTS {
            world.show(tenant, tenant, 3);
        }
        let engine = world.start("a").await;
        let bugs = |tenant: &str| {
            let errors = &engine.metrics().errors;
            errors
                .with_label_values(&["source", "activity", tenant, "bug"])
                .get()
        };
        until(&engine, |status| {
            status.sinks.iter().any(|s| s.delivered == 3)
        })
        .await;
        let stopped = TENANTS
            .into_iter()
            .find(|tenant| bugs(tenant) == 1)
            .unwrap();
        let other = TENANTS
            .into_iter()
            .find(|tenant| *tenant != stopped)
            .unwrap();
        assert_eq!(up(&engine, "source", "activity", stopped), 0);
        assert_eq!(up(&engine, "source", "activity", other), 1);
        assert_eq!(world.has("a"), world.records(Some(other)));
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_in_every_way_that_passes_is_tried_again() {
    let world = World::new();
    let mut fates: Vec<Fate> = PASSING.into_iter().map(Fate::Fail).collect();
    fates.extend([
        Fate::Fail(Kind::Bug),
        Fate::Panic,
        Fate::Half,
        Fate::Truncate,
        Fate::Swallow,
        Fate::SwallowGzip(7),
        Fate::SwallowGzip(300),
        Fate::Mix,
        Fate::Lose,
    ]);
    for (number, fate) in fates.iter().enumerate() {
        let unit = format!("u{number}");
        world.show("contoso", &unit, 9);
        world.on_fetch(&unit, fate.clone());
        world.on_fetch(&unit, fate.clone());
    }
    let more = "[limits]\nbatch_size = \"1KiB\"\nblob_size = \"4MiB\"\n[sinks]a";
    let engine = world.start(more).await;
    let status = done(&engine, &world).await;
    let lost: Vec<i64> = status.tenants.iter().map(|tenant| tenant.lost).collect();
    assert_eq!(lost.iter().sum::<i64>(), 0);
    assert_eq!(world.has("a"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn compressed_content_arrives_whole_small_or_large_and_however_it_comes() {
    // 1 KiB: it is inflated as it comes, and committed in many batches. 1 MiB: at one go.
    for batch in ["1KiB", "1MiB"] {
        let world = World::new();
        for (members, chunk, says_end) in [(1, 1, true), (1, 1 << 20, false), (3, 50, false)] {
            for count in [0, 1, 900] {
                let unit = format!("{members} by {chunk}, {count}");
                world.show("contoso", &unit, count);
                let fate = Fate::Gzip {
                    members,
                    chunk,
                    says_end,
                };
                world.on_each_fetch(&unit, fate);
            }
        }
        let more = format!("[limits]\nbatch_size = \"{batch}\"\n[sinks]a");
        let engine = world.start(&more).await;
        let status = done(&engine, &world).await;
        assert_eq!((status.tenants[0].lost, status.tenants[0].fetched), (0, 9));
        assert_eq!(world.has("a"), world.records(None));
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_peer_no_longer_has_is_lost_and_counted() {
    let world = World::new();
    for (unit, kind) in [("gone", Kind::Lost), ("refused", Kind::Rejected)] {
        world.show("contoso", unit, 3);
        world.on_each_fetch(unit, Fate::Fail(kind));
    }
    world.show("contoso", "well", 3);
    let engine = world.start("a").await;
    let status = done(&engine, &world).await;
    assert_eq!((status.tenants[0].lost, status.tenants[0].fetched), (2, 1));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_unit_beyond_the_cap_is_lost_by_name_and_the_others_are_delivered() {
    // In one batch, and in many, of which some are committed before it is too large.
    for (batch, some) in [("1MiB", false), ("1KiB", true)] {
        let world = World::new();
        world.show("contoso", "small", 3);
        world.show("fabrikam", "other", 40);
        let small = world.records(None);
        world.show("contoso", "large", 100);
        let more = format!("[limits]\nbatch_size = \"{batch}\"\nblob_size = \"4KiB\"\n[sinks]a");
        let engine = world.start(&more).await;
        let status = done(&engine, &world).await;
        let lost: Vec<_> = status.tenants.iter().map(|t| (t.fetched, t.lost)).collect();
        assert_eq!(lost, [(1, 1), (1, 0)]);
        let mut has = world.has("a");
        let of_large = has.extract_if(.., |record| record.contains("large"));
        assert_eq!(of_large.count() > 0, some, "in batches of {batch}");
        assert_eq!(has, small);
        let told = "the content is larger than limits.blob_size (4096 bytes) when inflated; \
                    raise it to collect this one";
        let lost = format!("SELECT count(*) FROM units WHERE unit = 'large' AND error = '{told}'");
        assert_eq!(world.count(&lost), 1);
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_always_fails_delays_no_other_and_is_lost_when_it_expires() {
    for fate in [
        Fate::Fail(Kind::Unavailable),
        Fate::Fail(Kind::Bug),
        Fate::Panic,
    ] {
        let world = World::new();
        world.show("contoso", "bad", 3);
        world.on_each_fetch("bad", fate);
        let engine = world.start("lists_every = 600\n[sinks]\na").await;
        let mut shown = 0;
        // It fails dozens of times meanwhile; new units and listings go on as if it were not there.
        for hour in 0..6 {
            world.show("contoso", &format!("u{hour}"), 2);
            shown += 2;
            let before = (tokio::time::Instant::now(), world.lists());
            until(&engine, |status| has_all(status, "a", shown)).await;
            assert!(
                before.0.elapsed() <= 11 * MINUTE,
                "{:?}",
                before.0.elapsed()
            );
            assert!(world.lists() > before.1);
            let before = world.lists();
            tokio::time::sleep(Duration::from_hours(1)).await;
            // Two tenants, every ten minutes.
            assert!(world.lists() - before > 9, "{}", world.lists() - before);
        }
        tokio::time::sleep(Duration::from_hours(2)).await;
        let status = done(&engine, &world).await;
        assert_eq!((status.tenants[0].lost, status.tenants[0].fetched), (1, 6));
        engine.shutdown(MINUTE).await.unwrap();
    }
}

/// A record of 64 kB that cannot be compressed.
fn noise(n: usize) -> String {
    let mut text = String::new();
    for at in 0..4_000_u64 {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), n as u64);
        write!(text, "{hash:016x}").unwrap();
    }
    format!(
        r#"{{"Id":"noise-{n}","CreationTime":"2026-03-01T00:00:00","Operation":"Op0","x":"{text}"}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_could_not_be_committed_is_fetched_again_even_if_those_behind_it_could() {
    let world = World::new();
    world.show_records("contoso", "large", (0..100).map(noise).collect());
    world.on_fetch("large", Fate::GoOn);
    // Until then the journal is full.
    world.on_delivery("slow", Fate::Last(Duration::from_mins(10)));
    let more = "[limits]\nbatch_size = \"16KiB\"\n[sinks]slow: timeout = \"30d\"";
    let mut config = world.config(more);
    config.journal.max_size = crate::config::Size::mib(2);
    let engine = world.start_with(&config).await;
    done(&engine, &world).await;
    assert_eq!(world.has("slow"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_whose_peer_asks_for_time_holds_up_nobody() {
    const HOUR: Duration = Duration::from_hours(1);
    let world = World::new();
    world.show("contoso", "long", 50);
    world.on_fetch("long", Fate::Wait(HOUR));
    let more = "[limits]\nparallel_fetches = 1\n[sinks]a\nfine: tenants = [\"fabrikam\"]";
    let engine = world.start(more).await;
    let start = tokio::time::Instant::now();
    // What it had is committed first.
    until(&engine, |status| {
        status.sinks.iter().any(|sink| sink.delivered > 0)
    })
    .await;
    world.show("fabrikam", "u", 3);
    until(&engine, |status| has_all(status, "fine", 3)).await;
    assert!(start.elapsed() < HOUR, "{:?}", start.elapsed());
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    let waited = &engine.metrics().throttle_wait;
    let waited = waited.with_label_values(&["contoso", "activity"]).get();
    assert!((waited - HOUR.as_secs_f64()).abs() < 1.0, "{waited}");
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_waits_for_room_takes_no_fetch_from_the_others() {
    let world = World::new();
    // More than its share, to a sink that never answers; and only two fetches at once in the whole process.
    for unit in 0..100 {
        world.show_records("contoso", &format!("big-{unit}"), vec![noise(unit)]);
    }
    for _ in 0..10 {
        world.on_delivery("stuck", Fate::Hang);
    }
    let more = "[limits]\nparallel_fetches = 2\nbatch_size = \"16KiB\"\n\
                [sinks]stuck: tenants = [\"contoso\"]; timeout = \"30d\"\nfine: tenants = [\"fabrikam\"]";
    let config = {
        let mut config = world.config(more);
        config.journal.max_size = crate::config::Size::mib(2);
        config
    };
    let engine = world.start_with(&config).await;
    let paused = engine
        .metrics()
        .tenant_paused
        .with_label_values(&["contoso"]);
    let mut changes = engine.changes();
    while paused.get() == 0 {
        tokio::select! {
            woken = changes.changed() => woken.unwrap(),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    for round in 0..5 {
        world.show("fabrikam", &format!("u{round}"), 4);
        until(&engine, |status| has_all(status, "fine", 4 * (round + 1))).await;
        assert_eq!(paused.get(), 1);
    }
    let used = engine.status().await.unwrap().used_bytes;
    assert!(used <= 2 << 20, "{used}");
    engine.shutdown(MINUTE).await.unwrap();
    // The sink answers again: nothing is missing.
    world.far("stuck", |far| far.fates.clear());
    let engine = world.start_with(&config).await;
    done(&engine, &world).await;
    assert_eq!(world.has("stuck"), world.records(Some("contoso")));
    engine.shutdown(MINUTE).await.unwrap();
}
