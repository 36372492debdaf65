//! A small durable store for one plugin instance.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension, params};

use super::{Journal, sql};
use crate::error::Result;

/// A plugin instance's own keys and values. Meant for a few small values.
#[derive(Clone)]
pub struct Store(Kind);

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
}

impl Store {
    /// A store that lives as long as its clones: for tests of plugins, and for `check`, which must not leave traces.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Kind::Memory {
            values: Arc::default(),
            id: uuid::Uuid::new_v4().to_string().into(),
        })
    }

    /// The id of the journal that it is part of, which no other journal has. In memory, an id of its own.
    #[must_use]
    pub fn journal(&self) -> &Arc<str> {
        match &self.0 {
            Kind::Memory { id, .. } => id,
            Kind::Journal { journal, .. } => journal.id(),
        }
    }

    /// The value at `key`.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        match &self.0 {
            Kind::Memory { values, .. } => Ok(values
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(key)
                .cloned()),
            Kind::Journal { journal, instance } => {
                let (instance, key) = (Arc::clone(instance), key.to_owned());
                journal
                    .ask(move |conn| {
                        sql(conn
                            .query_row(
                                "SELECT value FROM stores WHERE instance = ?1 AND key = ?2",
                                params![instance, key],
                                |row| row.get(0),
                            )
                            .optional())
                    })
                    .await
            }
        }
    }

    /// Sets (or with `None` removes) the value at `key`; durable when this returns.
    pub async fn put(&self, key: &str, value: Option<String>) -> Result<()> {
        match &self.0 {
            Kind::Memory { values, .. } => {
                let mut map = values.lock().unwrap_or_else(PoisonError::into_inner);
                match value {
                    Some(value) => map.insert(key.to_owned(), value),
                    None => map.remove(key),
                };
                Ok(())
            }
            Kind::Journal { journal, instance } => {
                let (instance, key) = (Arc::clone(instance), key.to_owned());
                journal
                    .writer
                    .run(move |tx| {
                        sql(match value {
                            Some(value) => tx.conn.execute(
                                "INSERT OR REPLACE INTO stores (instance, key, value) VALUES (?1, ?2, ?3)",
                                params![instance, key, value],
                            ),
                            None => tx.conn.execute(
                                "DELETE FROM stores WHERE instance = ?1 AND key = ?2",
                                params![instance, key],
                            ),
                        })?;
                        Ok(())
                    })
                    .await
            }
        }
    }
}

impl Journal {
    /// The store of a plugin instance, as `sink/archive`.
    #[must_use]
    pub fn store(&self, instance: &str) -> Store {
        Store(Kind::Journal {
            journal: self.clone(),
            instance: instance.into(),
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}
