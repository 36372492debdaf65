//! What is logged tells whose it is.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::Dispatch;

use super::fakes::{Fate, World};
use super::*;
use crate::error::Kind;

/// As long as there is only one, the thread that meets a line first decides for all; it may be another test's.
static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// What this thread logs until the second is dropped.
    fn begin() -> (Self, impl Drop) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt().compact().with_ansi(false);
        let lines = lines.with_writer(move || writer.clone()).finish();
        LazyLock::force(&OTHER);
        (log, tracing::subscriber::set_default(lines))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// How many lines have all these words.
    fn count(&self, words: &[&str]) -> usize {
        let text = self.text();
        let lines = text.lines();
        lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn each_line_of_a_source_names_its_tenant_and_each_of_a_sink_the_sink() {
    let (log, _logging) = Log::begin();
    let world = World::new();
    world.show("contoso", "contoso-1", 3);
    world.show("fabrikam", "fabrikam-1", 3);
    let fails = Fate::Fail(Kind::Unavailable);
    world.on_list(fails.clone());
    world.on_list(fails.clone());
    world.on_fetch("contoso-1", fails.clone());
    world.on_delivery("a", fails);
    let engine = world.start("a\nb").await;
    done(&engine, &world).await;
    engine.shutdown(Duration::from_mins(1)).await.unwrap();
    let own = "it fails, as it was told";
    for (words, count) in [
        // The plugins' own lines.
        (vec![own], 4),
        (vec![own, "source=\"activity\"", "tenant=\"contoso\""], 2),
        (vec![own, "source=\"activity\"", "tenant=\"fabrikam\""], 1),
        (vec![own, "sink=a"], 1),
        // The engine's.
        (vec!["listing failed", "tenant=\"contoso\""], 1),
        (vec!["listing failed", "tenant=\"fabrikam\""], 1),
        (vec!["fetching contoso-1 failed", "tenant=\"contoso\""], 1),
        (vec!["delivering failed", "sink=a"], 1),
    ] {
        assert_eq!(log.count(&words), count, "{words:?}\n{}", log.text());
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_will_soon_be_lost_is_told_of_again_and_again() {
    let (log, _logging) = Log::begin();
    let world = World::new();
    // The first expires after seven hours, the second after seven days.
    for unit in ["bad", "other"] {
        world.show("contoso", unit, 3);
        world.on_each_fetch(unit, Fate::Fail(Kind::Unavailable));
    }
    let engine = world.start("a").await;
    tokio::time::sleep(Duration::from_mins(3 * 60 + 30)).await;
    engine.shutdown(Duration::from_mins(1)).await.unwrap();
    // Retries are at most five minutes apart.
    let told = "content cannot be fetched and expires in";
    assert_eq!(log.count(&[told]), 4, "{}", log.text());
    let last = [
        told,
        "3 h, then it is lost",
        "blob=bad",
        "tenant=\"contoso\"",
    ];
    assert_eq!(log.count(&last), 1, "{}", log.text());
}
