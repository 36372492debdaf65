//! What is logged tells whose it is.

use std::io;
use std::sync::{Arc, Mutex};

use super::fakes::{Fate, World};
use super::*;
use crate::error::Kind;

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
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().compact().with_ansi(false);
    let lines = lines.with_writer(move || writer.clone()).finish();
    // As long as there is only one, the thread that meets a line first decides for all; it may be another test's.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logged = tracing::subscriber::set_default(lines);
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
