//! Coverage over real journals: what is committed is what is told.

use chrono::TimeDelta;

use super::*;
use crate::coverage::silence::Mood;
use crate::coverage::{Coverage, Question, State, TenantCoverage};
use crate::plugin::{Listing, Pass, Reach};

const HOUR: Duration = Duration::from_hours(1);

/// Collected for a week before the start; `to` hours after it the passes have come.
fn reach(content_type: &str, to: [i64; 3]) -> Reach {
    let lags = [Duration::ZERO, HOUR, Duration::from_hours(156)];
    let passes = lags.into_iter().zip(to).map(|(lag, hours)| Pass {
        lag,
        to: start() + TimeDelta::hours(hours),
    });
    Reach {
        content_type: content_type.into(),
        since: start() - 7 * DAY,
        passes: passes.collect(),
        kept: 7 * DAY,
    }
}

/// A unit that became available so many minutes after the start.
fn made(id: &str, minutes: i64) -> Unit {
    Unit {
        created: start() + TimeDelta::minutes(minutes),
        expires: start() + TimeDelta::minutes(minutes) + 7 * DAY,
        ..unit(id)
    }
}

async fn list(bench: &Bench, units: Vec<Unit>, to: [i64; 3]) -> Registered {
    let listing = Listing {
        units,
        gaps: Vec::new(),
        reach: vec![reach("Audit.General", to)],
    };
    let stream = bench.stream().await;
    let listed = bench.journal().register_listing(&stream, listing, None);
    listed.await.unwrap()
}

async fn ask(bench: &Bench, hours: bool) -> Coverage {
    let question = Question {
        to: Some(start().date_naive()),
        hours,
        ..Question::usual(start() + 9 * DAY)
    };
    bench.journal().coverage(question).await.unwrap()
}

async fn tenant(bench: &Bench, hours: bool) -> TenantCoverage {
    let coverage = ask(bench, hours).await;
    let mut tenants = coverage.tenants.into_iter();
    tenants.find(|tenant| tenant.tenant == TENANT).unwrap()
}

fn workload(number: u64, workload: &str) -> String {
    record(number).replace(
        "\"Operation\"",
        &format!("\"Workload\":\"{workload}\",\"Operation\""),
    )
}

#[tokio::test]
async fn stragglers_are_counted_by_pass_and_content_type_and_their_events_by_workload_too() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let first = list(&bench, vec![made("u", 10)], [2, 0, 0]).await;
    assert_eq!(first.stragglers.len(), 0, "the first listing");
    // Listed to two o'clock: what shows up in the half hour before was found by a poll, what is older by a pass.
    let units = vec![
        made("poll", 100),
        made("hour", 20),
        made("u", 10),
        made("new", 130),
    ];
    let again = list(&bench, units, [3, 2, 0]).await;
    assert_eq!(again.new["Audit.General"], 3);
    let found: Vec<_> = again
        .stragglers
        .iter()
        .map(|((_, lag), count)| (*lag, *count))
        .collect();
    assert_eq!(found, [(0, 1), (3600, 1)]);
    let late = [
        workload(1, "Exchange"),
        workload(12, "Exchange"),
        workload(13, "no name!"),
        workload(16, "Unheard"),
    ];
    let done = bench.commit("hour", &late).await;
    let found = |pass, events: &[(&'static str, usize)]| {
        let events = events.iter().copied().collect();
        Some(Late { pass, events })
    };
    assert_eq!(done.late, found(3600, &[("Exchange", 2), ("other", 2)]));
    // Repeats are not new, so not late either.
    let again = [late[0].clone(), record(14)];
    assert_eq!(
        bench.commit("poll", &again).await.late,
        found(0, &[("other", 1)])
    );
    assert_eq!(bench.commit("new", &records([15])).await.late, None);
    bench.reopen();
    bench.attach(&[sink("a")]).await;
    let told = tenant(&bench, true).await;
    let units: Vec<_> = told
        .stragglers
        .iter()
        .map(|one| (one.pass.as_str(), one.units))
        .collect();
    assert_eq!(units, [("poll", 1), ("+1h", 1)]);
    let events = told.late_events.iter();
    let events: Vec<_> = events
        .map(|one| (&*one.content_type, &*one.pass, &*one.workload, one.events))
        .collect();
    assert_eq!(
        events,
        [
            ("Audit.General", "poll", "other", 1),
            ("Audit.General", "+1h", "Exchange", 2),
            ("Audit.General", "+1h", "other", 2)
        ]
    );
    let rows = told.rows.iter().filter(|row| row.events.late > 0);
    let late: Vec<_> = rows
        .map(|row| (row.span.to_string(), row.events.late))
        .collect();
    let hour = |hour| format!("2026-03-01T{hour:02}:00Z");
    assert_eq!(late, [(hour(0), 1), (hour(1), 4)]);
}

