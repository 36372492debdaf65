//! A small durable store for one plugin instance.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::OwnedMutexGuard;

use super::writer::Tx;
use super::{Journal, sql, status};
use crate::error::{Error, Result};

/// What is to be changed in a store, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<(String, Option<String>)>);

impl Changes {
    /// Sets the value at `key`.
    pub fn put(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.push((key.into(), Some(value.into())));
    }

    /// Removes the value at `key`.
    pub fn remove(&mut self, key: impl Into<String>) {
        self.0.push((key.into(), None));
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is to be changed after it.
    pub fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }
}

/// A plugin instance's own keys and values: a few, or rows that it will need later.
#[derive(Clone)]
pub struct Store {
    kind: Kind,
    turn: Turn,
}

/// See [`Store::turn`].
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Clone)]
enum Kind {
    Journal {
        journal: Journal,
        instance: Arc<str>,
    },
    Memory {
        values: Arc<Mutex<BTreeMap<String, String>>>,
        id: Arc<str>,
    },
    /// The store of somebody else's process.
    ReadOnly {
        database: Arc<Mutex<Connection>>,
        instance: Arc<str>,
        id: Arc<str>,
    },
}

impl Store {
    /// A store that lives as long as its clones: for tests of plugins, and for `check`, which must not leave traces.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::of(Kind::Memory {
            values: Arc::default(),
            id: uuid::Uuid::new_v4().to_string().into(),
        })
    }

    fn of(kind: Kind) -> Self {
        let turn = Turn::default();
        Self { kind, turn }
    }

    /// Whoever holds this is alone with what the instance has outside the journal. An instance that a reload has
    /// replaced may be at work in another thread still, which nothing can break off; the next one waits for it.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// The id of the journal that it is part of, which no other journal has. In memory, an id of its own.
    #[must_use]
    pub fn journal(&self) -> &Arc<str> {
        match &self.kind {
            Kind::Memory { id, .. } | Kind::ReadOnly { id, .. } => id,
            Kind::Journal { journal, .. } => journal.id(),
        }
    }

    /// What an instance, as `sink/archive`, has in the journal in `dir`, without disturbing the process that may hold it.
    /// Nothing can be changed in it.
    pub fn read_only(dir: &Path, instance: &str) -> Result<Self> {
        let database = status::look_into(dir)?;
        let id: String = sql(database.query_row(
            "SELECT value FROM meta WHERE key = 'id'",
            [],
            |row| row.get(0),
        ))?;
        Ok(Self::of(Kind::ReadOnly {
            database: Arc::new(Mutex::new(database)),
            instance: instance.into(),
            id: id.into(),
        }))
    }

    /// The value at `key`.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        match &self.kind {
            Kind::Memory { values, .. } => Ok(locked(values).get(key).cloned()),
            Kind::ReadOnly {
                database, instance, ..
            } => value(&locked(database), instance, key),
            Kind::Journal { journal, instance } => {
                let (instance, key) = (Arc::clone(instance), key.to_owned());
                journal.ask(move |conn| value(conn, &instance, &key)).await
            }
        }
    }

    /// At most `limit` keys that begin with `prefix`, and come after `after` if that is given, in their order, with
    /// their values.
    pub async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, String)>> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        match &self.kind {
            Kind::Memory { values, .. } => {
                let (map, first) = (locked(values), prefix.clone().max(after.clone()));
                Ok(map
                    .range::<String, _>((Bound::Included(first), Bound::Unbounded))
                    .take_while(|(key, _)| key.starts_with(&prefix))
                    .filter(|(key, _)| **key > after)
                    .take(limit)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect())
            }
            Kind::ReadOnly {
                database, instance, ..
            } => rows(&locked(database), instance, &prefix, &after, limit),
            Kind::Journal { journal, instance } => {
                let instance = Arc::clone(instance);
                journal
                    .ask(move |conn| rows(conn, &instance, &prefix, &after, limit))
                    .await
            }
        }
    }

    /// Sets (or with `None` removes) the value at `key`; durable when this returns.
    pub async fn put(&self, key: &str, value: Option<String>) -> Result<()> {
        self.apply(Changes(vec![(key.to_owned(), value)])).await
    }

    /// Makes all the changes; durable when this returns.
    pub async fn apply(&self, changes: Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        match &self.kind {
            Kind::Memory { values, .. } => {
                let mut map = locked(values);
                for (key, value) in changes.0 {
                    match value {
                        Some(value) => map.insert(key, value),
                        None => map.remove(&key),
                    };
                }
                Ok(())
            }
            Kind::ReadOnly { .. } => Err(Error::bug("this store can only be read")),
            Kind::Journal { journal, instance } => {
                let instance = Arc::clone(instance);
                let change = move |tx: &mut Tx<'_>| apply(tx, &instance, &changes);
                journal.writer.run(change).await
            }
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn value(conn: &Connection, instance: &str, key: &str) -> Result<Option<String>> {
    sql(conn
        .query_row(
            "SELECT value FROM stores WHERE instance = ?1 AND key = ?2",
            params![instance, key],
            |row| row.get(0),
        )
        .optional())
}

fn rows(
    conn: &Connection,
    instance: &str,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<(String, String)>> {
    let mut select = sql(conn.prepare_cached(
        "SELECT key, value FROM stores WHERE instance = ?1 AND key >= ?2 AND key > ?3 \
         AND substr(key, 1, length(?2)) = ?2 ORDER BY key LIMIT ?4",
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = sql(
        select.query_map(params![instance, prefix, after, limit], |row| {
            Ok((row.get(0)?, row.get(1)?))
        }),
    )?;
    sql(rows.collect())
}

/// Makes an instance's changes in a transaction with others.
pub(super) fn apply(tx: &Tx<'_>, instance: &str, changes: &Changes) -> Result<()> {
    let mut put = sql(tx.conn.prepare_cached(
        "INSERT OR REPLACE INTO stores (instance, key, value) VALUES (?1, ?2, ?3)",
    ))?;
    let mut remove = sql(tx
        .conn
        .prepare_cached("DELETE FROM stores WHERE instance = ?1 AND key = ?2"))?;
    for (key, value) in &changes.0 {
        sql(match value {
            Some(value) => put.execute(params![instance, key, value]),
            None => remove.execute(params![instance, key]),
        })?;
    }
    Ok(())
}

/// The instance that a sink's store belongs to.
pub(super) fn of_sink(sink: &str) -> String {
    format!("sink/{sink}")
}

impl Journal {
    /// The store of a plugin instance, as `sink/archive`.
    #[must_use]
    pub fn store(&self, instance: &str) -> Store {
        Store {
            turn: self.shared.turn(instance),
            kind: Kind::Journal {
                journal: self.clone(),
                instance: instance.into(),
            },
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}
