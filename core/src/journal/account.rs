//! Reads a tenant's figures for coverage.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};

use super::commit::{Hour, decode_hours};
use super::fold::folded_to;
use super::status::{self, look_into};
use super::{Journal, sql};
use crate::coverage::{
    self, Account, Content, Coverage, Events, Fates, LateEvents, Line, Missed, Question,
    Stragglers, TenantCoverage, Trouble, pass_name,
};
use crate::error::Result;

impl Journal {
    /// What is known of the tenants' events.
    pub async fn coverage(&self, question: Question) -> Result<Coverage> {
        let name_of = {
            let journal = self.clone();
            move |tenant: &str| journal.tenant_name(tenant).to_string()
        };
        self.ask_at_length(move |conn| read(conn, &question, name_of))
            .await
    }

    /// What `summary` makes of each tenant.
    pub async fn coverage_of_each<T: Send + 'static>(
        &self,
        question: Question,
        summary: impl Fn(TenantCoverage) -> T + Send + 'static,
    ) -> Result<Vec<T>> {
        let journal = self.clone();
        self.ask_at_length(move |conn| {
            let mut found = Vec::new();
            each(conn, &question, |account| {
                let name = journal.tenant_name(&account.tenant).to_string();
                found.push(summary(coverage::assess(account, &question, name)));
            })?;
            Ok(found)
        })
        .await
    }

    /// Checks that every account adds up, and says so in the log if one does not.
    pub async fn audit(&self) -> Result<()> {
        let question = Question::usual(self.shared.clock.now());
        let journal = self.clone();
        self.ask_at_length(move |conn| {
            each(conn, &question, |account| {
                for breach in coverage::unbalanced(&account) {
                    tracing::error!(
                        tenant = %journal.tenant_name(&account.tenant),
                        "an account does not add up; keep the journal's folder and report this: {breach}"
                    );
                }
            })
        })
        .await
    }
}

impl Coverage {
    /// Reads the coverage of the journal in `dir` without disturbing the process that may hold it.
    pub fn read(dir: &Path, question: &Question, name_of: impl Fn(&str) -> String) -> Result<Self> {
        read(&look_into(dir)?, question, name_of)
    }
}

/// The coverage of the tenants in question.
fn read(
    conn: &Connection,
    question: &Question,
    name_of: impl Fn(&str) -> String,
) -> Result<Coverage> {
    let mut tenants = Vec::new();
    each(conn, question, |account| {
        let name = name_of(&account.tenant);
        tenants.push(coverage::assess(account, question, name));
    })?;
    Ok(Coverage::of(tenants, question))
}

/// Shows the figures of one tenant after the other, all of one moment: those of a thousand would be too much to hold.
fn each(conn: &Connection, question: &Question, show: impl FnMut(Account)) -> Result<()> {
    sql(conn.execute_batch("BEGIN"))?;
    let shown = each_in_transaction(conn, question, show);
    sql(conn.execute_batch("COMMIT"))?;
    shown
}

fn each_in_transaction(
    conn: &Connection,
    question: &Question,
    mut show: impl FnMut(Account),
) -> Result<()> {
    let totals = status::sinks(conn)?;
    let tenants: Vec<(String, i64)> = {
        let mut select = sql(conn.prepare(
            "SELECT tenant, sum(journaled) FROM lanes WHERE ?1 IS NULL OR tenant = ?1 GROUP BY tenant",
        ))?;
        let rows = sql(select.query_map([&question.tenant], |row| Ok((row.get(0)?, row.get(1)?))))?;
        sql(rows.collect())?
    };
    let folded_to = folded_to(conn)?;
    for (tenant, journaled) in tenants {
        let streams = streams(conn, &tenant)?;
        let mut account = Account {
            events: events(conn, &tenant)?,
            sinks: sinks(conn, &tenant)?,
            totals: totals
                .iter()
                .filter(|sink| sink.tenant == tenant)
                .cloned()
                .collect(),
            journaled,
            folded_to,
            tenant,
            ..Account::default()
        };
        for (stream, source, trouble) in streams {
            account.lines.extend(lines(conn, stream, &source)?);
            account
                .stragglers
                .extend(stragglers(conn, stream, &source)?);
            account.late.extend(late(conn, stream, &source)?);
            activity(conn, stream, &mut account.activity)?;
            account.troubles.extend(trouble);
        }
        show(account);
    }
    Ok(())
}