#[tokio::test]
async fn an_hour_is_settled_only_when_every_pass_of_every_content_type_has_come_over_it() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let all = vec![
        reach("Audit.General", [-168; 3]),
        reach("DLP.All", [-168; 3]),
    ];
    bench
        .journal()
        .collects(&stream, all.clone())
        .await
        .unwrap();
    list(&bench, vec![made("u", 10)], [200, 200, 48]).await;
    bench.commit("u", &records([1])).await;
    let state = |told: &TenantCoverage| told.rows.last().unwrap().state.unwrap();
    let told = tenant(&bench, false).await;
    assert_eq!(
        state(&told),
        State::AtRisk,
        "DLP.All was not listed for more than a week"
    );
    let listing = Listing {
        reach: vec![reach("DLP.All", [200, 200, 47])],
        ..Listing::default()
    };
    bench
        .journal()
        .register_listing(&stream, listing, None)
        .await
        .unwrap();
    assert_eq!(
        state(&tenant(&bench, false).await),
        State::Open,
        "its last pass is still to come"
    );
    bench.reopen();
    bench.attach(&[sink("a")]).await;
    assert_eq!(state(&tenant(&bench, false).await), State::Open);
    // Collected no longer: what it was not listed for the last time will never be known.
    bench
        .journal()
        .collects(&stream, all[..1].to_vec())
        .await
        .unwrap();
    list(&bench, Vec::new(), [200, 200, 48]).await;
    assert_eq!(
        state(&tenant(&bench, false).await),
        State::Settled,
        "it left before that day"
    );
}

#[tokio::test]
async fn what_expires_first_is_known_by_hour_and_for_what_was_not_listed() {
    let bench = Bench::attached(&[sink("a")]).await;
    let sooner = Unit {
        expires: start() + DAY,
        ..made("sooner", 20)
    };
    let listed = vec![made("u", 10), sooner, made("v", 70)];
    list(&bench, listed, [3, 1, 0]).await;
    let told = tenant(&bench, true).await;
    // Its content is kept for a week, and all before the third hour is listed.
    let listing = start() + TimeDelta::hours(3) + 7 * DAY;
    assert_eq!(
        told.passes[0].listing_expiry_ms,
        Some(listing.timestamp_millis())
    );
    let first = |told: &TenantCoverage| -> Vec<_> {
        let content = told.rows.iter().flat_map(|row| &row.content);
        let waiting = content.filter_map(|one| one.figures.next_expiry_ms);
        waiting.collect()
    };
    let of_v = made("v", 70).expires.timestamp_millis();
    let sooner = (start() + DAY).timestamp_millis();
    assert_eq!(first(&told), [sooner, of_v]);
    bench.commit("sooner", &records([1])).await;
    bench.commit("v", &records([2])).await;
    let of_u = made("u", 10).expires.timestamp_millis();
    assert_eq!(first(&tenant(&bench, true).await), [of_u]);
}

