//! Searching a time to its end: window by window, each in a session of its own that is read until it is complete.

use std::sync::{Mutex, PoisonError};

use audit_exporter_core::plugin::UnitWriter;
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::client::{Client, Query};
use super::config::Settings;
use super::pace::{Pace, Window};
use super::page::Page;
use super::session::{Session, Step};
use crate::http::body::TOO_LARGE;
use crate::sources::patience;

/// A window is read in this many sessions before its unit is put off.
const MOST_SESSIONS: usize = 3;

/// Searches one tenant's audit log.
pub(super) struct Searcher {
    client: Client,
    settings: Settings,
    /// What the last time that was searched has taught.
    pace: Mutex<Pace>,
}

/// What came of a session.
enum Outcome {
    /// It is complete, with so many rows.
    Complete(u64),
    /// A shorter window is needed.
    TooMany,
    /// The same, to see where the window ends.
    Unproven,
    /// Smaller pages are needed: the service gives so many rows at once.
    Cut(usize),
}

impl Searcher {
    pub(super) fn new(client: Client, settings: Settings) -> Self {
        Self {
            client,
            settings,
            pace: Mutex::new(Pace::new()),
        }
    }

    /// The service that is asked.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Writes all events of the time from `from` to `to`. What it writes again, because a session had to be read anew
    /// or in parts, is told by the journal.
    pub(super) async fn collect(
        &self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        out: &mut UnitWriter,
    ) -> Result<()> {
        let mut records = Records { out, any: false };
        let operations = &self.settings.operations;
        let groups = match self.client.most_operations() {
            _ if operations.is_empty() => vec![&operations[..]],
            most => operations.chunks(most.min(operations.len())).collect(),
        };
        let mut pace = *self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = None;
        for operations in groups {
            let mut at = from;
            while at < to {
                let window = pace.window(at, to);
                match self.read(window, operations, &mut records).await? {
                    Outcome::Complete(rows) => {
                        pace.held(window, rows, self.client.ceiling());
                        at = window.to;
                    }
                    _ if pace.shorten(window) => fail::fail_point!("source::split"),
                    // What this second shows is all that can be had of it; the rest is not lost with it.
                    Outcome::TooMany => {
                        lost.get_or_insert_with(|| too_many(window, self.client.ceiling()));
                        at = window.to;
                    }
                    _ => return Err(unproven(window)),
                }
            }
        }
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
        fail::fail_point!("source::close");
        records.close().await?;
        match lost {
            None => Ok(()),
            Some(error) => {
                out.flush().await?;
                Err(error)
            }
        }
    }

    /// Reads a window, anew if rows are missing, in smaller pages if they are too large.
    async fn read(
        &self,
        window: Window,
        operations: &[String],
        records: &mut Records<'_>,
    ) -> Result<Outcome> {
        let mut size = self.settings.page_size;
        let mut sessions = 1;
        loop {
            match self.session(window, operations, size, records).await {
                Ok(Outcome::Cut(rows)) if size > 1 => size = rows.clamp(1, size - 1),
                Err(error) if error.code() == Some(TOO_LARGE) && size > 1 => size /= 2,
                Err(error) if error.kind() == Kind::Unavailable && sessions < MOST_SESSIONS => {
                    tracing::debug!(from = %window.from, to = %window.to, %error, "read again under a new session");
                    sessions += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Reads a window in one session, whose id was never used before: one that goes on does so behind what it has shown,
    /// whether or not that has arrived.
    async fn session(
        &self,
        window: Window,
        operations: &[String],
        size: usize,
        records: &mut Records<'_>,
    ) -> Result<Outcome> {
        let id = Uuid::new_v4().to_string();
        let query = Query {
            window,
            session: &id,
            size,
            operations,
            users: &self.settings.users,
        };
        let mut session = Session::new(size, self.client.ceiling());
        fail::fail_point!("source::session");
        loop {
            let rest = self.client.rest();
            if !rest.is_zero() {
                records.out.wait(rest).await?;
            }
            let body = patience::page(records.out, || self.client.page(query)).await?;
            records.out.has_read_a_page();
            fail::fail_point!("source::page");
            let page = Page::read(&body)?;
            if page.is_cut {
                return Ok(Outcome::Cut(page.rows.len()));
            }
            let step = session.take(&page)?;
            if matches!(step, Step::More | Step::TooMany) {
                for row in &page.rows {
                    records.add(&row.record()).await?;
                }
            }
            match step {
                Step::More => {}
                Step::Complete => return Ok(Outcome::Complete(session.rows())),
                // No shorter time is to be had: what the session shows of it is taken.
                Step::TooMany if window.is_shortest() && session.rows() < self.client.ceiling() => {
                }
                Step::TooMany => return Ok(Outcome::TooMany),
                Step::Unproven => return Ok(Outcome::Unproven),
            }
        }
    }
}

fn too_many(window: Window, ceiling: u64) -> Error {
    Error::lost(format!(
        "in the second from {} are {ceiling} events or more, of which a search shows no more; the rest of the time is \
         collected, and the source management_activity has them for seven days",
        window.from
    ))
}

fn unproven(window: Window) -> Error {
    Error::unavailable(format!(
        "the search of the second from {} begins again and again and never shows its end",
        window.from
    ))
}

/// A unit's body: a JSON array of records, as those of content blobs are.
struct Records<'w> {
    out: &'w mut UnitWriter,
    any: bool,
}

impl Records<'_> {
    async fn add(&mut self, record: &str) -> Result<()> {
        self.out.write(if self.any { b"," } else { b"[" })?;
        self.any = true;
        self.out.write(record.as_bytes())?;
        self.out.settle().await?;
        fail::fail_point!("source::fetch");
        Ok(())
    }

    async fn close(self) -> Result<()> {
        self.out.write(if self.any { b"]" } else { b"[]" })?;
        self.out.end_of_body().await
    }
}