fn streams(conn: &Connection, tenant: &str) -> Result<Vec<(i64, String, Option<Trouble>)>> {
    let mut select = sql(conn.prepare(
        "SELECT stream, source, trouble_kind, trouble, trouble_since FROM streams WHERE tenant = ?1 ORDER BY source",
    ))?;
    let rows = sql(select.query_map([tenant], |row| {
        let source: String = row.get(1)?;
        let trouble = match row.get(2)? {
            Some(kind) => Some(Trouble {
                source: source.clone(),
                kind,
                error: row.get(3)?,
                since_ms: row.get(4)?,
            }),
            None => None,
        };
        Ok((row.get(0)?, source, trouble))
    }))?;
    sql(rows.collect())
}

fn events(conn: &Connection, tenant: &str) -> Result<BTreeMap<Hour, Events>> {
    let mut select = sql(conn.prepare_cached(
        "SELECT hour, journaled, repeats, variants, late FROM coverage_events WHERE tenant = ?1",
    ))?;
    let rows = sql(select.query_map([tenant], |row| {
        let events = Events {
            journaled: row.get(1)?,
            repeats: row.get(2)?,
            variants: row.get(3)?,
            late: row.get(4)?,
        };
        Ok((row.get(0)?, events))
    }))?;
    sql(rows.collect())
}

/// What became of the events, and what waits: that is in the batches behind the cursors.
fn sinks(conn: &Connection, tenant: &str) -> Result<BTreeMap<String, BTreeMap<Hour, Fates>>> {
    let mut sinks: BTreeMap<String, BTreeMap<Hour, Fates>> = BTreeMap::new();
    let mut select = sql(conn.prepare_cached(
        "SELECT sink, hour, filtered, delivered, dead, skipped FROM coverage_sinks WHERE tenant = ?1",
    ))?;
    let mut rows = sql(select.query([tenant]))?;
    while let Some(row) = sql(rows.next())? {
        let fates = Fates {
            filtered: sql(row.get(2))?,
            delivered: sql(row.get(3))?,
            dead: sql(row.get(4))?,
            skipped: sql(row.get(5))?,
            pending: 0,
        };
        let hours = sinks.entry(sql(row.get(0))?).or_default();
        hours.insert(sql(row.get(1))?, fates);
    }
    let mut select = sql(conn.prepare_cached(
        "SELECT c.sink, b.hours FROM lanes l JOIN cursors c USING (lane) \
         JOIN batches b ON b.lane = c.lane AND b.seq > c.seq WHERE l.tenant = ?1",
    ))?;
    let mut rows = sql(select.query([tenant]))?;
    while let Some(row) = sql(rows.next())? {
        let hours = sinks.entry(sql(row.get(0))?).or_default();
        let waiting = sql(sql(row.get_ref(1))?.as_blob().map_err(Into::into))?;
        for (hour, count) in decode_hours(waiting) {
            hours.entry(hour).or_default().pending += i64::from(count);
        }
    }
    Ok(sinks)
}

