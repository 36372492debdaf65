//! A damaged journal is found out: never a wrong or missing event in silence.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What the journal of each case holds: sixty events in twelve batches, of which sink `a` has three, `b` none.
const UNITS: u64 = 12;
const PASSED: u64 = 3;

/// A journal as it is after `kill -9`, or after it was closed.
async fn journal(clean: bool) -> tempfile::TempDir {
    let mut bench = Bench::attached(&[sink("a"), sink("b")]).await;
    for unit in 0..UNITS {
        bench
            .commit(&format!("u{unit}"), &records(5 * unit..5 * unit + 5))
            .await;
    }
    bench.pass("a", bench.lane(), PASSED).await;
    bench.journal().settled().await.unwrap();
    if clean {
        bench.close();
    }
    copy(&bench.dir.path().join("journal"))
}

/// A copy of a journal's folder, in a folder of its own.
fn copy(journal: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("journal");
    std::fs::create_dir(&to).unwrap();
    for path in files(journal) {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A kind of damage. Places are parts of a file's length, of 2^16.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip(u16, u8),
    Cut(u16),
    Remove,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        6 => (any::<u16>(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        2 => any::<u16>().prop_map(Harm::Cut),
        1 => Just(Harm::Cut(0)),
        1 => Just(Harm::Remove),
    ]
}

fn inflict(path: &Path, harm: Harm) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = |at: u16| bytes.len() * usize::from(at) / (1 << 16);
    match harm {
        Harm::Remove => std::fs::remove_file(path).unwrap(),
        Harm::Cut(at) => std::fs::write(path, &bytes[..place(at)]).unwrap(),
        Harm::Flip(at, bit) if !bytes.is_empty() => {
            let at = place(at);
            bytes[at] ^= 1 << bit;
            std::fs::write(path, bytes).unwrap();
        }
        Harm::Flip(..) => {}
    }
}

/// All that a sink gets, with what it skips.
async fn drain(journal: &Journal, name: &str, lane: LaneId) -> Vec<String> {
    let mut got = Vec::new();
    while let Some((_, _, cursor)) = journal.behind(name).into_iter().find(|b| b.0 == lane) {
        match journal.read(lane, cursor, 7, usize::MAX).await {
            Err(error) if error.kind() == crate::Kind::Lost => {
                journal.skip_damaged(name, lane, cursor).await.unwrap();
            }
            found => {
                let found = found.unwrap();
                let mut tally = Tally::default();
                for stored in &found {
                    for event in stored.events.iter() {
                        tally.delivered(stored.seq, hour_of(event));
                    }
                }
                got.extend(texts(&found));
                let step = Advance {
                    sink: name.into(),
                    lane,
                    last: found.last().unwrap().seq,
                    receipt: None,
                    tally,
                    changes: Changes::default(),
                };
                journal.advance(step).await.unwrap();
            }
        }
    }
    got
}

fn open(dir: &Path) -> Result<(Journal, Closer)> {
    Journal::open(
        &dir.join("journal"),
        Limits::default(),
        Clock::starting_at(start()),
        Metrics::new().unwrap(),
    )
}

/// The journal opens and tells all, or what is missing, or does not open and says why.
async fn assert_honest(dir: &Path, what: &str) {
    let journal_dir = dir.join("journal");
    let whole = Damage::find(&journal_dir).is_ok_and(|damage| damage.is_none());
    let (journal, closer) = match open(dir) {
        Ok(opened) => opened,
        Err(error) => {
            let told = error.to_string();
            assert!(!whole, "{what}: {told}");
            assert!(
                told.contains(" is damaged: ") && told.contains("`audit-exporter journal recover`"),
                "{what}: {told}"
            );
            return;
        }
    };
    let bench = Bench {
        dir: tempfile::tempdir().unwrap(),
        clock: Clock::starting_at(start()),
        limits: Limits::default(),
        open: Some((journal, closer)),
    };
    bench.attach(&[sink("a"), sink("b")]).await;
    let (journal, lane) = (bench.journal(), bench.lane());
    let all = records(0..5 * UNITS);
    for (name, first) in [("a", 5 * PASSED as usize), ("b", 0)] {
        let got = drain(journal, name, lane).await;
        let known: BTreeSet<&String> = all[first..].iter().collect();
        assert!(
            got.iter().all(|text| known.contains(text)),
            "{what}: {got:?}"
        );
        let status = journal.status().await.unwrap();
        let account = status.sinks.iter().find(|sink| sink.sink == name).unwrap();
        assert!(account.balances(), "{what}: {account:?}");
        assert_eq!(account.pending, 0, "{what}");
        assert_eq!(
            account.skipped as usize + got.len(),
            all.len() - first,
            "{what}"
        );
        assert!(!whole || account.skipped == 0, "{what}");
    }
    // Ids that are gone let repeats through, and nothing else happens to an event.
    let mut repeats = 0;
    for unit in 0..UNITS {
        let again = records(5 * unit..5 * unit + 5);
        repeats += bench.commit(&format!("again{unit}"), &again).await.repeats;
    }
    assert!(!whole || repeats == all.len(), "{what}: {repeats}");
}

/// What follows a recovery is a whole journal.
fn assert_recovers(dir: &Path, what: &str) {
    let journal_dir = dir.join("journal");
    let streams = [("activity".to_owned(), TENANT.to_owned())];
    if let Some(recovered) = recover(&journal_dir, &streams, DAY, start()).unwrap() {
        assert!(recovered.aside.is_dir(), "{what}");
        assert!(!recovered.damage.lines().is_empty(), "{what}");
        assert!(!recovered.told.is_empty(), "{what}");
    }
    let (journal, closer) = open(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(journal);
    closer.wait();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_damage_loses_or_changes_an_event_in_silence(
        clean: bool,
        which in any::<proptest::sample::Index>(),
        harm in harm(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let one = journal(clean).await;
            let files = files(&one.path().join("journal"));
            let path = which.get(&files);
            let what = format!("{} {harm:?}, clean: {clean}", path.display());
            inflict(path, harm);
            let other = copy(&one.path().join("journal"));
            assert_honest(one.path(), &what).await;
            assert_recovers(other.path(), &what);
        });
    }
}

#[tokio::test]
async fn an_undamaged_journal_is_whole_after_a_kill_and_after_a_close() {
    for clean in [true, false] {
        let copy = journal(clean).await;
        let damage = Damage::find(&copy.path().join("journal")).unwrap();
        assert!(damage.is_none(), "{:?}", damage.lines());
    }
}

#[tokio::test]
async fn a_log_that_has_lost_commits_is_refused() {
    let copy = journal(false).await;
    let log = copy.path().join("journal/journal.sqlite-wal");
    let whole = std::fs::read(&log).unwrap();
    // A whole frame less: SQLite itself would go back by a transaction and say nothing.
    std::fs::write(&log, &whole[..whole.len() - 24 - 8192]).unwrap();
    let error = open(copy.path()).err().unwrap().to_string();
    assert!(error.contains("journal.sqlite-wal is damaged: "), "{error}");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_database_is_refused() {
    let copy = journal(true).await;
    let database = copy.path().join("journal").join(FILE);
    let whole = std::fs::read(&database).unwrap();
    for at in (0..whole.len()).step_by(4_099) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&database, bytes).unwrap();
        let error = sums::verify(&copy.path().join("journal")).unwrap_err();
        assert!(error.to_string().contains(" is damaged: "), "{at}: {error}");
    }
}
