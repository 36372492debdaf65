use super::fakes::{Fate, TENANTS, World};
use super::*;
use crate::Kind;

const MINUTE: Duration = Duration::from_mins(1);

fn show(world: &World, units: usize) {
    for unit in 0..units {
        for tenant in TENANTS {
            world.show(tenant, &format!("{tenant}-{unit}"), 5 + unit % 7);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn everything_arrives_exactly_once_at_every_sink() {
    let world = World::new();
    show(&world, 20);
    world.show("contoso", "late-1", 40);
    let sinks = "a\nb: place = \"receipt\"\nonly: tenants = [\"fabrikam\"]";
    let engine = world.start(sinks).await;
    done(&engine, &world).await;
    for sink in ["a", "b"] {
        assert_eq!(world.has(sink), world.records(None), "{sink}");
    }
    assert_eq!(world.has("only"), world.records(Some("fabrikam")));
    let status = engine.shutdown(MINUTE).await.unwrap();
    assert!(status.sinks.iter().all(|sink| sink.pending == 0));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_in_every_way_that_passes_gets_everything() {
    let world = World::new();
    show(&world, 5);
    for kind in [
        Kind::Unavailable,
        Kind::Throttled,
        Kind::Auth,
        Kind::Config,
        Kind::Lost,
    ] {
        world.on_delivery("a", Fate::Fail(kind));
    }
    for fate in [Fate::Hang, Fate::Half, Fate::Lose, Fate::Hang] {
        world.on_delivery("a", fate);
    }
    let engine = world.start("a: place = \"receipt\"\nb").await;
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    assert_eq!(world.has("b"), world.records(None));
    assert_eq!(up(&engine, "sink", "a", ""), 1, "it works again");
    let metrics = engine.metrics().render().unwrap();
    let auth = r#"audit_exporter_errors_total{component="sink",kind="auth",name="a",tenant=""} 1"#;
    assert!(metrics.contains(auth), "{metrics}");
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refused_events_go_to_the_dead_letters_and_the_others_are_delivered() {
    let world = World::new();
    world.show("contoso", "u", 4);
    world.on_delivery("a", Fate::Refuse(vec![1, 3]));
    let engine = world.start("a").await;
    let status = done(&engine, &world).await;
    let sink = status.sinks.iter().find(|s| s.journaled == 4).unwrap();
    assert_eq!((sink.delivered, sink.dead), (2, 2));
    assert_eq!(world.has("a").len(), 2);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_refused_as_a_whole_goes_to_the_dead_letters() {
    let world = World::new();
    world.show("contoso", "u", 4);
    world.on_delivery("a", Fate::Fail(Kind::Rejected));
    let engine = world.start("a").await;
    let status = done(&engine, &world).await;
    assert_eq!(status.sinks.iter().map(|s| s.dead).sum::<i64>(), 4);
    assert!(world.has("a").is_empty());
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bug_stops_that_sink_alone_and_shows() {
    for fate in [Fate::Panic, Fate::Fail(Kind::Bug), Fate::Refuse(vec![4])] {
        let world = World::new();
        world.show("contoso", "u", 4);
        world.on_delivery("a", fate);
        let engine = world.start("a\nb").await;
        is_down(&engine, "sink", "a", "", "bug").await;
        until(&engine, |status| has_all(status, "b", 4)).await;
        assert_eq!(up(&engine, "sink", "b", ""), 1);
        world.show("contoso", "v", 3);
        let status = until(&engine, |status| has_all(status, "b", 7)).await;
        let a: i64 = status
            .sinks
            .iter()
            .filter(|s| s.sink == "a")
            .map(|s| s.pending)
            .sum();
        assert_eq!(a, 7, "nothing of it is lost");
        engine.shutdown(MINUTE).await.unwrap();
        // Mended, it goes on.
        let engine = world.start("a\nb").await;
        done(&engine, &world).await;
        for record in world.records(None) {
            assert!(world.has("a").contains(&record));
        }
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_delays_no_other() {
    let world = World::new();
    show(&world, 10);
    world.on_delivery("a", Fate::Hang);
    let engine = world.start("a: timeout = \"30d\"\nb").await;
    let events = world.records(None).len();
    let status = until(&engine, |status| has_all(status, "b", events)).await;
    assert_eq!(world.has("b"), world.records(None));
    assert!(world.has("a").is_empty());
    assert!(status.sinks.iter().all(SinkStatus::balances));
    // Out of patience with it; what waits is kept.
    let status = engine.shutdown(MINUTE).await.unwrap();
    let pending: i64 = status.sinks.iter().map(|s| s.pending).sum();
    assert_eq!(pending, events as i64);
    let engine = world.start("a\nb").await;
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    assert_eq!(world.has("b"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_delivers_what_is_journaled() {
    let world = World::new();
    show(&world, 10);
    world.on_delivery("a", Fate::Fail(Kind::Unavailable));
    let engine = world.start("a: place = \"receipt\"").await;
    until(&engine, |status| status.sinks.iter().any(|s| s.pending > 0)).await;
    let status = engine.shutdown(Duration::from_hours(1)).await.unwrap();
    let (journaled, delivered) = status
        .sinks
        .iter()
        .fold((0, 0), |sum, s| (sum.0 + s.journaled, sum.1 + s.delivered));
    assert!(journaled > 0);
    assert_eq!(journaled, delivered);
    assert_eq!(world.has("a").len() as i64, delivered);
}

#[tokio::test(start_paused = true)]
async fn what_is_filtered_is_passed_and_never_comes_back_at_a_restart() {
    let world = World::new();
    let sinks = "[filters.no_op1]\ntype = \"no_op1\"\n[sinks]a: place = \"position\"; filters = [\"no_op1\"]";
    let engine = world.start(sinks).await;
    world.show("contoso", "mixed", 4);
    done(&engine, &world).await;
    engine.shutdown(MINUTE).await.unwrap();
    // A batch of which nothing passes: the far side's position stays behind the cursor.
    let only_op1 = r#"{"Id":"x","CreationTime":"2026-03-01T00:00:00","Operation":"Op1"}"#;
    world.show_records("contoso", "filtered", vec![only_op1.to_owned()]);
    for _ in 0..3 {
        let engine = world.start(sinks).await;
        let status = done(&engine, &world).await;
        let sink = status.sinks.iter().find(|s| s.journaled > 0).unwrap();
        assert_eq!((sink.delivered, sink.filtered, sink.pending), (2, 3, 0));
        engine.shutdown(MINUTE).await.unwrap();
    }
    assert_eq!(world.has("a").len(), 2);
    // And the sink is not stuck.
    world.show("contoso", "more", 2);
    let engine = world.start(sinks).await;
    done(&engine, &world).await;
    assert_eq!(world.has("a").len(), 3);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_one_source_passes_over_the_others() {
    let world = World::new();
    show(&world, 2);
    let config = format!(
        "[sources.other]\ntype = \"fake\"\nworld = \"{}\"\n[sinks]a: sources = [\"other\"]\nb",
        world.name()
    );
    let engine = world.start(&config).await;
    let units = 2 * world.units() as i64;
    let status = until(&engine, |status| {
        status.tenants.iter().map(|t| t.fetched).sum::<i64>() == units
            && status.sinks.iter().all(|s| s.pending == 0)
    })
    .await;
    assert!(status.sinks.iter().all(SinkStatus::balances));
    assert!(world.has("a").len() <= world.records(None).len());
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_limits_of_a_delivery_are_kept() {
    let world = World::new();
    world.show("contoso", "u", 50);
    world.on_delivery("events", Fate::Refuse(vec![2]));
    let engine = world
        .start("events: batch_events = 7\nbytes: batch_size = \"300B\"")
        .await;
    let status = done(&engine, &world).await;
    engine.shutdown(MINUTE).await.unwrap();
    assert_eq!(world.far("events", |far| far.largest), 7);
    assert_eq!(world.far("bytes", |far| far.largest), 4);
    assert_eq!(world.has("bytes"), world.records(None));
    assert_eq!(world.has("events").len(), 49);
    let dead: i64 = status.sinks.iter().map(|sink| sink.dead).sum();
    assert_eq!(dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_far_side_whose_position_lies_between_two_batches_of_a_lane_goes_on_with_the_second() {
    let world = World::new();
    let sinks = "a: place = \"position\"";
    // The numbers before the second batch of the lane are another lane's.
    world.show("contoso", "first", 2);
    let engine = world.start(sinks).await;
    done(&engine, &world).await;
    world.show("fabrikam", "others", 2);
    done(&engine, &world).await;
    world.on_delivery("a", Fate::Hang);
    world.show("contoso", "second", 2);
    until(&engine, |status| {
        status.sinks.iter().any(|sink| sink.pending > 0)
    })
    .await;
    drop(engine);
    let between = world.count("SELECT max(seq) - 1 FROM batches") as u64;
    world.far("a", |far| {
        let positions = far.positions.values_mut();
        let first = positions.min_by_key(|position| position.last).unwrap();
        assert!(first.last < between);
        first.last = between;
    });
    let engine = world.start(sinks).await;
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_counts_for_the_hour_that_it_was_journaled_for_whatever_a_filter_makes_of_it() {
    let world = World::new();
    let refused = Fate::Refuse(vec![0]);
    world.on_delivery("a", refused);
    world.show("contoso", "u", 4);
    let sinks = "[filters.no_time]\ntype = \"no_time\"\n[sinks]a: filters = [\"no_time\"]";
    let engine = world.start(sinks).await;
    done(&engine, &world).await;
    engine.shutdown(MINUTE).await.unwrap();
    let right = "SELECT sum(s.delivered * 10 + s.dead) FROM coverage_sinks s JOIN coverage_events e USING (hour) \
                 WHERE e.journaled = s.delivered + s.dead";
    assert_eq!(world.count(right), 31);
}
