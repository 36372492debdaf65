//! Search-UnifiedAuditLog, from the same records as the Management Activity API: by Exchange Online's `InvokeCommand`
//! ([`invoke`]) and by the older REST service with Basic authentication ([`psws`]), which both run the same cmdlet.
//!
//! Sessions are remembered by tenant and id, whatever service they came by. Faults are drawn for a tenant and a time
//! that is searched, not for a session, so that a client that begins anew does not start a new row of failures.

mod config;
mod index;
pub(crate) mod invoke;
pub(crate) mod psws;
mod session;

use std::{
    collections::HashMap,
    sync::{Mutex, atomic::Ordering},
};

use axum::http::{StatusCode, header};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub use config::{AfterTheEnd, AuditReader, ResultCount, SearchConfig, SearchFaults};

pub(crate) use self::index::{Event, Filter};
use self::{
    config::SearchFailure,
    index::Index,
    session::{Command, Page, Session},
};
use crate::{
    answer::{self, Answer},
    chance::{Chance, mix, part},
    faults::{Failure, Faults},
    state::{State, Tenant, lock},
};

/// `ResultSize`, unless it is given.
const USUAL_SIZE: usize = 100;
/// The largest `ResultSize`.
const MOST_SIZE: usize = 5_000;

/// What the search knows while it runs.
#[derive(Default)]
pub(crate) struct Search {
    indexes: Mutex<HashMap<Uuid, Index>>,
    sessions: Mutex<HashMap<(Uuid, String), Session>>,
    /// How often in a row a search of a time has failed.
    failures: Mutex<HashMap<u64, u32>>,
    minutes: Mutex<HashMap<Uuid, (i64, u32)>>,
}

/// What a call asks for.
struct Asked {
    filter: Filter,
    /// `ResultSize`.
    size: usize,
    session: Option<(String, Command)>,
}

/// A parameter that is not as it has to be: the exception's type, and its message.
struct Invalid(&'static str, String);

/// What a call gets: rows, or a failure in place of them.
struct Found {
    page: Page,
    failure: Option<SearchFailure>,
}

impl Asked {
    /// Reads the cmdlet's parameters; their names in lower case.
    fn read(
        parameters: &HashMap<String, Vec<String>>,
        state: &State,
        now: DateTime<Utc>,
    ) -> Result<Self, Invalid> {
        let one = |name: &str| Some(parameters.get(name)?.first()?.as_str());
        let time = |name: &'static str| {
            let text = one(name).unwrap_or_default();
            read_time(text).ok_or_else(|| {
                let text = format!("Cannot process argument transformation on parameter '{name}'. Cannot convert value \"{text}\" to type \"ExDateTime\".");
                Invalid("ParameterBindingArgumentTransformationException", text)
            })
        };
        let (from, to) = (time("startdate")?, time("enddate")?);
        let kept = now - TimeDelta::days(i64::from(state.config.search.retention_days));
        if from < kept {
            let text = format!(
                "The startDate should be after {}.",
                kept.format("%m/%d/%Y %H:%M:%S")
            );
            return Err(Invalid("InvalidParameterValueException", text));
        }
        let size = match one("resultsize") {
            None => USUAL_SIZE,
            Some(text) => text.parse().ok().filter(|size| *size <= MOST_SIZE).ok_or_else(|| {
                let text = format!("Cannot validate argument on parameter 'ResultSize'. The argument {text} is not between 1 and {MOST_SIZE}.");
                Invalid("ParameterBindingValidationException", text)
            })?,
        };
        let command = one("sessioncommand").map(|text| {
            Command::parse(text).ok_or_else(|| {
                let text = format!("Cannot convert value \"{text}\" to type \"UnifiedAuditSessionCommand\". Specify one of the following enumerator names and try again: Initialize, ReturnLargeSet, ReturnNextPreviewPage.");
                Invalid("ParameterBindingArgumentTransformationException", text)
            })
        });
        let command = command
            .transpose()?
            .unwrap_or(Command::ReturnNextPreviewPage);
        let names = |name: &str| {
            let names = parameters.get(name).into_iter().flatten();
            names.map(|name| name.to_lowercase()).collect()
        };
        Ok(Self {
            filter: Filter {
                from,
                to,
                operations: names("operations"),
                users: names("userids"),
            },
            size,
            session: one("sessionid").map(|id| (id.to_owned(), command)),
        })
    }
}

