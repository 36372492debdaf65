//! Whether the accounts add up. Each figure is committed with what it counts, so they do, unless something is broken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Events, Fates, Hour, MS_PER_HOUR, time};
use crate::journal::NO_HOUR;

/// What does not add up, in sum and by hour.
pub(crate) fn unbalanced(account: &Account) -> Vec<String> {
    let mut found = Vec::new();
    let journaled: i64 = account.events.values().map(|hour| hour.journaled).sum();
    if journaled != account.journaled {
        found.push(format!(
            "{} events were journaled, by hour {journaled}",
            account.journaled
        ));
    }
    let none = BTreeMap::new();
    for total in &account.totals {
        let sink = &total.sink;
        if !total.balances() {
            found.push(format!(
                "sink {sink}: {} journaled are not {} filtered + {} delivered + {} dead + {} skipped + {} pending",
                total.journaled, total.filtered, total.delivered, total.dead, total.skipped, total.pending
            ));
        }
        let mut sum = Fates::default();
        for hour in account.sinks.get(sink).unwrap_or(&none).values() {
            sum.add(hour);
        }
        let whole = Fates {
            filtered: total.filtered,
            delivered: total.delivered,
            dead: total.dead,
            skipped: total.skipped,
            pending: total.pending,
        };
        if sum != whole {
            found.push(format!(
                "sink {sink}: the hours' figures ({sum:?}) are not the sink's ({whole:?})"
            ));
        }
    }
    found.extend(wrong_hours(account));
    found
}

/// The hours that do not add up. What is folded is told apart no more: there the sums say it.
fn wrong_hours(account: &Account) -> Option<String> {
    let of_sinks = account.sinks.values().flat_map(BTreeMap::keys);
    let hours: BTreeSet<Hour> = account.events.keys().chain(of_sinks).copied().collect();
    let wrong = hours.into_iter().filter(|hour| {
        let events = account.events.get(hour).copied().unwrap_or_default();
        let fates = |sink: &str| account.sinks.get(sink)?.get(hour).copied();
        is_apart(account, *hour) && !adds_up(account, events, fates)
    });
    let wrong: Vec<Hour> = wrong.collect();
    let first = match *wrong.first()? {
        NO_HOUR => "that of events without a time".to_owned(),
        hour => time(hour * MS_PER_HOUR),
    };
    let count = wrong.len();
    Some(format!(
        "figures of single hours: {count} of them, the first is {first}"
    ))
}

/// Whether an hour's figures are its own: older hours are folded into days, at another time than their events move on.
pub(super) fn is_apart(account: &Account, hour: Hour) -> bool {
    hour >= account.folded_to || hour == NO_HOUR
}

/// Whether the figures of one or several hours add up: no sink has dealt with more than was journaled, and those that
/// get everything have all of it. A sink that began later need not have what came before.
pub(super) fn adds_up(
    account: &Account,
    events: Events,
    fates_of: impl Fn(&str) -> Option<Fates>,
) -> bool {
    account.totals.iter().all(|total| {
        let dealt_with = fates_of(&total.sink).map_or(0, |fates| fates.sum());
        if total.journaled == account.journaled {
            dealt_with == events.journaled
        } else {
            dealt_with <= events.journaled
        }
    })
}
