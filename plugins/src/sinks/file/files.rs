//! All files of one sink, and how they get from one confirmed state to the next.
//!
//! A delivery starts from the confirmed state, changes files, and ends in a new state that counts only once
//! [`Files::confirm`] has been called. Until then the files are *unsettled*, and the next delivery first goes back:
//! the same way that a restart goes back to the last receipt.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::Store;
use chrono::{DateTime, Utc};
use tokio::runtime::Handle;

use super::disk::{self, fail_point, failed};
use super::ledger::{KEPT_DELIVERIES, Ledger, Name, State};
use super::open::OpenFile;
use super::route::{Group, Router};

/// How many paths' last numbers are remembered.
const KEPT_NUMBERS: usize = 4096;

/// The files, their confirmed state and the ledger. Blocking; one call at a time.
#[derive(Debug)]
pub(super) struct Files {
    router: Router,
    store: Store,
    max_open: usize,
    /// For files that no event asks for any more; others are closed at their tenant's age.
    max_age: Duration,
    ledger: Ledger,
    /// The ledger has been read from the store.
    loaded: bool,
    confirmed: State,
    unsettled: bool,
    open: HashMap<String, OpenFile>,
    /// Counts the uses of files, to find the least recent.
    uses: u64,
    unsynced: BTreeSet<PathBuf>,
    /// The number last used for a path, so that no name is used twice even if its file was moved away.
    numbers: HashMap<String, u32>,
    buffer: Vec<u8>,
}

/// One delivery's circumstances.
pub(super) struct Delivery<'a> {
    pub(super) now: DateTime<Utc>,
    /// Where the store's work runs.
    pub(super) runtime: &'a Handle,
}

