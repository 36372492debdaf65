//! Dead letters: found, handed over again with and without a run, dropped.
//!
//! A `file` sink refuses nothing, so the letters here are records that were too large for all.

use std::process::{Child, Stdio};

use audit_exporter_simulator::{Config, ContentType, ExplicitBlob, Records, TenantConfig};
use serde_json::Value;

use crate::exporter::{Ended, Exporter, Home, wait_until};
use crate::microsoft::Microsoft;

const REST: &str = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.archive]
type = "file"
path = "archive/{date}.ndjson"
[sinks.spare]
type = "file"
path = "spare/{date}.ndjson"
filters = ["none"]
[filters.none]
type = "operation"
include = ["None"]
"#;

/// A tenant with ordinary records, and `large` ones of 20 kB.
fn microsoft(large: u32) -> Microsoft {
    let record = |number: u32, text: &str| {
        format!(
            r#"{{"CreationTime":"2026-01-05T10:00:00","Id":"10000000-0000-4000-8000-{number:012}","Operation":"A","Long":"{text}"}}"#
        )
    };
    let blobs = (0..large).map(|number| {
        let records = vec![
            record(2 * number, ""),
            record(2 * number + 1, &"x".repeat(20_000)),
        ];
        ExplicitBlob::new(ContentType::General, records)
    });
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records: Records::Explicit(blobs.collect()),
            ..TenantConfig::default()
        }],
        ..Config::default()
    })
}

fn configure(home: &Home, microsoft: &Microsoft, record_size: &str) {
    let tenant = microsoft.tenant(0, "contoso", "");
    home.configure(&format!(
        "[limits]\nrecord_size = \"{record_size}\"\n{tenant}{REST}"
    ));
}

/// Everything collected with a cap that makes letters of the large records.
fn collected<'a>(home: &'a Home, microsoft: &Microsoft) -> Exporter<'a> {
    configure(home, microsoft, "8KiB");
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter
}

fn letters(home: &Home, more: &[&str]) -> Ended {
    home.ask(&[&["dead-letters"], more].concat())
}

