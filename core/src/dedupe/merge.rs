//! Many runs become one, on a thread of its own, while the journal goes on.
//!
//! A merge reads runs and writes one file. It changes nothing that anybody reads: what it wrote counts only once the
//! journal's writer has switched to it. Abandoned at any moment, it leaves a file that the next start removes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::identity::Id;
use super::run::{Block, RunWriter, Section, part};
use crate::error::{Error, Result};

/// Ids read at once of one run: bounds the memory of a merge, with the runs merged and the ids of a block.
const READ_IDS: usize = 512;

/// A merge under way.
#[derive(Debug)]
pub(super) struct Merge {
    out: RunWriter,
    days: std::vec::IntoIter<Day>,
    day: Option<Day>,
    block_ids: usize,
}

/// What the merged runs hold of one day.
#[derive(Debug)]
struct Day {
    date: u16,
    parts: usize,
    next: usize,
    inputs: Vec<Input>,
}

/// One of the sections that are merged, read from its start to its end.
#[derive(Debug)]
struct Input {
    file: Arc<File>,
    run: i64,
    day: u16,
    blocks: std::vec::IntoIter<Block>,
    block: Option<Block>,
    /// How many of the block's ids were read.
    read: usize,
    ready: Vec<Id>,
    taken: usize,
}

impl Merge {
    /// Prepares the merge of `sections` into a file with blocks of `block_ids`.
    pub(super) fn new<'a>(
        path: &std::path::Path,
        block_ids: usize,
        sections: impl Iterator<Item = &'a Section>,
    ) -> Result<Self> {
        let mut days: BTreeMap<u16, (usize, Vec<Input>)> = BTreeMap::new();
        for section in sections {
            let (ids, inputs) = days.entry(section.day).or_default();
            *ids += section.blocks.iter().map(Block::ids).sum::<usize>();
            inputs.push(Input::new(section));
        }
        let days: Vec<Day> = days
            .into_iter()
            .map(|(date, (ids, inputs))| Day {
                date,
                parts: ids.div_ceil(block_ids).max(1),
                next: 0,
                inputs,
            })
            .collect();
        Ok(Self {
            out: RunWriter::create(path)?,
            days: days.into_iter(),
            day: None,
            block_ids,
        })
    }

    /// Writes one block. `false`: there is none left.
    pub(super) fn step(&mut self) -> Result<bool> {
        if self.day.as_ref().is_none_or(|day| day.next == day.parts) {
            self.day = self.days.next();
        }
        let Some(day) = &mut self.day else {
            return Ok(false);
        };
        let mut ids = Vec::with_capacity(self.block_ids + self.block_ids / 16);
        for input in &mut day.inputs {
            input.take(day.parts, day.next, &mut ids)?;
        }
        // Stable sorting finds the sorted stretches and merges them.
        ids.sort();
        self.out.block(day.date, &ids)?;
        day.next += 1;
        Ok(true)
    }

    /// Ends the file; its bytes.
    pub(super) fn finish(self) -> Result<u64> {
        self.out.finish()
    }
}

impl Input {
    fn new(section: &Section) -> Self {
        let blocks: Vec<Block> = section.blocks.iter().map(Block::without_filter).collect();
        Self {
            file: Arc::clone(&section.file),
            run: section.run,
            day: section.day,
            blocks: blocks.into_iter(),
            block: None,
            read: 0,
            ready: Vec::new(),
            taken: 0,
        }
    }

    /// Moves the ids up to the end of part `at` to `ids`.
    fn take(&mut self, parts: usize, at: usize, ids: &mut Vec<Id>) -> Result<()> {
        loop {
            if self.taken == self.ready.len() && !self.refill()? {
                return Ok(());
            }
            let ready = &self.ready[self.taken..];
            let count = ready.partition_point(|id| part(id.key.lead(), parts).0 <= at);
            ids.extend_from_slice(&ready[..count]);
            self.taken += count;
            if count < ready.len() {
                return Ok(());
            }
        }
    }

    /// Reads the next ids. `false`: there are none left.
    fn refill(&mut self) -> Result<bool> {
        loop {
            if let Some(block) = &self.block
                && self.read < block.ids()
            {
                let to = block.ids().min(self.read + READ_IDS);
                self.ready = block.read(&self.file, self.day, self.read, to)?;
                (self.read, self.taken) = (to, 0);
                return Ok(true);
            }
            self.block = self.blocks.next();
            self.read = 0;
            match &self.block {
                None => return Ok(false),
                // A sum of its own must not make what is damaged look whole.
                Some(block) if !block.is_whole(&self.file, self.run)? => self.block = None,
                Some(_) => {}
            }
        }
    }
}

/// A merge on its thread. Dropping it abandons the merge.
#[derive(Debug)]
pub(super) struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Option<u64>>>>,
}

impl Background {
    pub(super) fn start(mut merge: Merge, path: PathBuf) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("dedupe".to_owned())
            .spawn(move || {
                let done = loop {
                    if stopped.load(Ordering::Relaxed) {
                        break Ok(None);
                    }
                    match merge.step() {
                        Ok(true) => {}
                        Ok(false) => break merge.finish().map(Some),
                        Err(error) => break Err(error),
                    }
                };
                if !matches!(done, Ok(Some(_))) {
                    // If it stays, the next start removes it.
                    drop(std::fs::remove_file(path));
                }
                done
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of the merge: the bytes of its file.
    pub(super) fn wait(mut self) -> Result<u64> {
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended
            .unwrap_or_else(|| Err(Error::bug("the merge of ids ended by a panic")))?
            .ok_or_else(|| Error::bug("the merge of ids was abandoned"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the merge of ids ended by a panic");
        }
    }
}
