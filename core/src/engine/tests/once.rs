//! What a single run waits for, and what it does not.

use tokio::time::Instant;

use super::fakes::{Fate, World};
use super::*;
use crate::Kind;

const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(start_paused = true)]
async fn a_source_that_lists_again_and_again_gets_no_further() {
    let world = World::new();
    world.show("contoso", "u", 3);
    for _ in 0..1000 {
        world.on_list(Fate::More);
    }
    let engine = world.start_once("a").await;
    let begun = Instant::now();
    assert!(!engine.catch_up(PATIENCE).await.unwrap());
    assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    assert!(world.lists() > 1);
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_at_work_is_waited_for_beside_what_fails() {
    for fate in [Fate::Await, Fate::AwaitAndFail] {
        let world = World::new();
        world.show("contoso", "u", 3);
        for _ in 0..20 {
            world.on_list(fate.clone());
        }
        let engine = world.start_once("a").await;
        let begun = Instant::now();
        assert!(engine.catch_up(PATIENCE).await.unwrap(), "{fate:?}");
        assert!(begun.elapsed() > 5 * PATIENCE, "{:?}", begun.elapsed());
        assert_eq!(world.has("a"), world.records(None));
        engine.shutdown(PATIENCE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_asked_any_more_is_not_waited_for() {
    let world = World::new();
    world.on_list(Fate::Await);
    for _ in 0..1000 {
        world.on_list(Fate::Fail(Kind::Auth));
    }
    let engine = world.start_once("a").await;
    assert!(!engine.catch_up(PATIENCE).await.unwrap());
    assert!(world.lists() < 20, "{}", world.lists());
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_calls_for_it_has_the_source_list_again_although_nothing_was_left() {
    let world = World::new();
    world.show("contoso", "u", 3);
    world.on_fetch("u", Fate::Replace);
    let engine = world.start_once("a").await;
    assert!(engine.catch_up(PATIENCE).await.unwrap());
    assert_eq!(world.lists(), 2);
    let status = engine.status().await.unwrap();
    assert_eq!(
        (status.tenants[0].fetched, status.tenants[0].pending),
        (2, 0)
    );
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_a_fetch_calls_for_does_not_wait_for_the_next_poll() {
    let world = World::new();
    world.show("contoso", "u", 3);
    world.on_fetch("u", Fate::Replace);
    let config = world.config_of(&["contoso"], "lists_every = 86400\n[sinks]\na");
    let engine = world.start_with(&config).await;
    let begun = Instant::now();
    until(&engine, |status| {
        status.tenants.iter().any(|unit| unit.fetched == 2)
    })
    .await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_of_many_pages_is_waited_for_although_they_bring_nothing_new() {
    let world = World::new();
    world.show("contoso", "u", 3);
    world.on_fetch("u", Fate::Pages(20));
    let engine = world.start_once("a").await;
    let begun = Instant::now();
    assert!(engine.catch_up(PATIENCE).await.unwrap());
    assert!(begun.elapsed() > 5 * PATIENCE, "{:?}", begun.elapsed());
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_breaks_off_at_the_same_page_again_and_again_gets_no_further() {
    let world = World::new();
    world.show("contoso", "u", 3);
    for _ in 0..1000 {
        world.on_fetch("u", Fate::BreakOff(1));
    }
    let engine = world.start_once("a").await;
    let begun = Instant::now();
    assert!(!engine.catch_up(PATIENCE).await.unwrap());
    assert!(begun.elapsed() < 5 * PATIENCE, "{:?}", begun.elapsed());
    engine.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_it_is_at_work_is_left_to_the_next() {
    let world = World::new();
    world.show("contoso", "u", 3);
    let available = world.records(None);
    for _ in 0..3 {
        world.on_list(Fate::Await);
    }
    let engine = world.start_once("a").await;
    while world.lists() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    world.show("contoso", "v", 3);
    assert!(engine.catch_up(PATIENCE).await.unwrap());
    assert_eq!(world.has("a"), available);
    engine.shutdown(PATIENCE).await.unwrap();

    let engine = world.start_once("a").await;
    assert!(engine.catch_up(PATIENCE).await.unwrap());
    assert_eq!(world.has("a"), world.records(None));
    engine.shutdown(PATIENCE).await.unwrap();
}