fn list(home: &Home) -> Vec<Value> {
    let listed = letters(home, &["list", "--json"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    serde_json::from_str(&listed.stdout).unwrap()
}

#[test]
fn large_records_arrive_once_the_cap_is_raised_while_it_runs() {
    let microsoft = microsoft(3);
    let home = Home::new("");
    let exporter = collected(&home, &microsoft);
    assert_eq!(list(&home).len(), 3);
    let early = letters(&home, &["replay", "--oversized", "--reason", "RECORD_SIZE"]);
    assert_eq!(early.code, 1, "{early:?}");
    let told: Vec<&str> = early.stdout.lines().collect();
    assert!(
        told[0].starts_with("dead letter 1 stays: the record has 201")
            && told[0].ends_with(" bytes, more than limits.record_size (8192); raise it first"),
        "{early:?}"
    );
    assert_eq!(told[3], "0 delivered, 3 stay dead letters", "{early:?}");
    exporter.stop();

    configure(&home, &microsoft, "1MiB");
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    let replayed = letters(&home, &["replay", "1", "3"]);
    assert_eq!(
        (replayed.code, &*replayed.stdout),
        (0, "0 delivered, 2 journaled for every sink\n"),
        "{replayed:?}"
    );
    exporter.stop();
    // The last one by the command itself, for the next run.
    let replayed = letters(&home, &["replay", "--tenant", "contoso"]);
    assert_eq!(
        (replayed.code, &*replayed.stdout),
        (0, "0 delivered, 1 journaled for every sink\n"),
        "{replayed:?}"
    );
    assert!(list(&home).is_empty());
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
    let status = home.status().unwrap();
    for sink in status["sinks"].as_array().unwrap() {
        assert_eq!(sink["journaled"], 6, "{status}");
    }
}

#[test]
fn letters_go_into_one_sink_alone_with_and_without_a_run() {
    let microsoft = microsoft(2);
    let home = Home::new("");
    collected(&home, &microsoft).stop();
    configure(&home, &microsoft, "1MiB");
    let delivered = |letter: &str| {
        let replayed = letters(&home, &["replay", letter, "--into", "spare"]);
        assert_eq!(
            (replayed.code, &*replayed.stdout),
            (0, "1 delivered\n"),
            "{replayed:?}"
        );
    };
    delivered("1");
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    delivered("2");
    exporter.stop();
    let text = std::fs::read_to_string(home.path("spare/2026-01-05.ndjson")).unwrap();
    assert_eq!(text.lines().count(), 2, "its filters do not count");
    assert!(list(&home).is_empty());
    // The next start leaves what is there.
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    let again = std::fs::read_to_string(home.path("spare/2026-01-05.ndjson")).unwrap();
    assert_eq!(again, text);
}

/// Starts a command that is not waited for.
fn start(home: &Home, words: &[&str]) -> Child {
    let mut command = home.command(words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn killed_in_the_middle_of_a_replay_nothing_is_lost_and_files_have_nothing_twice() {
    let microsoft = microsoft(400);
    let home = Home::new("");
    collected(&home, &microsoft).stop();
    configure(&home, &microsoft, "1MiB");
    let mut killed_midway = 0;
    for left in [300, 200, 100] {
        let mut exporter = home.run();
        exporter.await_drained(microsoft.blobs());
        let mut replay = start(
            &home,
            &["dead-letters", "replay", "--all", "--patience", "1"],
        );
        wait_until("letters go", || list_count(&home) <= left);
        exporter.signal("-KILL");
        exporter.ended();
        replay.wait().unwrap();
        killed_midway += usize::from(list_count(&home) > 0);
    }
    println!("{killed_midway} of 3 kills came in mid-replay");
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    let replayed = letters(&home, &["replay", "--all"]);
    assert_eq!(replayed.code, 0, "{replayed:?}");
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    assert!(list(&home).is_empty());
    microsoft.judge(&home.path("archive"), None);
}

fn list_count(home: &Home) -> usize {
    let listed = letters(home, &["list", "--json", "--limit", "1000"]);
    let all: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    all.len()
}

#[test]
fn what_cannot_be_done_is_said() {
    let microsoft = microsoft(2);
    let home = Home::new("");
    let exporter = collected(&home, &microsoft);
    let nothing = "audit-exporter: which dead letters? give numbers, --sink, --reason, --tenant, --oversized, --from \
        or --to; or --all\n";
    for (words, told) in [
        (
            &["replay", "7"][..],
            "audit-exporter: the journal has no dead letter 7; `audit-exporter dead-letters list` names those it has\n",
        ),
        (
            &["replay", "1", "--into", "nope"],
            "audit-exporter: the configuration has no sink nope; it has archive, spare\n",
        ),
        (&["replay"], nothing),
        (&["drop"], nothing),
        (
            &["drop", "1"],
            "audit-exporter: dropping dead letters loses their records for good; give --yes if that is meant\n",
        ),
    ] {
        let refused = letters(&home, words);
        assert_eq!((refused.code, &*refused.stderr), (78, told), "{words:?}");
    }
    let when = letters(&home, &["list", "--from", "yesterday"]);
    assert_eq!(when.code, 2);
    assert!(
        when.stderr
            .contains("expected a day or a time in UTC such as \"2026-11-20\""),
        "{}",
        when.stderr
    );
    let dropped = letters(&home, &["drop", "1", "--yes"]);
    assert_eq!(dropped.code, 0, "{dropped:?}");
    assert!(
        dropped
            .stdout
            .ends_with("dropped 1 of them; the account still counts them as dead\n"),
        "{dropped:?}"
    );
    let log = exporter.stop();
    assert!(
        log.contains("dead letters were dropped, as an operator asked"),
        "{log}"
    );
    let dropped = letters(&home, &["drop", "--to", "2999-01-01", "--yes"]);
    assert_eq!(dropped.code, 0, "{dropped:?}");
    assert!(list(&home).is_empty());
    let none = letters(&home, &["drop", "--all", "--yes"]);
    assert_eq!(
        (none.code, &*none.stdout),
        (0, "there are no such dead letters\n")
    );
}

#[test]
fn every_command_that_writes_refuses_a_journal_that_another_process_holds() {
    let microsoft = microsoft(1);
    let home = Home::new("");
    configure(&home, &microsoft, "8KiB");
    let config = std::fs::read_to_string(home.path("config.toml")).unwrap();
    // Nobody can be asked to do it instead.
    home.configure_all(&config.replace("listen = \"127.0.0.1:0\"", "enabled = false"));
    let mut exporter = home.run();
    exporter.await_log("collecting");
    wait_until("the letter is there", || list(&home).len() == 1);
    let held = format!(
        "audit-exporter: journal {}: another audit-exporter uses this journal; stop it first, or give this one its own \
         journal.path\n",
        home.path("journal").display()
    );
    let commands: [&[&str]; 8] = [
        &["run"],
        &["run", "--once"],
        &["journal", "check"],
        &["journal", "recover"],
        &["sinks", "forget", "gone"],
        &["dead-letters", "drop", "1", "--yes"],
        &["dead-letters", "replay", "1"],
        &["dead-letters", "replay", "--all"],
    ];
    for words in commands {
        let ended = home.ask(words);
        assert_ne!(ended.code, 0, "{words:?}: {ended:?}");
        if matches!(words[0], "run" | "journal") {
            assert_eq!(ended.stderr, held, "{words:?}");
        }
        assert!(
            ended.stderr.contains("another audit-exporter uses "),
            "{words:?}: {ended:?}"
        );
    }
    assert!(exporter.is_running());
    exporter.stop();
    assert_eq!(list(&home).len(), 1);
}
