//! Sinks that keep rows, work by the clock, answer operators, and are paused.

use super::fakes::Fate;
use super::*;
use crate::journal::Store;
use crate::{Kind, admin};

const MINUTE: Duration = Duration::from_mins(1);

fn ticks(world: &World) -> usize {
    world.far("a", |far| far.ticks.len())
}

async fn until_ticks(world: &World, count: usize) {
    while ticks(world) < count {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sinks_rows_are_there_exactly_when_its_cursor_has_passed_their_events() {
    let world = World::new();
    world.show("contoso", "u", 3);
    let config = world.config("a: rows = true");
    let engine = world.start_with(&config).await;
    done(&engine, &world).await;
    let rows = async || {
        let store = Store::read_only(&config.journal.path, "sink/a").unwrap();
        let rows = store.scan("row/", None, 10).await.unwrap();
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let mut expected = world.has("a");
    for event in &mut expected {
        event.insert_str(0, "row/");
    }
    assert_eq!(rows().await, expected);
    // What is refused has no row, for the far side of it is the store.
    world.on_delivery("a", Fate::Fail(Kind::Unavailable));
    world.on_delivery("a", Fate::Fail(Kind::Rejected));
    world.show("contoso", "v", 2);
    until(&engine, |status| status.sinks.iter().any(|s| s.dead == 2)).await;
    assert_eq!(rows().await, expected);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_asked_by_the_clock_when_it_wants_and_as_it_stops() {
    let world = World::new();
    let engine = world.start("a: ticks_every = 3600").await;
    until_ticks(&world, 1).await;
    tokio::time::sleep(Duration::from_mins(59)).await;
    assert_eq!(ticks(&world), 1, "it is not time");
    until_ticks(&world, 2).await;
    engine.shutdown(MINUTE).await.unwrap();
    assert_eq!(ticks(&world), 3);
}

#[tokio::test(start_paused = true)]
async fn what_fails_by_the_clock_is_tried_again_and_holds_up_no_delivery() {
    let world = World::new();
    world.far("a", |far| {
        far.on_tick = [
            Fate::Fail(Kind::Config),
            Fate::Hang,
            Fate::Fail(Kind::Unavailable),
        ]
        .into();
    });
    let engine = world.start("a").await;
    until_ticks(&world, 1).await;
    assert_eq!(up(&engine, "sink", "a", ""), 0);
    world.show("contoso", "u", 3);
    let status = done(&engine, &world).await;
    assert!(has_all(&status, "a", 3));
    until_ticks(&world, 4).await;
    while up(&engine, "sink", "a", "") == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    engine.shutdown(MINUTE).await.unwrap();
    assert_eq!(ticks(&world), 4, "it wants no more");
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_part_by_the_clock_shows_until_it_is_over_and_puts_nothing_off() {
    let world = World::new();
    world.far("a", |far| {
        far.on_tick = [Fate::Half, Fate::More, Fate::Half, Fate::More].into();
    });
    let engine = world.start("a: ticks_every = 60").await;
    for count in 1..=5 {
        until_ticks(&world, count).await;
        let began = world.now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(up(&engine, "sink", "a", ""), i64::from(count == 5));
        until_ticks(&world, count + 1).await;
        let passed = (world.now() - began).num_seconds();
        assert!((58..=62).contains(&passed), "{count}: {passed}");
    }
    let errors = &engine.metrics().errors;
    let count = errors.with_label_values(&["sink", "a", "", "config"]).get();
    assert_eq!(count, 2, "what waits is not counted again");
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_sink_gets_nothing_even_after_a_restart_and_goes_on_where_it_stopped() {
    let world = World::new();
    world.show("contoso", "u", 3);
    let engine = world.start("a: ticks_every = 60\nb").await;
    done(&engine, &world).await;
    assert!(engine.journal.pause_sink("a", true).await.unwrap());
    assert!(!engine.journal.pause_sink("unknown", true).await.unwrap());
    world.show("contoso", "v", 3);
    until(&engine, |status| has_all(status, "b", 6)).await;
    engine.shutdown(MINUTE).await.unwrap();

    let engine = world.start("a: ticks_every = 60\nb").await;
    world.show("contoso", "w", 3);
    let status = until(&engine, |status| has_all(status, "b", 9)).await;
    let a = status.sinks.iter().find(|sink| sink.sink == "a").unwrap();
    assert!(a.paused_since.is_some());
    assert_eq!(world.has("a").len(), 3);
    let before = ticks(&world);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(ticks(&world), before);
    assert!(engine.journal.pause_sink("a", false).await.unwrap());
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.has("b"));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_paused_while_its_far_side_is_down_is_not_tried_again_before_it_is_resumed()
{
    let world = World::new();
    let fail = Fate::Fail(Kind::Unavailable);
    for _ in 0..3 {
        world.on_delivery("a", fail.clone());
    }
    let left = || world.far("a", |far| far.fates.len());
    world.show("contoso", "u", 3);
    let engine = world.start("a").await;
    while left() == 3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(engine.journal.pause_sink("a", true).await.unwrap());
    let tries = left();
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(left(), tries);
    assert!(engine.journal.pause_sink("a", false).await.unwrap());
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn an_operator_asks_a_sink_by_way_of_the_running_process() {
    let world = World::new();
    let config = listener::config(&world, "a");
    let engine = world.start_with(&config).await;
    let path = &config.journal.path;
    let answer = admin::ask_sink(path, "a", "the mail", MINUTE).await;
    assert_eq!(answer.unwrap(), "the mail is done");
    let store = Store::read_only(path, "sink/a").unwrap();
    assert_eq!(store.get("asked").await.unwrap().unwrap(), "the mail");
    let refused = admin::ask_sink(path, "gone", "", MINUTE).await.unwrap_err();
    assert!(refused.to_string().contains("not in the configuration"));
    assert!(admin::ask_to_pause(path, "a", true).await.unwrap());
    assert!(engine.journal.is_paused("a"));
    assert!(admin::ask_to_pause(path, "a", false).await.unwrap());
    assert!(!admin::ask_to_pause(path, "gone", false).await.unwrap());
    engine.shutdown(MINUTE).await.unwrap();
}
