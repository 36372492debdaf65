//! The model's own account of a history, compared with what the exporter's journal says and what the sinks hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use super::history::{Blob, Event, FarSide, HOUR, Trouble};
use super::passes;
use super::random::start;
use super::sinks::{Far, FarSides, Key, Outcome, key};
use super::tables;
use super::world::{Fetches, Seen, World, blob_id, tenant_id};

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The exporter never heard of it.
    Unlisted,
    Fetched,
    Lost,
}

/// One event that was journaled.
struct Journaled {
    tenant: usize,
    event: Event,
}

/// Says what is wrong, if anything.
pub(crate) fn check(world: &World, far: &FarSides, journal: &Path) -> Result<(), String> {
    let seen = world.seen();
    if let Some(offence) = seen.offences.first() {
        return Err(format!(
            "Microsoft was asked what nobody may ask: {offence}"
        ));
    }
    passes::check(&world.history, &seen)?;
    let fates = fates(world, &seen)?;
    let tables = tables::read(journal)?;
    compare("content", &content(world, &fates), &tables.content)?;
    passes::gaps(&world.history, &seen, &tables.gaps)?;
    let far = far.lock();
    let nothing = Far::default();
    let all = far.get("all").unwrap_or(&nothing);
    let journaled = journaled(world, &seen, &fates, all);
    events(world, &seen, &fates, &journaled, &tables.events)?;
    for plan in &world.history.sinks {
        let held = far.get(plan.name).unwrap_or(&nothing);
        let at = |wrong: String| format!("sink {}: {wrong}", plan.name);
        let expected = sink(plan, held, &journaled).map_err(at)?;
        let found = tables.sinks.get(plan.name).cloned().unwrap_or_default();
        compare("events", &expected, &found).map_err(at)?;
        let letters = tables.dead.get(plan.name).cloned().unwrap_or_default();
        compare("dead letters", &dead(held, &journaled), &letters).map_err(at)?;
    }
    Ok(())
}

fn compare<T: PartialEq + Debug>(what: &str, model: &T, exporter: &T) -> Result<(), String> {
    if model == exporter {
        return Ok(());
    }
    Err(format!(
        "{what} differ\n  model:    {model:?}\n  exporter: {exporter:?}"
    ))
}

/// What became of each blob: nobody but Microsoft and time may lose one.
fn fates(world: &World, seen: &Seen) -> Result<Vec<Fate>, String> {
    let blobs = world.history.blobs.iter().enumerate();
    let fate = |(number, blob): (usize, &Blob)| {
        let fetches = seen.fetches.get(&number).copied().unwrap_or_default();
        let named = |what| Err(format!("{} {what}: {blob:?}", blob_id(number)));
        match fetches {
            Fetches { asked: 0, .. } if passes::must_be_listed(&world.history, seen, blob) => {
                named("was never found")
            }
            Fetches { asked: 0, .. } => Ok(Fate::Unlisted),
            Fetches { gone: 0, whole, .. } if whole > 0 => Ok(Fate::Fetched),
            Fetches { gone: 0, .. } if blob.trouble == Trouble::ForEver => Ok(Fate::Lost),
            Fetches { gone: 0, .. } => named("was given up"),
            _ if !blob.is_doomed() && passes::could_be_fetched(seen, blob) => {
                named("expired although there was time")
            }
            _ => Ok(Fate::Lost),
        }
    };
    blobs.map(fate).collect()
}

fn content(world: &World, fates: &[Fate]) -> tables::Content {
    let mut content = tables::Content::new();
    for (blob, fate) in world.history.blobs.iter().zip(fates) {
        if *fate == Fate::Unlisted {
            continue;
        }
        let hour = (start().timestamp_millis() + blob.created).div_euclid(HOUR);
        let at = (tenant_id(blob.tenant), blob.content_type.to_owned(), hour);
        let counts = content.entry(at).or_default();
        counts[0] += 1;
        counts[if *fate == Fate::Fetched { 1 } else { 2 }] += 1;
    }
    content
}

/// The key of an event of a blob.
fn key_of(number: usize, event: &Event) -> Key {
    let id = blob_id(number);
    let unit = event.raw.contains("\"Id\":").then_some(None);
    key(unit.unwrap_or(Some(&id)), &event.raw)
}

/// Every event of the blobs that were fetched; of those that were begun and then lost, what the first sink has seen.
fn journaled(world: &World, seen: &Seen, fates: &[Fate], all: &Far) -> BTreeMap<Key, Journaled> {
    let mut journaled = BTreeMap::new();
    for (number, (blob, fate)) in world.history.blobs.iter().zip(fates).enumerate() {
        let was_begun = world.history.small_batches && seen.fetches.contains_key(&number);
        for event in &blob.records {
            let key = key_of(number, event);
            if *fate == Fate::Fetched || (was_begun && all.outcomes.contains_key(&key)) {
                let (tenant, event) = (blob.tenant, event.clone());
                journaled.insert(key, Journaled { tenant, event });
            }
        }
    }
    journaled
}

