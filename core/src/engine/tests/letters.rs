//! Dead letters that are handed over again while the engine runs, and without it.

use std::collections::BTreeSet;

use super::fakes::{Fate, World, registry};
use super::*;
use crate::Kind;
use crate::engine::letters::{Desk, Replay, Replayed};

const MINUTE: Duration = Duration::from_mins(1);

/// Sink `a` has refused two of four events, and a file sink `b` has all.
async fn two_dead(world: &World, sinks: &str) -> Engine {
    world.show("contoso", "u", 4);
    world.on_delivery("a", Fate::Refuse(vec![1, 3]));
    let engine = world.start(sinks).await;
    done(&engine, world).await;
    engine
}

fn wish(letters: &[i64], into: Option<&str>) -> Replay {
    Replay {
        letters: letters.to_vec(),
        into: into.map(str::to_owned),
    }
}

async fn account(engine: &Engine, sink: &str) -> (i64, i64) {
    let status = engine.status().await.unwrap();
    assert!(status.sinks.iter().all(SinkStatus::balances), "{status:?}");
    let of_sink = status.sinks.iter().filter(|s| s.sink == sink);
    of_sink.fold((0, 0), |(delivered, dead), s| {
        (delivered + s.delivered, dead + s.dead)
    })
}

#[tokio::test(start_paused = true)]
async fn letters_go_to_their_sink_again_while_it_works() {
    for place in ["", "place = \"receipt\"", "place = \"position\""] {
        let world = World::new();
        let sinks = format!("a: {place}");
        let engine = two_dead(&world, &sinks).await;
        world.on_delivery("a", Fate::Refuse(vec![1]));
        let replayed = engine.replayer.replay(&wish(&[1, 2, 9], None)).await;
        assert_eq!(
            (&*replayed.delivered, &*replayed.gone),
            (&[1][..], &[9][..])
        );
        assert_eq!(replayed.stay[0].reason, "400 as told");
        assert_eq!(account(&engine, "a").await, (3, 1));
        // What comes after is where it should be.
        world.show("contoso", "v", 2);
        done(&engine, &world).await;
        let replayed = engine.replayer.replay(&wish(&[2], None)).await;
        assert_eq!(replayed.delivered, [2]);
        engine.shutdown(MINUTE).await.unwrap();
        let engine = world.start(&sinks).await;
        done(&engine, &world).await;
        assert_eq!(world.has("a"), world.records(None), "{place}");
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_broken_off_loses_nothing_and_a_sink_with_receipts_has_nothing_twice() {
    for fate in [
        Fate::Half,
        Fate::Lose,
        Fate::Hang,
        Fate::Fail(Kind::Unavailable),
    ] {
        let world = World::new();
        let engine = two_dead(&world, "a: place = \"receipt\"").await;
        world.on_delivery("a", fate.clone());
        let replay = wish(&[1, 2], None);
        tokio::select! {
            replayed = engine.replayer.replay(&replay) => {
                assert_eq!(replayed.delivered, [0; 0], "{fate:?}");
                assert!(replayed.failed.unwrap().may_pass, "{fate:?}");
            }
            () = tokio::time::sleep(MINUTE) => assert_eq!(fate, Fate::Hang),
        }
        // As a kill would.
        drop(engine);
        let engine = world.start("a: place = \"receipt\"").await;
        done(&engine, &world).await;
        assert_eq!(account(&engine, "a").await, (2, 2), "{fate:?}");
        let replayed = engine.replayer.replay(&replay).await;
        assert_eq!(replayed.delivered, [1, 2], "{fate:?}");
        assert_eq!(world.has("a"), world.records(None), "{fate:?}");
        assert_eq!(account(&engine, "a").await, (4, 0));
        engine.shutdown(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn letters_refused_as_a_whole_are_tried_one_by_one() {
    let world = World::new();
    let engine = two_dead(&world, "a").await;
    world.on_delivery("a", Fate::Fail(Kind::Rejected));
    world.on_delivery("a", Fate::Fail(Kind::Rejected));
    let replayed = engine.replayer.replay(&wish(&[1, 2], None)).await;
    assert_eq!(replayed.delivered, [2]);
    assert_eq!(replayed.stay[0].letter, 1);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn letters_may_go_to_another_sink_but_to_none_that_is_not_there() {
    let world = World::new();
    let engine = two_dead(&world, "a\nb").await;
    let replayed = engine.replayer.replay(&wish(&[1], Some("c"))).await;
    let failed = replayed.failed.unwrap();
    assert_eq!(
        (&*failed.message, failed.may_pass),
        (
            "sink c is not in the configuration; `--into` sends its dead letters to another",
            false
        )
    );
    let replayed = engine.replayer.replay(&wish(&[1, 2], Some("b"))).await;
    assert_eq!(replayed.delivered, [1, 2]);
    assert_eq!(world.has("b").len(), 6);
    assert_eq!(account(&engine, "a").await, (2, 2));
    assert_eq!(account(&engine, "b").await, (4, 0));
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn letters_go_to_no_sink_that_does_not_take_their_tenant() {
    let world = World::new();
    let engine = two_dead(&world, "a\nb: tenants = [\"fabrikam\"]").await;
    let replayed = engine.replayer.replay(&wish(&[1], Some("b"))).await;
    assert_eq!(
        replayed.stay[0].reason,
        "sink b does not take tenant contoso"
    );
    assert!(world.has("b").is_empty());
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_run_a_desk_does_the_same_and_leaves_the_cursors_alone() {
    let world = World::new();
    let sinks = "a: place = \"receipt\"";
    two_dead(&world, sinks)
        .await
        .shutdown(MINUTE)
        .await
        .unwrap();
    let config = world.config(sinks);
    let names = BTreeSet::from(["a".to_owned()]);
    let desk = Desk::open(&config, &registry(), &names).await.unwrap();
    let replayed = desk.replay(&wish(&[1, 2], None)).await;
    let expected = Replayed {
        delivered: vec![1, 2],
        ..Replayed::default()
    };
    assert_eq!(replayed, expected);
    desk.close().await.unwrap();
    let engine = world.start(sinks).await;
    done(&engine, &world).await;
    assert_eq!(world.has("a"), world.records(None));
    assert_eq!(account(&engine, "a").await, (4, 0));
    engine.shutdown(MINUTE).await.unwrap();
}
