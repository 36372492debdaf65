//! What each source holds beside what the others and the journal hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::piles::{Detail, PILES, Pile, Piles};
use crate::dedupe::Memory;
use crate::error::Result;

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
        let mut found = compare_pile(sides, pile, memory, &mut compared)?;
        found.sort_by(|one, other| {
            (one.event.time, &one.event.id).cmp(&(other.event.time, &other.event.id))
        });
        for difference in &found {
            count(&mut groups, difference);
            tell(difference)?;
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

fn compare_pile(
    sides: &[Side<'_>],
    pile: usize,
    memory: Option<&Memory>,
    compared: &mut Compared,
) -> Result<Vec<Difference>> {
    let piles: Vec<Option<Pile>> = sides
        .iter()
        .map(|side| side.piles.open(pile))
        .collect::<Result<_>>()?;
    let of_side = |(side, pile): (usize, &Option<Pile>)| {
        let events = pile.iter().flat_map(|pile| pile.events.iter().copied());
        events
            .map(move |(key, at)| (key, side, at))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<_> = piles.iter().enumerate().flat_map(of_side).collect();
    all.sort_unstable();
    // A delivery to the piles may have been tried twice, and an event may have variants.
    all.dedup_by_key(|(key, side, _)| (*key, *side));
    let mut found = Vec::new();
    for holders in all.chunk_by(|one, other| one.0 == other.0) {
        let (key, first, at) = holders[0];
        compared.events += 1;
        let holds = |side: usize| holders.iter().any(|(_, holder, _)| *holder == side);
        for (index, figures) in compared.sources.iter_mut().enumerate() {
            if holds(index) {
                figures.events += 1;
                figures.only_here += u64::from(holders.len() == 1 && sides.len() > 1);
            } else if let Some(missing) = &mut figures.missing_here {
                *missing += 1;
            }
        }
        let recorded = memory.map(|memory| memory.holds(key)).transpose()?;
        if let (Some(unrecorded), Some(false)) = (&mut compared.unrecorded, recorded) {
            *unrecorded += 1;
        }
        let names = |wanted: &dyn Fn(usize, &Side<'_>) -> bool| {
            let sides = sides.iter().enumerate();
            let wanted = sides.filter(|(index, side)| wanted(*index, side));
            wanted
                .map(|(_, side)| side.name.to_owned())
                .collect::<Vec<_>>()
        };
        let missing_in = names(&|index, side| side.complete && !holds(index));
        if missing_in.is_empty() && recorded != Some(false) {
            continue;
        }
        if let Some(pile) = &piles[first] {
            found.push(Difference {
                event: pile.detail(at)?,
                held_by: names(&|index, _| holds(index)),
                missing_in,
                recorded,
            });
        }
    }
    Ok(found)
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
