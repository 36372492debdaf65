//! A damaged journal: found out at the next start, told in one message, and the safe way on.

use std::path::PathBuf;

use audit_exporter_simulator::{Config, Generated, Records, TenantConfig};
use serde_json::json;

use crate::exporter::{Ended, Home, wait_until};
use crate::microsoft::Microsoft;

const HINT: &str = "; `audit-exporter journal recover` keeps it aside and saves what is intact, and the next run collects \
                    again what Microsoft still has";

fn microsoft() -> Microsoft {
    let records = Records::Generated(Generated {
        events: 1_000,
        days: 0.05,
        ..Generated::default()
    });
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        ..Config::default()
    })
}

fn home(microsoft: &Microsoft) -> Home {
    let sinks = ["good", "late"].map(|name| {
        format!("[sinks.{name}]\ntype = \"file\"\npath = \"{name}/{{content_type}}.ndjson\"\n")
    });
    Home::new(&format!(
        "{}[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n{}",
        microsoft.tenant(0, "contoso", ""),
        sinks.concat()
    ))
}

/// Collects everything; the sink `late` gets nothing, so that the journal holds it all. Then `kill -9`.
fn collected_and_killed(microsoft: &Microsoft, home: &Home) {
    std::fs::write(home.path("late"), "a file where the folder should be").unwrap();
    let mut exporter = home.run();
    let blobs = microsoft.blobs();
    wait_until("all is fetched and one sink has it", || {
        assert!(exporter.is_running(), "{}", exporter.log());
        home.status().is_some_and(|status| {
            let tenants = status["tenants"].as_array().unwrap().iter();
            let fetched: u64 = tenants.filter_map(|one| one["fetched"].as_u64()).sum();
            fetched == blobs && status["sinks"][0]["pending"] == 0
        })
    });
    drop(exporter);
    std::fs::remove_file(home.path("late")).unwrap();
}