/// The forms in which the cmdlet takes a time; UTC.
fn read_time(text: &str) -> Option<DateTime<Utc>> {
    let date = |form| chrono::NaiveDate::parse_from_str(text, form).ok();
    let time = |form| chrono::NaiveDateTime::parse_from_str(text, form).ok();
    let midnight = |date: chrono::NaiveDate| date.and_time(chrono::NaiveTime::MIN);
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .or_else(|| {
            ["%m/%d/%Y", "%Y-%m-%d"]
                .into_iter()
                .find_map(date)
                .map(midnight)
                .or_else(|| {
                    [
                        "%m/%d/%Y %H:%M:%S",
                        "%m/%d/%Y %H:%M",
                        "%Y-%m-%dT%H:%M:%S%.f",
                    ]
                    .into_iter()
                    .find_map(time)
                })
                .map(|time| time.and_utc())
        })
}

impl Search {
    /// Runs the cmdlet. At most `most` rows come back, and a session moves on by as many as were asked for.
    fn run(&self, state: &State, tenant: &Tenant, asked: &Asked, most: usize) -> Found {
        let (now, faults) = (state.clock.now(), state.faults());
        let key = mix(&[
            part("search"),
            part(&tenant.config.id),
            asked.filter.from.timestamp() as u64,
            asked.filter.to.timestamp() as u64,
            part(&asked.filter.operations.join(",")),
        ]);
        let failure = self.fails(state, &faults, key);
        let page = match failure {
            Some(
                SearchFailure::Throttled
                | SearchFailure::Unavailable
                | SearchFailure::ServerError
                | SearchFailure::Unauthorized
                | SearchFailure::Redirect
                | SearchFailure::WarningEmpty,
            ) => Page::default(),
            _ => self.page(state, tenant, asked, (most, now), failure),
        };
        match failure {
            None if page.rows.is_empty() => {
                lock(&self.failures).remove(&key);
            }
            Some(_) => *lock(&self.failures).entry(key).or_default() += 1,
            None => {}
        }
        Found { page, failure }
    }

    fn fails(&self, state: &State, faults: &Faults, key: u64) -> Option<SearchFailure> {
        if faults.search == SearchFaults::default() {
            return None;
        }
        let count = state.attempts.count(key);
        let seed = faults.seed.unwrap_or(state.config.seed);
        let drawn = faults
            .search
            .draw(&mut Chance::of(&[seed, key, u64::from(count)]));
        let in_a_row = lock(&self.failures).get(&key).copied().unwrap_or_default();
        drawn.filter(|_| faults.most_in_a_row == 0 || in_a_row < faults.most_in_a_row)
    }

    fn page(
        &self,
        state: &State,
        tenant: &Tenant,
        asked: &Asked,
        (most, now): (usize, DateTime<Utc>),
        failure: Option<SearchFailure>,
    ) -> Page {
        let config = &state.config.search;
        let size = asked.size.min(most);
        let Some((id, command)) = &asked.session else {
            let found = self.find(tenant, &asked.filter, now);
            let newest = found.iter().rev().take(size).copied();
            return Page {
                rows: (1..).zip(newest).collect(),
                of: found.len(),
            };
        };
        let key = (tenant.id, id.clone());
        let mut sessions = lock(&self.sessions);
        if failure == Some(SearchFailure::FailedSession) {
            sessions.remove(&key);
        }
        let found = || {
            let found = self.find(tenant, &asked.filter, now);
            let chance = Chance::of(&[state.config.seed, part(&tenant.config.id), part(id)]);
            Session::new(*command, found, config, chance, now)
        };
        let session = sessions.entry(key).or_insert_with(found);
        session.goes_on(*command, config);
        let next = |session: &mut Session| session.next(size, asked.size, config.after_the_end);
        match failure {
            // A last page that is missing could not be told from a time without events.
            Some(SearchFailure::MissingPage) if session.has_more_than(asked.size) => {
                drop(next(session));
            }
            Some(SearchFailure::RepeatedPage) => session.back(asked.size),
            _ => {}
        }
        let mut page = next(session);
        match failure {
            Some(SearchFailure::MissingRow) if page.rows.len() > 1 => {
                page.rows.remove(0);
            }
            Some(SearchFailure::WarningPartial | SearchFailure::Truncated) => {
                page.rows.truncate(page.rows.len() / 2);
            }
            _ => {}
        }
        page
    }