/// Compares the account of events by the hour: journaled, repeats, variants.
fn events(
    world: &World,
    seen: &Seen,
    fates: &[Fate],
    journaled: &BTreeMap<Key, Journaled>,
    found: &tables::Events,
) -> Result<(), String> {
    // How often an event was committed, at least and at most.
    let mut commits: BTreeMap<(String, i64), [i64; 2]> = BTreeMap::new();
    for (number, (blob, fate)) in world.history.blobs.iter().zip(fates).enumerate() {
        let asked = seen.fetches.get(&number).map_or(0, |fetches| fetches.asked);
        let whole = i64::from(*fate == Fate::Fetched);
        // A blob that is committed at once is committed once.
        let most = if world.history.small_batches {
            i64::from(asked)
        } else {
            whole
        };
        for event in &blob.records {
            let at = (tenant_id(blob.tenant), event.hour);
            let [least, most_of_all] = commits.entry(at).or_default();
            *least += whole;
            *most_of_all += most;
        }
    }
    let mut expected: BTreeMap<(String, i64), [i64; 2]> = BTreeMap::new();
    let mut identities = BTreeSet::new();
    for Journaled { tenant, event } in journaled.values() {
        let counts = expected
            .entry((tenant_id(*tenant), event.hour))
            .or_default();
        counts[0] += 1;
        if let Some(identity) = &event.identity {
            counts[1] += i64::from(!identities.insert(identity));
        }
    }
    let exact = found.iter().filter(|(_, [journaled, ..])| *journaled > 0);
    let exact = exact.map(|(at, [journaled, _, variants])| (at.clone(), [*journaled, *variants]));
    compare("journaled events and variants", &expected, &exact.collect())?;
    for (at, [journaled, repeats, _]) in found {
        let [least, most] = commits.get(at).copied().unwrap_or_default();
        let committed = journaled + repeats;
        if !(least..=most).contains(&committed) {
            return Err(format!(
                "repeats at {at:?}: {repeats}, of {least} to {most} events and {journaled} journaled"
            ));
        }
    }
    Ok(())
}

/// What a sink must have counted by tenant and hour, if what its far side holds is right: filtered, delivered, dead,
/// skipped.
fn sink(
    plan: &FarSide,
    far: &Far,
    journaled: &BTreeMap<Key, Journaled>,
) -> Result<tables::Counts, String> {
    let mut held: BTreeMap<&Key, usize> = BTreeMap::new();
    for (key, tenant) in &far.events {
        let known = journaled.get(key).filter(|known| {
            plan.takes(known.tenant)
                && tenant_id(known.tenant) == *tenant
                && plan.without != Some(known.event.operation)
        });
        if known.is_none() {
            return Err(format!("has what it must not have: {key}"));
        }
        *held.entry(key).or_default() += 1;
    }
    let mut counts = tables::Counts::new();
    for (key, Journaled { tenant, event }) in journaled {
        if !plan.takes(*tenant) {
            continue;
        }
        let outcome = far.outcomes.get(key).copied();
        let held = held.get(key).copied().unwrap_or_default();
        let unanswered = far.unanswered.get(key).copied().unwrap_or_default();
        let column = match outcome {
            _ if plan.without == Some(event.operation) => 0,
            None => return Err(format!("never got {key}")),
            Some(Outcome::Delivered) if held == 0 => return Err(format!("has lost {key}")),
            Some(Outcome::Delivered) => 1,
            Some(Outcome::Dead) => 2,
        };
        let repeated = held.saturating_sub(usize::from(outcome == Some(Outcome::Delivered)));
        if repeated > unanswered {
            return Err(format!(
                "has {held} times, {unanswered} of them unanswered: {key}"
            ));
        }
        let at = (tenant_id(*tenant), event.hour);
        counts.entry(at).or_default()[column] += 1;
    }
    Ok(counts)
}

/// The records in a sink's dead letters.
fn dead(far: &Far, journaled: &BTreeMap<Key, Journaled>) -> Vec<String> {
    let dead = far.outcomes.iter();
    let dead = dead.filter(|(_, outcome)| **outcome == Outcome::Dead);
    let mut dead: Vec<String> = dead
        .filter_map(|(key, _)| Some(journaled.get(key)?.event.raw.clone()))
        .collect();
    dead.sort();
    dead
}