#[tokio::test]
async fn what_waits_and_what_became_of_the_rest_is_told_by_hour() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    list(&bench, vec![made("u", 10), made("v", 70)], [2, 1, 0]).await;
    bench.commit("u", &records([1, 2, 11])).await;
    bench.pass("a", bench.lane(), 1).await;
    bench.commit("v", &records([12])).await;
    let gone = made("gone", 80);
    list(&bench, vec![gone.clone()], [2, 1, 0]).await;
    let stream = bench.stream().await;
    bench
        .journal()
        .lose(&stream, &gone, "HTTP 404".into())
        .await
        .unwrap();
    let coverage = ask(&bench, true).await;
    assert!(coverage.balanced);
    assert_eq!(coverage.state, State::Lost);
    let told = tenant(&bench, true).await;
    let row = |hour: usize| {
        let span = format!("2026-03-01T{hour:02}:00Z");
        told.rows
            .iter()
            .find(|row| row.span.to_string() == span)
            .unwrap()
    };
    let fates = |hour: usize, sink: &str| {
        let fates = row(hour).sinks[sink];
        (fates.delivered, fates.pending)
    };
    assert_eq!((fates(0, "a"), fates(0, "b")), ((2, 0), (0, 2)));
    assert_eq!((fates(1, "a"), fates(1, "b")), ((1, 1), (0, 2)));
    let content = row(1).all_content();
    assert_eq!((content.listed, content.fetched, content.lost), (2, 1, 1));
    assert!(
        told.reasons[0].text.contains("1 content blob lost"),
        "{:?}",
        told.reasons
    );
    assert!(
        told.reasons[0].text.ends_with("gone: HTTP 404"),
        "{:?}",
        told.reasons
    );
}

#[tokio::test]
async fn figures_that_were_tampered_with_are_noticed() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    bench.commit("u", &records(0..5)).await;
    assert!(ask(&bench, false).await.balanced);
    for tamper in [
        "UPDATE coverage_events SET journaled = journaled + 1",
        "UPDATE cursors SET delivered = delivered + 1",
        "INSERT INTO coverage_sinks (sink, tenant, hour, dead) SELECT 'a', tenant, 5, 1 FROM lanes LIMIT 1",
    ] {
        bench.close();
        let conn = open_database(&bench.dir.path().join("journal").join(FILE)).unwrap();
        conn.execute(tamper, []).unwrap();
        drop(conn);
        bench.reopen();
        let before = ask(&bench, false).await;
        assert_eq!(
            (before.balanced, before.state),
            (false, State::Unbalanced),
            "{tamper}"
        );
    }
    assert_eq!(tenant(&bench, false).await.unbalanced.len(), 4);
}

#[tokio::test]
async fn a_source_that_cannot_list_is_broken_until_it_can() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    list(&bench, vec![made("u", 10)], [2, 1, 0]).await;
    bench.commit("u", &[workload(1, "Exchange")]).await;
    let stream = bench.stream().await;
    let error = Error::auth("auditing is off");
    bench
        .journal()
        .trouble(&stream, Some(&error))
        .await
        .unwrap();
    bench.reopen();
    let told = tenant(&bench, false).await;
    assert_eq!(told.troubles[0].error, "auditing is off");
    assert!(
        told.reasons
            .iter()
            .any(|reason| reason.text.contains("auditing is off"))
    );
    let moods: Vec<_> = told
        .workloads
        .iter()
        .map(|one| (&*one.workload, one.mood))
        .collect();
    assert_eq!(moods, [("(all)", Mood::Broken), ("Exchange", Mood::Broken)]);
    bench.journal().trouble(&stream, None).await.unwrap();
    assert!(tenant(&bench, false).await.troubles.is_empty());
}