fn file(home: &Home, name: &str) -> PathBuf {
    home.path("journal").join(name)
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// `run` and `run --once` refuse with this message.
fn assert_refused(home: &Home, what: &str) {
    let message = format!(
        "audit-exporter: journal {}: the file {what}{HINT}\n",
        home.path("journal").display()
    );
    for words in [&["run"][..], &["run", "--once"]] {
        let ended = home.ask(words);
        assert_eq!((ended.code, &*ended.stderr), (78, &*message), "{words:?}");
    }
}

/// Recovers, and returns where the damaged part is kept and what was told besides.
fn recover(home: &Home, damage: &str) -> (PathBuf, String) {
    let checked = home.ask(&["journal", "check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.stdout.contains(damage), "{checked:?}");
    let Ended {
        code,
        stdout,
        stderr,
    } = home.ask(&["journal", "recover"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains(damage), "{stdout}");
    let kept = stdout
        .lines()
        .find_map(|line| line.strip_prefix("what is damaged is kept in "));
    let kept = PathBuf::from(kept.unwrap());
    assert!(kept.is_dir(), "{stdout}");
    (kept, stdout)
}

/// Runs until both sinks have everything that Microsoft has shown. Returns the status.
fn collect_the_rest(microsoft: &Microsoft, home: &Home) -> serde_json::Value {
    let mut exporter = home.run();
    exporter.await_log("collecting");
    // What is listed again before a damaged body is found out is not known to be wanted.
    wait_until("every batch is delivered or skipped", || {
        assert!(exporter.is_running(), "{}", exporter.log());
        home.status().is_some_and(|status| {
            let mut sinks = status["sinks"].as_array().unwrap().iter();
            sinks.all(|one| one["pending"] == 0)
        })
    });
    // Every hour is listed again within a day.
    microsoft.control("clock", &json!({"advance_seconds": 86_400}));
    // What was skipped counts as lost until it is listed again.
    exporter.await_drained(microsoft.blobs());
    wait_until("nothing is lost any more", || {
        assert!(exporter.is_running(), "{}", exporter.log());
        home.status().is_some_and(|status| {
            let mut tenants = status["tenants"].as_array().unwrap().iter();
            tenants.all(|one| one["lost"] == 0)
        })
    });
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    home.status().unwrap()
}

fn assert_complete(microsoft: &Microsoft, home: &Home) {
    for sink in ["good", "late"] {
        let (_, told) = microsoft.compare(&home.path(sink), None);
        assert!(
            told.contains(" 0 missing, ") && told.contains(" 0 foreign"),
            "{sink}: {told}"
        );
    }
}

#[test]
fn a_flipped_bit_in_the_database_is_refused_and_a_new_journal_collects_all_again() {
    let microsoft = microsoft();
    let home = home(&microsoft);
    collected_and_killed(&microsoft, &home);
    // Closed in good order once, so that the pages are in the database.
    assert_eq!(home.ask(&["sinks", "forget", "none"]).code, 78);
    let database = file(&home, "journal.sqlite");
    let pages = database.metadata().unwrap().len() / 8192;
    flip(&database, 8192 * 3 + 4000);
    let what = format!("1 of its {pages} pages hold something else than was written");
    assert_refused(&home, &format!("{} is damaged: {what}", database.display()));
    let (kept, told) = recover(&home, &what);
    assert!(kept.join("journal.sqlite").exists());
    assert!(
        told.contains("the next run begins anew with what Microsoft still lists (the last 7 days): sinks get events that")
    );
    collect_the_rest(&microsoft, &home);
    assert_complete(&microsoft, &home);
    // The sink that had nothing has everything once.
    microsoft.judge(&home.path("late"), None);
}

#[test]
fn a_database_or_a_log_that_is_gone_or_cut_off_is_refused() {
    let microsoft = microsoft();
    let home = home(&microsoft);
    collected_and_killed(&microsoft, &home);
    let (database, log) = (
        file(&home, "journal.sqlite"),
        file(&home, "journal.sqlite-wal"),
    );
    let whole = std::fs::read(&database).unwrap();
    for harm in [None, Some(0)] {
        match harm {
            None => std::fs::remove_file(&database).unwrap(),
            Some(length) => std::fs::write(&database, &whole[..length]).unwrap(),
        }
        let what = format!("{} is damaged: it is missing, or empty", database.display());
        assert_refused(&home, &what);
    }
    std::fs::write(&database, &whole).unwrap();
    let frames = std::fs::read(&log).unwrap();
    std::fs::write(&log, &frames[..frames.len() / 2]).unwrap();
    let refused = home.ask(&["run"]);
    let start = format!("the file {} is damaged: ", log.display());
    assert!(refused.stderr.contains(&start) && refused.stderr.ends_with(&format!("{HINT}\n")));
    let (kept, _) = recover(&home, "journal.sqlite-wal is damaged: ");
    assert!(kept.join("bodies.1").exists());
    collect_the_rest(&microsoft, &home);
    assert_complete(&microsoft, &home);
}

#[test]
fn a_damaged_body_is_skipped_on_record_and_its_unit_is_fetched_again() {
    let microsoft = microsoft();
    let home = home(&microsoft);
    collected_and_killed(&microsoft, &home);
    let bodies = file(&home, "bodies.1");
    flip(&bodies, 100);
    let checked = home.ask(&["journal", "check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(
        checked.stdout.starts_with("bodies.1: 1 batches with "),
        "{checked:?}"
    );
    // Nobody has to do anything: the other batches are delivered, this one is told of.
    let status = collect_the_rest(&microsoft, &home);
    let skip = &status["skips"][0];
    assert_eq!(skip["sink"], "late", "{status}");
    assert_eq!(
        skip["reason"],
        format!("{} does not hold what was written", bodies.display()),
        "{status}"
    );
    let skipped: i64 = status["sinks"][1]["skipped"].as_i64().unwrap();
    assert!(skipped > 0, "{status}");
    assert_complete(&microsoft, &home);
    microsoft.judge(&home.path("late"), None);
    // What the other sink got twice is what this one had skipped.
    let (_, told) = microsoft.compare(&home.path("good"), None);
    assert!(told.contains(&format!(" {skipped} twice")), "{told}");
}

#[test]
fn bodies_that_are_gone_are_refused_and_recovered() {
    let microsoft = microsoft();
    let home = home(&microsoft);
    collected_and_killed(&microsoft, &home);
    let bodies = file(&home, "bodies.1");
    let length = bodies.metadata().unwrap().len();
    std::fs::remove_file(&bodies).unwrap();
    let what = format!("it has 0 bytes of at least {length}");
    assert_refused(&home, &format!("{} is damaged: {what}", bodies.display()));
    let (_, told) = recover(&home, "bodies.1: ");
    assert!(
        told.contains(
            "sinks that have not got the damaged batches skip them, on record; their content blobs are fetched again"
        ),
        "{told}"
    );
    let whole = home.ask(&["journal", "recover"]);
    // What is skipped stays damaged until it is skipped.
    assert_eq!(whole.code, 0, "{whole:?}");
    collect_the_rest(&microsoft, &home);
    assert_complete(&microsoft, &home);
    microsoft.judge(&home.path("late"), None);
    assert_eq!(
        home.ask(&["journal", "check"]).stdout,
        "the journal is whole\n"
    );
}