    /// Whether the session of a call is one that is not kept any more.
    fn has_ended(&self, state: &State, tenant: &Tenant, asked: &Asked) -> bool {
        let Some((id, _)) = &asked.session else {
            return false;
        };
        let sessions = lock(&self.sessions);
        let session = sessions.get(&(tenant.id, id.clone()));
        session.is_some_and(|session| session.has_ended(&state.config.search, state.clock.now()))
    }

    /// The numbers of a tenant's events that a filter takes and that can be found at `now`, in the order of their
    /// times.
    pub(crate) fn find(&self, tenant: &Tenant, filter: &Filter, now: DateTime<Utc>) -> Vec<usize> {
        if !tenant.audit.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut indexes = lock(&self.indexes);
        let index = indexes.entry(tenant.id).or_default();
        index.extend(tenant.blobs_after(index.blobs()));
        index.find(filter, now)
    }

    /// Looks at the events of these numbers, each with its record.
    pub(crate) fn each(
        &self,
        tenant: &Tenant,
        numbers: &[usize],
        mut look: impl FnMut(usize, &Event, &[u8]),
    ) {
        let indexes = lock(&self.indexes);
        let Some(index) = indexes.get(&tenant.id) else {
            return;
        };
        for (number, (event, record)) in numbers.iter().zip(index.records(numbers)) {
            look(*number, event, &record);
        }
    }

    /// Counts a request, and says how many are left of this minute: `None` if that one was too many.
    fn quota(&self, state: &State, tenant: &Tenant) -> Option<u32> {
        let limit = state.config.search.requests_per_minute.unwrap_or(u32::MAX);
        let minute = state.clock.now().timestamp() / 60;
        let mut minutes = lock(&self.minutes);
        let current = minutes.entry(tenant.id).or_default();
        if current.0 != minute {
            *current = (minute, 0);
        }
        current.1 += 1;
        limit.checked_sub(current.1)
    }

    /// The rows of a page as the service writes them. `row` adds what its form has of its own.
    fn rows(
        &self,
        state: &State,
        (tenant, asked): (&Tenant, &Asked),
        found: &Found,
        row: impl Fn(&Event, &mut Map<String, Value>),
    ) -> Vec<Value> {
        let count = match state.config.search.result_count {
            ResultCount::Session => found.page.of,
            ResultCount::Page => found.page.rows.len(),
            ResultCount::ResultSize => asked.size,
        };
        let numbers: Vec<usize> = found.page.rows.iter().map(|(_, event)| *event).collect();
        let indexes = lock(&self.indexes);
        let Some(index) = indexes.get(&tenant.id) else {
            return Vec::new();
        };
        let records = index.records(&numbers);
        let places = found.page.rows.iter().map(|(place, _)| place);
        let written = |(place, (event, record)): (&usize, (&Event, Bytes))| {
            let mut object = common(event, &record);
            object.insert("ResultIndex".to_owned(), json!(place));
            object.insert("ResultCount".to_owned(), json!(count));
            row(event, &mut object);
            Value::Object(object)
        };
        places.zip(records).map(written).collect()
    }
}

/// What both forms have of a row.
fn common(event: &Event, record: &[u8]) -> Map<String, Value> {
    let row = json!({
        "RunspaceId": "6c1f3b0e-58a2-4d6b-9f2e-0d6a7c4b1e35",
        "CreationDate": event.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        "UserIds": event.user,
        "Operations": event.operation,
        "AuditData": String::from_utf8_lossy(record),
        "Identity": event.id,
        "IsValid": true,
        "ObjectState": "Unchanged",
    });
    match row {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}

/// The row of a session that has failed: seen in practice, not documented.
fn failed_session() -> Value {
    json!({"ResultIndex": -1, "ResultCount": 0, "AuditData": null, "CreationDate": null})
}

/// The answer of a failure that is the same by both services.
fn instead(state: &State, failure: SearchFailure) -> Option<Answer> {
    let faults = state.faults();
    let elsewhere = format!("{}/stolen", state.foreign_url);
    let like = |failure| answer::instead(failure, &faults, "", "", &elsewhere);
    match failure {
        SearchFailure::Throttled => {
            let answer = Answer::new(
                StatusCode::TOO_MANY_REQUESTS,
                "text/html",
                "Too Many Requests",
            );
            Some(match faults.retry_after_seconds {
                Some(seconds) => answer.with(header::RETRY_AFTER, &seconds.to_string()),
                None => answer,
            })
        }
        SearchFailure::Unavailable => like(Failure::Unavailable),
        SearchFailure::Redirect => like(Failure::Redirect),
        _ => None,
    }
}
