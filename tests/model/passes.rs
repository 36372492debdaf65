//! Which time must have been listed when: each hour at once, and again after the lags that are promised, unless
//! something kept the exporter from it.

use super::history::{Blob, DAY, HOUR, History, MINUTE, Millis, SECOND};
use super::random::LAST_PASS;
use super::tables::Gap;
use super::world::{Listing, Seen, tenant_id};

/// After the end of an hour, when it is listed again (docs/sources.md).
const PASSES: [Millis; 5] = [HOUR, 6 * HOUR, DAY, 3 * DAY, LAST_PASS];
/// Content this old may not be listed any more, with some time for the exporter's own margin.
const LISTABLE: Millis = 7 * DAY - 20 * MINUTE;
/// How long a blob that nothing keeps from being fetched may take, whatever waits it was asked for before.
const FETCH: Millis = 6 * HOUR;

/// How long the exporter may take for a pass that is due: it lists now and then, and a fault may come between.
fn patience(history: &History) -> Millis {
    2 * history.poll + 2 * HOUR
}

/// The times in which nothing kept the exporter from its work.
fn calm(seen: &Seen) -> Vec<(Millis, Millis)> {
    let mut disruptions = seen.disruptions.clone();
    disruptions.sort_unstable();
    let (mut calm, mut from) = (Vec::new(), 0);
    for (begin, end) in disruptions {
        if begin > from {
            calm.push((from, begin));
        }
        from = from.max(end);
    }
    calm.push((from, Millis::MAX));
    calm
}

/// When something that is due at `due` must be done, if it takes `length` of calm.
fn deadline(calm: &[(Millis, Millis)], due: Millis, length: Millis) -> Option<Millis> {
    let fits = |(from, to): &(Millis, Millis)| {
        let done = due.max(*from) + length;
        (done <= *to).then_some(done)
    };
    calm.iter().find_map(fits)
}

/// When the passes over a moment are due: the first at once.
fn due(moment: Millis) -> impl Iterator<Item = Millis> {
    let end_of_hour = moment.div_euclid(HOUR) * HOUR + HOUR;
    let again = PASSES.into_iter().map(move |lag| end_of_hour + lag);
    std::iter::once(moment + SECOND).chain(again)
}

/// Whether anything ran for long enough to list. The lives may last longer than the span; then the last one is over at
/// once, and if those before it were spent in outages, nothing is ever listed.
fn must_list(history: &History, calm: &[(Millis, Millis)]) -> bool {
    deadline(calm, 0, patience(history)).is_some_and(|by| by <= history.span)
}

/// Whether a blob that was never fetched should have been found.
pub(crate) fn must_be_listed(history: &History, seen: &Seen, blob: &Blob) -> bool {
    let of_blob = |listing: &&Listing| {
        (listing.tenant, listing.content_type) == (blob.tenant, blob.content_type)
    };
    let listings = seen.listings.iter().filter(of_blob);
    let calm = calm(seen);
    // The past that the first listing began with.
    let Some(first) = listings.map(|listing| listing.from).min() else {
        return must_list(history, &calm);
    };
    blob.created >= first
        && due(blob.created)
            .filter(|due| *due >= blob.visible)
            .filter_map(|due| deadline(&calm, due, patience(history)))
            .any(|deadline| deadline <= history.span.min(blob.created + LISTABLE))
}

/// Whether there was time to fetch a blob between its first listing and its end.
pub(crate) fn could_be_fetched(seen: &Seen, blob: &Blob) -> bool {
    let shows_it = |listing: &&Listing| {
        (listing.tenant, listing.content_type) == (blob.tenant, blob.content_type)
            && (listing.from..listing.to).contains(&blob.created)
            && listing.at >= blob.visible
    };
    let shown = seen.listings.iter().filter(shows_it);
    let first = shown.map(|listing| listing.at).min();
    first
        .and_then(|at| deadline(&calm(seen), at, FETCH))
        .is_some_and(|deadline| deadline <= blob.expires)
}

/// Both edges of every hour were listed at every pass.
pub(crate) fn check(history: &History, seen: &Seen) -> Result<(), String> {
    let calm = calm(seen);
    for (tenant, types) in history.tenants.iter().enumerate() {
        for content_type in types {
            let of_type = |listing: &&Listing| {
                (listing.tenant, listing.content_type) == (tenant, *content_type)
            };
            let listings: Vec<&Listing> = seen.listings.iter().filter(of_type).collect();
            let Some(first) = listings.iter().map(|listing| listing.from).min() else {
                if !must_list(history, &calm) {
                    continue;
                }
                return Err(format!(
                    "{content_type} of tenant {tenant} was never listed"
                ));
            };
            let hours = first.div_euclid(HOUR) + 1..=history.span.div_euclid(HOUR);
            let edges = hours.flat_map(|hour| [hour * HOUR - SECOND, hour * HOUR]);
            for edge in edges {
                missed(history, &calm, &listings, edge).map_or(Ok(()), |due| {
                    Err(format!(
                        "{content_type} of tenant {tenant}: the moment {edge} was not listed when it was due at {due}"
                    ))
                })?;
            }
        }
    }
    Ok(())
}

/// When a pass over `edge` was due that never came.
fn missed(
    history: &History,
    calm: &[(Millis, Millis)],
    listings: &[&Listing],
    edge: Millis,
) -> Option<Millis> {
    due(edge).find(|due| {
        let Some(deadline) = deadline(calm, *due, patience(history)) else {
            return false;
        };
        deadline <= history.span.min(edge + LISTABLE)
            && !listings.iter().any(|listing| {
                (listing.from..listing.to).contains(&edge)
                    && (*due..=deadline).contains(&listing.at)
            })
    })
}

/// Gaps are only on record for time that was never listed.
pub(crate) fn gaps(history: &History, seen: &Seen, gaps: &[Gap]) -> Result<(), String> {
    for gap in gaps {
        let tenant = (0..history.tenants.len()).find(|n| tenant_id(*n) == gap.tenant);
        let listed = seen.listings.iter().find(|listing| {
            (Some(listing.tenant), listing.content_type) == (tenant, &*gap.content_type)
                && listing.from < gap.to
                && gap.from < listing.to
        });
        if let Some(listing) = listed {
            return Err(format!(
                "there is a gap where it was listed: {gap:?}, {listing:?}"
            ));
        }
    }
    Ok(())
}