/// A stream's content types: those that it says it collects, and those of which there is anything.
fn lines(conn: &Connection, stream: i64, source: &str) -> Result<Vec<Line>> {
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let line = |content_type: &str| Line {
        source: source.to_owned(),
        content_type: content_type.to_owned(),
        ..Line::default()
    };
    let mut select = sql(
        conn.prepare_cached("SELECT content_type, since, kept, ended FROM reach WHERE stream = ?1")
    )?;
    let mut rows = sql(select.query([stream]))?;
    while let Some(row) = sql(rows.next())? {
        let content_type: String = sql(row.get(0))?;
        let known = Line {
            since_ms: sql(row.get(1))?,
            kept_ms: sql(row.get(2))?,
            ended_ms: sql(row.get(3))?,
            ..line(&content_type)
        };
        lines.insert(content_type, known);
    }
    let mut hours = sql(conn.prepare_cached(
        "SELECT content_type, hour, listed, fetched, lost FROM coverage_content WHERE stream = ?1",
    ))?;
    let mut rows = sql(hours.query([stream]))?;
    while let Some(row) = sql(rows.next())? {
        let (listed, fetched, lost): (i64, i64, i64) =
            (sql(row.get(2))?, sql(row.get(3))?, sql(row.get(4))?);
        let content_type: String = sql(row.get(0))?;
        let known = lines
            .entry(content_type)
            .or_insert_with_key(|name| line(name));
        let content = Content {
            listed,
            fetched,
            lost,
            pending: listed - fetched - lost,
            ..Content::default()
        };
        known.hours.insert(sql(row.get(1))?, content);
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    for line in &mut lines {
        complete(conn, stream, line)?;
    }
    Ok(lines)
}

/// Adds to a line how far it is listed, and what waits, is late, was not listed, or is lost.
fn complete(conn: &Connection, stream: i64, line: &mut Line) -> Result<()> {
    let key = params![stream, line.content_type];
    let mut select = sql(conn.prepare_cached(
        "SELECT lag, listed_to FROM passes WHERE stream = ?1 AND content_type = ?2 ORDER BY lag",
    ))?;
    let rows = sql(select.query_map(key, |row| Ok((row.get(0)?, row.get(1)?))))?;
    line.passes = sql(rows.collect())?;
    let mut select = sql(conn.prepare_cached(
        "SELECT \"from\", \"to\", reason FROM gaps WHERE stream = ?1 AND content_type = ?2 ORDER BY \"from\"",
    ))?;
    let rows = sql(select.query_map(key, |row| {
        Ok(Missed {
            from_ms: row.get(0)?,
            to_ms: row.get(1)?,
            reason: row.get(2)?,
        })
    }))?;
    line.gaps = sql(rows.collect())?;
    let mut select = sql(conn.prepare_cached(
        "SELECT created / 3600000, min(expires), max(attempts) FROM units \
         WHERE stream = ?1 AND content_type = ?2 AND state = 0 GROUP BY 1",
    ))?;
    let rows = sql(select.query_map(key, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))?;
    let waiting: Vec<(Hour, i64, i64)> = sql(rows.collect())?;
    let mut select = sql(conn.prepare_cached(
        "SELECT hour, sum(units) FROM straggler_units WHERE stream = ?1 AND content_type = ?2 GROUP BY hour",
    ))?;
    let rows = sql(select.query_map(key, |row| Ok((row.get(0)?, row.get(1)?))))?;
    let late: Vec<(Hour, i64)> = sql(rows.collect())?;
    line.failure = example(conn, stream, &line.content_type, 0)?;
    line.loss = example(conn, stream, &line.content_type, 2)?;
    for (hour, expiry, attempts) in waiting {
        let content = line.hours.entry(hour).or_default();
        content.next_expiry_ms = Some(expiry);
        content.attempts = attempts;
    }
    for (hour, units) in late {
        line.hours.entry(hour).or_default().stragglers = units;
    }
    Ok(())
}

/// The error of the unit in this state that was tried most often, with its name.
fn example(
    conn: &Connection,
    stream: i64,
    content_type: &str,
    state: i64,
) -> Result<Option<String>> {
    // The state is no parameter, for the plan depends on it: there is an index of those that are pending.
    let mut select = sql(conn.prepare_cached(&format!(
        "SELECT unit, error FROM units WHERE state = {state} AND stream = ?1 AND content_type = ?2 \
         AND error IS NOT NULL ORDER BY attempts DESC, created LIMIT 1",
    )))?;
    let rows = sql(select.query_map(params![stream, content_type], |row| {
        let (unit, error): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(format!("{unit}: {error}"))
    }))?;
    let found: Vec<String> = sql(rows.collect())?;
    Ok(found.into_iter().next())
}

fn stragglers(conn: &Connection, stream: i64, source: &str) -> Result<Vec<Stragglers>> {
    let mut select = sql(conn.prepare_cached(
        "SELECT content_type, pass, sum(units), min(first), max(last) FROM straggler_units \
         WHERE stream = ?1 GROUP BY content_type, pass ORDER BY content_type, pass",
    ))?;
    let rows = sql(select.query_map([stream], |row| {
        Ok(Stragglers {
            source: source.to_owned(),
            content_type: row.get(0)?,
            pass: pass_name(row.get(1)?).into_owned(),
            units: row.get(2)?,
            first_ms: row.get(3)?,
            last_ms: row.get(4)?,
        })
    }))?;
    sql(rows.collect())
}

fn late(conn: &Connection, stream: i64, source: &str) -> Result<Vec<LateEvents>> {
    let mut select = sql(conn.prepare_cached(
        "SELECT content_type, pass, workload, events FROM straggler_events WHERE stream = ?1 \
         ORDER BY content_type, pass, workload",
    ))?;
    let rows = sql(select.query_map([stream], |row| {
        Ok(LateEvents {
            source: source.to_owned(),
            content_type: row.get(0)?,
            pass: pass_name(row.get(1)?).into_owned(),
            workload: row.get(2)?,
            events: row.get(3)?,
        })
    }))?;
    sql(rows.collect())
}

fn activity(
    conn: &Connection,
    stream: i64,
    activity: &mut BTreeMap<String, BTreeMap<Hour, i64>>,
) -> Result<()> {
    let mut select =
        sql(conn.prepare_cached("SELECT workload, hour, events FROM activity WHERE stream = ?1"))?;
    let mut rows = sql(select.query([stream]))?;
    while let Some(row) = sql(rows.next())? {
        let hours = activity.entry(sql(row.get(0))?).or_default();
        *hours.entry(sql(row.get(1))?).or_default() += sql(row.get::<_, i64>(2))?;
    }
    Ok(())
}