/// Five content types, two sinks, eight workloads, an event an hour of each.
fn fill(conn: &Connection, days: i64) {
    let now = start().timestamp() / 3600;
    let fill = format!(
        "WITH RECURSIVE h(hour) AS (SELECT {from} UNION ALL SELECT hour + 1 FROM h WHERE hour + 1 < {now}), \
         five(n) AS (VALUES ('Audit.Exchange'), ('Audit.General'), ('DLP.All'), ('Audit.SharePoint'), \
         ('Audit.AzureActiveDirectory')) \
         INSERT INTO coverage_content SELECT 1, n, hour, 40, 40, 0 FROM h, five; \
         WITH RECURSIVE h(hour) AS (SELECT {from} UNION ALL SELECT hour + 1 FROM h WHERE hour + 1 < {now}) \
         INSERT INTO coverage_events SELECT '{TENANT}', hour, 20000, 100, 0, 7 FROM h; \
         WITH RECURSIVE h(hour) AS (SELECT {from} UNION ALL SELECT hour + 1 FROM h WHERE hour + 1 < {now}), \
         two(n) AS (VALUES ('archive'), ('power-platform')) \
         INSERT INTO coverage_sinks SELECT n, '{TENANT}', hour, 0, 20000, 0, 0 FROM h, two; \
         WITH RECURSIVE h(hour) AS (SELECT {from} UNION ALL SELECT hour + 1 FROM h WHERE hour + 1 < {now}), \
         eight(n) AS (VALUES ('Exchange'), ('SharePoint'), ('OneDrive'), ('MicrosoftTeams'), ('PowerApps'), \
         ('MicrosoftFlow'), ('AzureActiveDirectory'), ('SecurityComplianceCenter')) \
         INSERT INTO activity SELECT 1, n, hour, 3000 FROM h, eight",
        from = now - days * 24,
    );
    conn.execute_batch(&fill).unwrap();
}

#[tokio::test]
async fn old_hours_become_days_and_old_days_one_row_and_nothing_of_the_sums_is_lost() {
    let mut bench = Bench::attached(&[]).await;
    bench.close();
    let conn = open_database(&bench.dir.path().join("journal").join(FILE)).unwrap();
    let used = |conn: &Connection| writer::used_bytes(conn).unwrap();
    let empty = used(&conn);
    fill(&conn, 35);
    let by_hour = used(&conn) - empty;
    conn.execute_batch("DELETE FROM coverage_content; DELETE FROM coverage_events; DELETE FROM coverage_sinks; DELETE FROM activity")
        .unwrap();
    fill(&conn, 500);
    conn.execute(
        "INSERT INTO coverage_events (tenant, hour, journaled) VALUES (?1, -1, 9)",
        [TENANT],
    )
    .unwrap();
    drop(conn);
    // Written past the journal: its sums know nothing of it.
    std::fs::remove_file(bench.dir.path().join("journal").join("journal.sums")).unwrap();
    bench.reopen();
    let sum =
        |column: &str, table: &str| bench.figure(&format!("SELECT sum({column}) FROM {table}"));
    let sums = || {
        [
            sum("listed", "coverage_content"),
            sum("fetched", "coverage_content"),
            sum("journaled", "coverage_events"),
            sum("late", "coverage_events"),
            sum("delivered", "coverage_sinks"),
        ]
    };
    let before = sums();
    for _ in 0..2 {
        bench.journal().fold().await.unwrap();
        assert_eq!(sums(), before);
    }
    assert_eq!(
        bench.figure("SELECT count(*) FROM coverage_events"),
        35 * 24 + 365 + 2
    );
    assert_eq!(bench.figure("SELECT count(*) FROM activity"), 35 * 24 * 8);
    let all = {
        let conn = open_read_only(&bench.dir.path().join("journal").join(FILE)).unwrap();
        used(&conn) - empty
    };
    println!("35 days by the hour {by_hour} bytes, 400 days folded {all} bytes");
    assert!(
        by_hour / 35 < 20_000,
        "a recent tenant-day takes {} bytes",
        by_hour / 35
    );
    assert!(
        (all - by_hour) / 365 < 1_000,
        "an old one {}",
        (all - by_hour) / 365
    );
}