impl Files {
    pub(super) fn new(router: Router, store: Store) -> Self {
        let max_open = router.settings().map(|settings| settings.max_open_files);
        let max_age = router.settings().map(|settings| settings.rotate_age);
        Self {
            max_open: max_open.max().unwrap_or(1),
            max_age: max_age.max().unwrap_or(Duration::MAX),
            router,
            store,
            ledger: Ledger::default(),
            loaded: false,
            confirmed: State::default(),
            unsettled: false,
            open: HashMap::new(),
            uses: 0,
            unsynced: BTreeSet::new(),
            numbers: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// Goes back to `state`, which is the last receipt's.
    pub(super) fn recover(&mut self, state: State, runtime: &Handle) -> Result<()> {
        self.ledger = runtime.block_on(Ledger::load(&self.store))?;
        self.loaded = true;
        self.confirmed = state;
        self.unsettled = true;
        self.go_back(runtime)
    }

    /// Writes `events` and makes them durable. Nothing counts before [`Files::confirm`] of the state that it gives.
    pub(super) fn write(
        &mut self,
        events: &[AuditEvent],
        delivery: &Delivery<'_>,
    ) -> Result<State> {
        if !self.loaded {
            // Nobody said where to go on: whatever exists is left alone.
            self.ledger = delivery.runtime.block_on(Ledger::load(&self.store))?;
            self.confirmed.delivery = self.ledger.newest();
            self.loaded = true;
        }
        if self.unsettled {
            self.go_back(delivery.runtime)?;
        }
        self.unsettled = true;
        let number = self.confirmed.delivery + 1;
        let groups = self.router.group(events, delivery.now)?;
        self.close_idle(delivery.now);
        // Files that are open come first, so that none is closed for another just before it is needed.
        let (known, new): (Vec<_>, Vec<_>) = groups
            .iter()
            .partition(|group| self.open.contains_key(&slot(group)));
        for group in known.into_iter().chain(new) {
            self.write_group(group, events, delivery)?;
        }
        for file in self.open.values_mut() {
            file.sync()?;
        }
        fail_point("sink::file::sync")?;
        for folder in std::mem::take(&mut self.unsynced) {
            disk::sync_folder(&folder)?;
        }
        Ok(State {
            delivery: number,
            files: self.open.values().map(OpenFile::confirmed).collect(),
        })
    }

    /// The state that [`Files::write`] gave is what the next delivery starts from.
    pub(super) fn confirm(&mut self, state: State) {
        self.confirmed = state;
        self.unsettled = false;
    }

    fn write_group(
        &mut self,
        group: &Group,
        events: &[AuditEvent],
        delivery: &Delivery<'_>,
    ) -> Result<()> {
        let mut rest = group.events.as_slice();
        let mut file = self.take(group, delivery)?;
        loop {
            let taken = file.append(&group.settings, events, rest, &mut self.buffer)?;
            rest = &rest[taken..];
            if rest.is_empty() {
                self.uses += 1;
                file.used = self.uses;
                self.open.insert(slot(group), file);
                return Ok(());
            }
            file.sync()?;
            file = self.create(group, delivery)?;
        }
    }

    /// The group's file: the open one, unless it is too old or no longer what it was.
    fn take(&mut self, group: &Group, delivery: &Delivery<'_>) -> Result<OpenFile> {
        if let Some(file) = self.open.remove(&slot(group))
            && !is_older(file.opened, delivery.now, group.settings.rotate_age)
            && file.is_untouched()?
        {
            return Ok(file);
        }
        self.create(group, delivery)
    }

    /// Creates the group's next file. Its name is in the store before it is on disk.
    fn create(&mut self, group: &Group, delivery: &Delivery<'_>) -> Result<OpenFile> {
        self.make_room()?;
        let slot = slot(group);
        let mut name = Name {
            stem: group.stem.clone(),
            extension: group.settings.template.extension().to_owned(),
            number: self.numbers.get(&slot).map_or(1, |last| last + 1),
        };
        let first = name.path();
        let folder = disk::folder_of(&first);
        disk::create_folder(folder, &mut self.unsynced)?;
        self.unsynced.insert(folder.to_owned());
        let number = self.confirmed.delivery + 1;
        let lock = disk::lock_folder(folder);
        let file = loop {
            let path = name.path();
            if disk::exists(&path)? {
                name.number += 1;
                continue;
            }
            self.ledger.add(name.clone(), number);
            self.save_ledger(delivery.runtime)?;
            match OpenFile::create(name.clone(), delivery.now) {
                Ok(file) => break file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    name.number += 1;
                    self.ledger.withdraw();
                    self.save_ledger(delivery.runtime)?;
                }
                Err(error) => return Err(failed("create", &path)(error)),
            }
        };
        drop(lock);
        if self.numbers.len() >= KEPT_NUMBERS {
            // The last receipt's names must not be used again, wherever their files are.
            let last: HashSet<_> = self.confirmed.files.iter().map(|f| f.name.slot()).collect();
            self.numbers.retain(|slot, _| last.contains(slot));
        }
        self.numbers.insert(slot, name.number);
        fail_point("sink::file::rotate").map_err(failed("write", &file.path))?;
        Ok(file)
    }

    /// Closes the least recently used file if there are too many. A closed file is final.
    fn make_room(&mut self) -> Result<()> {
        while self.open.len() >= self.max_open {
            let oldest = self.open.iter().min_by_key(|(_, file)| file.used);
            let Some(slot) = oldest.map(|(slot, _)| slot.clone()) else {
                break;
            };
            if let Some(mut file) = self.open.remove(&slot) {
                file.sync()?;
            }
        }
        Ok(())
    }

    /// Closes what is too old. Called before anything is written, so that all of it is durable.
    fn close_idle(&mut self, now: DateTime<Utc>) {
        let max_age = self.max_age;
        self.open
            .retain(|_, file| !is_older(file.opened, now, max_age));
    }

    /// Back to the confirmed state: files created after it go, the others get their length back.
    fn go_back(&mut self, runtime: &Handle) -> Result<()> {
        self.open.clear();
        self.unsynced.clear();
        self.remove_unconfirmed(runtime)?;
        for confirmed in &self.confirmed.files {
            let slot = confirmed.name.slot();
            if let Some(file) = OpenFile::reopen(confirmed)? {
                self.open.insert(slot.clone(), file);
            }
            // Known even if the file is lost: its name stays its own.
            self.numbers.insert(slot, confirmed.name.number);
        }
        self.unsettled = false;
        Ok(())
    }

    fn remove_unconfirmed(&mut self, runtime: &Handle) -> Result<()> {
        let last = self.confirmed.delivery;
        let ledger = &mut self.ledger;
        let reset = ledger
            .after(last)
            .any(|(_, delivery)| delivery > last + KEPT_DELIVERIES);
        if reset {
            tracing::error!(
                last_receipt = last,
                "the last receipt is older than the files: they are kept, and may hold events twice"
            );
        } else {
            let mut folders = BTreeSet::new();
            for (name, _) in ledger.after(last) {
                let path = name.path();
                if disk::remove(&path)? {
                    tracing::info!(path = %path.display(), "removed a file that was never confirmed");
                    folders.insert(disk::folder_of(&path).to_owned());
                }
                self.numbers.insert(name.slot(), name.number - 1);
            }
            for folder in folders {
                disk::sync_folder(&folder)?;
            }
        }
        ledger.forget_after(last);
        self.save_ledger(runtime)
    }

    fn save_ledger(&mut self, runtime: &Handle) -> Result<()> {
        runtime.block_on(self.ledger.save(&self.store))
    }
}

/// What all files of a group's path share.
fn slot(group: &Group) -> String {
    format!("{}{}", group.stem, group.settings.template.extension())
}

fn is_older(opened: DateTime<Utc>, now: DateTime<Utc>, age: Duration) -> bool {
    (now - opened).to_std().is_ok_and(|passed| passed >= age)
}
