//! What each source holds beside what the others and the journal hold.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::piles::{Detail, PILES, Pile, Piles};
use crate::dedupe::{Key, Memory};
use crate::error::{Error, Result};

/// Kinds of differences that are told apart. Names are the tenant's and have no limit.
const MOST_GROUPS: usize = 10_000;
/// In the place of the operation of all others.
const OTHERS: &str = "(others)";

/// An event that not every source holds, or that the journal lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The event, as the first source has it that holds it.
    #[serde(flatten)]
    pub event: Detail,
    /// The sources that hold it.
    pub held_by: Vec<String>,
    /// The sources that were asked to the end and do not.
    pub missing_in: Vec<String>,
    /// Whether this exporter's journal has had it; nothing if that is not known.
    pub recorded: Option<bool>,
}

/// Differences of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The content type, or what the source has in its place.
    pub content_type: String,
    /// The service.
    pub workload: String,
    /// The operation.
    pub operation: String,
    /// The sources that lack these events.
    pub missing_in: Vec<String>,
    /// How many events.
    pub events: u64,
    /// How many of them the journal never had; nothing if that is not known.
    pub unrecorded: Option<u64>,
}

/// What there is of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Different events of the day.
    pub events: u64,
    /// Of these: no other source holds them.
    pub only_here: u64,
    /// Events that others hold; nothing if the source was not asked to its end.
    pub missing_here: Option<u64>,
}

/// What all sources hold.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) sources: Vec<Figures>,
    pub(super) events: u64,
    pub(super) different: u64,
    pub(super) unrecorded: Option<u64>,
    pub(super) groups: Vec<Group>,
}

/// One side of the comparison.
pub(super) struct Side<'a> {
    pub(super) name: &'a str,
    pub(super) piles: &'a Piles,
    /// It was asked to its end, so what it does not show, it lacks.
    pub(super) complete: bool,
}

type GroupName = (String, String, String, Vec<String>);

/// Compares pile by pile. Hands each difference to `tell`, in the order of their times. None if it is stopped before
/// the last.
pub(super) fn compare(
    sides: &[Side<'_>],
    memory: Option<&Memory>,
    stopped: &CancellationToken,
    mut tell: impl FnMut(&Difference) -> Result<()>,
) -> Result<Option<Compared>> {
    let figures = |side: &Side<'_>| Figures {
        missing_here: side.complete.then_some(0),
        ..Figures::default()
    };
    let mut compared = Compared {
        sources: sides.iter().map(figures).collect(),
        unrecorded: memory.map(|_| 0),
        ..Compared::default()
    };
    let mut groups = BTreeMap::new();
    for pile in 0..PILES {
        if stopped.is_cancelled() {
            return Ok(None);
        }
        let heap = Heap::open(sides, pile)?;
        let mut found = heap.compare(memory, &mut compared)?;
        found.sort_unstable_by_key(|found| (found.time, found.holders.start));
        for found in &found {
            let difference = heap.difference(found)?;
            count(&mut groups, &difference);
            tell(&difference)?;
        }
        compared.different += found.len() as u64;
    }
    let group = |((content_type, workload, operation, missing_in), (events, unrecorded))| Group {
        content_type,
        workload,
        operation,
        missing_in,
        events,
        unrecorded: memory.map(|_| unrecorded),
    };
    compared.groups = groups.into_iter().map(group).collect();
    compared
        .groups
        .sort_by_key(|group| std::cmp::Reverse(group.events));
    Ok(Some(compared))
}

/// What all sides hold of the same quarter of an hour. Of an event it has the place; the texts stay on the disk.
struct Heap<'a> {
    sides: &'a [Side<'a>],
    piles: Vec<Option<Pile>>,
    /// Who holds each event (the number of a side), and where in its pile; by event, then side.
    all: Vec<(Key, usize, u64)>,
}

/// An event to be told of.
struct Found {
    time: i64,
    /// Its places in the heap.
    holders: Range<usize>,
    recorded: Option<bool>,
}

impl<'a> Heap<'a> {
    fn open(sides: &'a [Side<'a>], pile: usize) -> Result<Self> {
        let (mut piles, mut all) = (Vec::with_capacity(sides.len()), Vec::new());
        for (index, side) in sides.iter().enumerate() {
            let opened = side
                .piles
                .open(pile, |key, at| all.push((key, index, at)))?;
            piles.push(opened);
        }
        all.sort_unstable();
        // A delivery to the piles may have been tried twice, and an event may have variants.
        all.dedup_by_key(|(key, side, _)| (*key, *side));
        Ok(Self { sides, piles, all })
    }

    /// Counts the events, and finds those that not all hold that should, or that the journal lacks.
    fn compare(&self, memory: Option<&Memory>, compared: &mut Compared) -> Result<Vec<Found>> {
        let (mut found, mut start) = (Vec::new(), 0);
        for event in self.all.chunk_by(|one, other| one.0 == other.0) {
            let holders = start..start + event.len();
            start = holders.end;
            compared.events += 1;
            for (index, figures) in compared.sources.iter_mut().enumerate() {
                if self.holds(&holders, index) {
                    figures.events += 1;
                    figures.only_here += u64::from(holders.len() == 1 && self.sides.len() > 1);
                } else if let Some(missing) = &mut figures.missing_here {
                    *missing += 1;
                }
            }
            let (key, first, at) = event[0];
            let recorded = memory.map(|memory| memory.holds(key)).transpose()?;
            if let (Some(unrecorded), Some(false)) = (&mut compared.unrecorded, recorded) {
                *unrecorded += 1;
            }
            let is_missing = self.missing_in(&holders).next().is_some();
            if let Some(pile) = &self.piles[first]
                && (is_missing || recorded == Some(false))
            {
                found.push(Found {
                    time: pile.time(at)?,
                    holders,
                    recorded,
                });
            }
        }
        Ok(found)
    }

    fn holds(&self, holders: &Range<usize>, side: usize) -> bool {
        let mut holders = self.all[holders.clone()].iter();
        holders.any(|(_, holder, _)| *holder == side)
    }

    fn missing_in(&self, holders: &Range<usize>) -> impl Iterator<Item = &Side<'a>> {
        let sides = self.sides.iter().enumerate();
        let lack = sides.filter(|(index, side)| side.complete && !self.holds(holders, *index));
        lack.map(|(_, side)| side)
    }

    fn difference(&self, found: &Found) -> Result<Difference> {
        let holders = &self.all[found.holders.clone()];
        let (_, first, at) = holders[0];
        let pile = self.piles[first].as_ref();
        let pile = pile.ok_or_else(|| Error::bug("an event is in a pile that is not there"))?;
        let holders = holders.iter().map(|(_, side, _)| &self.sides[*side]);
        let name = |side: &Side<'_>| side.name.to_owned();
        Ok(Difference {
            event: pile.detail(at)?,
            held_by: holders.map(name).collect(),
            missing_in: self.missing_in(&found.holders).map(name).collect(),
            recorded: found.recorded,
        })
    }
}

fn count(groups: &mut BTreeMap<GroupName, (u64, u64)>, difference: &Difference) {
    let event = &difference.event;
    let mut name = (
        event.content_type.clone(),
        event.workload.clone(),
        event.operation.clone(),
        difference.missing_in.clone(),
    );
    if groups.len() >= MOST_GROUPS && !groups.contains_key(&name) {
        name = (String::new(), String::new(), OTHERS.to_owned(), Vec::new());
    }
    let (events, unrecorded) = groups.entry(name).or_default();
    *events += 1;
    *unrecorded += u64::from(difference.recorded == Some(false));
}
