use rand::RngExt;

use super::fakes::{Fate, TENANTS, World};
use super::*;

const SINKS: &str = "[limits]\nbatch_size = \"1KiB\"\n[filters.no_op1]\ntype = \"no_op1\"\n[sinks]\
    plain: slow = true\n\
    file: place = \"receipt\"; slow = true\n\
    log: place = \"position\"; slow = true\n\
    some: place = \"position\"; slow = true; filters = [\"no_op1\"]\n\
    whole: place = \"position\"; slow = true; batch_events = 3\n\
    small: place = \"receipt\"; slow = true; batch_events = 3";

/// Breaks the engine off at a random point, again and again; then lets it finish.
#[tokio::test(start_paused = true)]
async fn broken_off_anywhere_nothing_is_missing_and_nothing_comes_twice_to_a_sink_that_knows_its_place()
 {
    for round in 0..50 {
        let world = World::new();
        for unit in 0..10 {
            for tenant in TENANTS {
                world.show(tenant, &format!("{tenant}-{round}-{unit}"), 1 + unit * 2);
            }
        }
        world.show("contoso", &format!("late-{round}"), 30);
        for _ in 0..rand::rng().random_range(1..6) {
            for sink in ["plain", "file", "log", "some", "whole", "small"] {
                let fate = match rand::rng().random_range(0..6) {
                    0 => Fate::Lose,
                    1 => Fate::Fail(crate::Kind::Unavailable),
                    _ => continue,
                };
                world.on_delivery(sink, fate);
            }
            let engine = world.start(SINKS).await;
            for _ in 0..rand::rng().random_range(0..2_000) {
                tokio::task::yield_now().await;
            }
            drop(engine);
        }
        let engine = world.start(SINKS).await;
        done(&engine, &world).await;
        engine.shutdown(Duration::from_hours(1)).await.unwrap();
        let all = world.records(None);
        for sink in ["file", "log", "whole", "small"] {
            assert_eq!(world.has(sink), all, "{sink}");
        }
        let passing: Vec<String> = all.iter().filter(|r| r.contains("Op0")).cloned().collect();
        assert_eq!(world.has("some"), passing);
        let mut plain = world.has("plain");
        plain.dedup();
        assert_eq!(plain, all);
    }
}
