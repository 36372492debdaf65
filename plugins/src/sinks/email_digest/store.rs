//! Where rows wait for their mail: in the sink's store, committed with its cursor.
//!
//! | key | holds |
//! | --- | --- |
//! | `row/TENANT/TIME-HASH` | a row; kept for some time after its mail, for previews and to send it again |
//! | `late/TENANT/ARRIVED/TIME-HASH` | a row whose period's mail was made before it came: the next mail has it |
//! | `state/TENANT` | where the next mail begins, and the mail that is being sent |
//! | `sent/TENANT/TIME` | a mail that was sent, by the start of its period |
//!
//! Times are by the event, so that rows do not care about changes of zone or schedule. A mail is written down before it
//! is sent ([`Sending`]): if the process ends in between, the next one sends the same again, under the same Message-ID,
//! and what arrived meanwhile is late.

use std::collections::BTreeSet;

use audit_exporter_core::journal::{Changes, Store};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::row::Row;

/// Rows read at a time.
const PAGE: usize = 500;
/// Late rows that one mail takes; more come with the next.
const MOST_LATE: usize = 20_000;
/// Rows that are removed at a time.
const MOST_PRUNED: usize = 2_000;

/// How far one tenant's mails are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Where the next mail begins.
    pub(super) next: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sending: Option<Sending>,
}

/// A mail that is being sent. What it holds does not change any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sending {
    pub(super) end: DateTime<Utc>,
    /// When it was made; late rows that came until then are in it.
    pub(super) at: DateTime<Utc>,
    /// That collection was behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// A mail that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) end: DateTime<Utc>,
    pub(super) at: DateTime<Utc>,
    pub(super) rows: u64,
    pub(super) late: u64,
    /// None if there was nothing to say, so that no mail was sent.
    pub(super) message_id: Option<String>,
}

impl State {
    /// Rows before this are late.
    pub(super) fn edge(&self) -> DateTime<Utc> {
        self.sending
            .as_ref()
            .map_or(self.next, |sending| sending.end)
    }
}

/// A time in a key: sorts as it is, always of one length.
pub(super) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The sink's store in the digest's words.
#[derive(Clone)]
pub(super) struct Rows(Store);

impl Rows {
    pub(super) fn new(store: Store) -> Self {
        Self(store)
    }

    /// Adds to `changes` the row of a record that came at `now`.
    pub(super) async fn add(
        &self,
        changes: &mut Changes,
        (tenant, state): (&str, &State),
        raw: &[u8],
        row: &Row,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let tail = format!("{}-{:016x}", stamp(row.at), xxh3_64(raw));
        let key = format!("row/{tenant}/{tail}");
        // A record that is there already comes again, as from an archive: a mail has had it, or will.
        if row.at < state.edge() && self.0.get(&key).await?.is_none() {
            changes.put(
                format!("late/{tenant}/{}/{tail}", stamp(now)),
                String::new(),
            );
        }
        changes.put(key, json(row)?);
        Ok(())
    }

    pub(super) async fn state(&self, tenant: &str) -> Result<Option<State>> {
        let text = self.0.get(&format!("state/{tenant}")).await?;
        text.map(|text| read(&text)).transpose()
    }

    pub(super) fn set_state(changes: &mut Changes, tenant: &str, state: &State) -> Result<()> {
        changes.put(format!("state/{tenant}"), json(state)?);
        Ok(())
    }

    pub(super) fn set_sent(
        changes: &mut Changes,
        tenant: &str,
        start: DateTime<Utc>,
        sent: &Sent,
    ) -> Result<()> {
        changes.put(format!("sent/{tenant}/{}", stamp(start)), json(sent)?);
        Ok(())
    }

    /// Calls `each` with the rows of a time, in its order, each with what its key and its mark end with.
    pub(super) async fn between(
        &self,
        tenant: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        mut each: impl FnMut(&str, Row) + Send,
    ) -> Result<()> {
        let prefix = format!("row/{tenant}/");
        let end = format!("{prefix}{}", stamp(to));
        let mut after = format!("{prefix}{}", stamp(from));
        loop {
            let page = self.0.scan(&prefix, Some(&after), PAGE).await?;
            let full = page.len() == PAGE;
            for (key, value) in page {
                if key >= end {
                    return Ok(());
                }
                each(&key[prefix.len()..], read(&value)?);
                after = key;
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// The late rows that came until `until`: their marks, which their mail removes, each with its row.
    pub(super) async fn late(
        &self,
        tenant: &str,
        until: DateTime<Utc>,
    ) -> Result<Vec<(String, Row)>> {
        let prefix = format!("late/{tenant}/");
        // Behind all marks of that moment: they have a slash there, which a zero follows.
        let end = format!("{prefix}{}0", stamp(until));
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.0.scan(&prefix, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            for (mark, _) in page {
                if mark >= end || found.len() == MOST_LATE {
                    return Ok(found);
                }
                let key = mark.rsplit('/').next().unwrap_or_default();
                if let Some(value) = self.0.get(&format!("row/{tenant}/{key}")).await? {
                    found.push((mark.clone(), read(&value)?));
                }
                after = Some(mark);
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// What the keys end with of late rows that came after `since`.
    pub(super) async fn later(
        &self,
        tenant: &str,
        since: DateTime<Utc>,
    ) -> Result<BTreeSet<String>> {
        let prefix = format!("late/{tenant}/");
        let mut found = BTreeSet::new();
        let mut after = format!("{prefix}{}0", stamp(since));
        loop {
            let page = self.0.scan(&prefix, Some(&after), PAGE).await?;
            let full = page.len() == PAGE;
            for (mark, _) in page {
                found.insert(mark.rsplit('/').next().unwrap_or_default().to_owned());
                after = mark;
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// The mails that were sent, the oldest first.
    pub(super) async fn sent(&self, tenant: &str) -> Result<Vec<(DateTime<Utc>, Sent)>> {
        let prefix = format!("sent/{tenant}/");
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.0.scan(&prefix, after.as_deref(), PAGE).await?;
            let full = page.len() == PAGE;
            for (key, value) in page {
                let start = key[prefix.len()..].parse().map_err(|_| unreadable(&key))?;
                found.push((start, read(&value)?));
                after = Some(key);
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// Adds to `changes` the removal of some of what is older than `before`, unless something is still late.
    pub(super) async fn prune(
        &self,
        changes: &mut Changes,
        tenant: &str,
        before: DateTime<Utc>,
    ) -> Result<()> {
        if !self
            .0
            .scan(&format!("late/{tenant}/"), None, 1)
            .await?
            .is_empty()
        {
            return Ok(());
        }
        for kind in ["row", "sent"] {
            let prefix = format!("{kind}/{tenant}/");
            let end = format!("{prefix}{}", stamp(before));
            let page = self.0.scan(&prefix, None, MOST_PRUNED).await?;
            let old = page.into_iter().take_while(|(key, _)| *key < end);
            old.for_each(|(key, _)| changes.remove(key));
        }
        Ok(())
    }

    /// The ids of all tenants that something is stored for.
    pub(super) async fn tenants(&self) -> Result<Vec<String>> {
        let states = self.0.scan("state/", None, usize::from(u16::MAX)).await?;
        Ok(states
            .into_iter()
            .map(|(key, _)| key["state/".len()..].to_owned())
            .collect())
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::bug("a row cannot be written as JSON").with_cause(error))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable("a row").with_cause(error))
}

fn unreadable(what: &str) -> Error {
    Error::bug(format!(
        "{what} in the digest's store cannot be read: another kind of sink wrote it"
    ))
}
