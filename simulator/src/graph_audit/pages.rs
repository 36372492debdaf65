//! The records of a query, page by page (reference, "Lifecycle and paging").

use std::collections::HashMap;

use axum::http::StatusCode;
use chrono::Utc;
use serde_json::json;

use super::{
    Call, Refused, error, filter,
    query::{End, Query},
    record::{self, Known},
    with_query,
};
use crate::{
    answer::Answer,
    chance::{Chance, mix, part},
};

/// The largest `$top`.
const MOST_TOP: usize = 1_000;
/// The share of records that an unstable reading lacks.
const LACKING: f64 = 0.1;

/// Where a page begins: in which reading of the query, and at which of its records.
#[derive(Clone, Copy)]
struct Place {
    reading: u64,
    offset: usize,
}

/// What tells one page of a query from another, for drawing faults.
pub(super) fn offset_text(query: &str) -> String {
    let token = parameters(query).remove("$skiptoken").unwrap_or_default();
    token.split('.').nth(1).unwrap_or_default().to_owned()
}

fn parameters(query: &str) -> HashMap<String, String> {
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

/// Finds the records of a query that has ended, once.
pub(super) fn settle(call: &Call<'_>, query: &mut Query) {
    if query.is_under_way(call.now) || query.end != End::Succeeded || query.found.is_some() {
        return;
    }
    let state = call.state;
    let workloads = call.workloads();
    let mut found = state.search.find(call.tenant, &filter(query), query.ends);
    let mut taken = Vec::with_capacity(found.len());
    state
        .search
        .each(call.tenant, &found, |number, event, record| {
            let text = String::from_utf8_lossy(record);
            let is_allowed =
                |workload: &&str| text.contains(&format!("\"Workload\":\"{workload}\""));
            let may = workloads.is_empty() || workloads.iter().any(is_allowed);
            if may && query.wanted.takes(event.record_type, record) {
                taken.push(number);
            }
        });
    found = taken;
    let most = state.config.graph_audit.most_records;
    let more = found.len() > most;
    found.truncate(most);
    // The order is not documented.
    Chance::of(&[state.config.seed, part(&query.id.to_string())]).shuffle(&mut found);
    query.found = Some((found, more));
}

/// Answers `GET …/queries/{id}/records`.
pub(super) fn records(call: &Call<'_>, id: &str) -> Result<Answer, Refused> {
    let parameters = parameters(&call.incoming.query);
    let config = &call.state.config.graph_audit;
    let bad = |text: &str| Box::new(error(StatusCode::BAD_REQUEST, "BadRequest", text));
    let size = match parameters.get("$top") {
        None => config.page_size,
        Some(text) => text
            .parse()
            .ok()
            .filter(|top| (1..=MOST_TOP).contains(top))
            .ok_or_else(|| bad("Invalid $top."))?,
    };
    let token = parameters
        .get("$skiptoken")
        .map(|token| read_token(call, id, token));
    let token = token.map(|place| place.ok_or_else(|| bad("Skip token is not valid.")));
    let place = token.transpose()?;
    let faults = &call.faults.graph_audit;
    let (all, place) = with_query(call, id, |query| {
        settle(call, query);
        let place = place.unwrap_or_else(|| {
            query.readings += 1;
            Place {
                reading: query.readings,
                offset: 0,
            }
        });
        (query.found.clone().unwrap_or_default().0, place)
    })?;
    let key = mix(&[part(id), place.offset as u64]);
    if place.offset > 0 && call.hits("stale page", key, faults.stale_page) {
        return Err(bad("Skip token has expired."));
    }
    let page_number = place.offset / size.max(1);
    if faults
        .breaks_after_pages
        .is_some_and(|most| page_number >= most)
    {
        let text = "An internal server error occurred.";
        return Err(Box::new(error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            text,
        )));
    }
    let end = all.len().min(place.offset + size);
    let shown: Vec<usize> = all[place.offset.min(end)..end]
        .iter()
        .copied()
        .filter(|number| !lacks(call, id, place.reading, *number))
        .collect();
    let rows = rows(call, &shown);
    let next = (end < all.len()).then(|| {
        let next = Place {
            offset: end,
            ..place
        };
        let path = format!(
            "/{id}/records?$top={size}&$skiptoken={}",
            write_token(call, id, next)
        );
        if call.hits("foreign page", key, faults.foreign_page) {
            return format!(
                "{}/beta/security/auditLog/queries{path}",
                call.state.foreign_url
            );
        }
        call.address(&path)
    });
    Ok(Answer::json(StatusCode::OK, page(call, id, &rows, next)))
}

/// Whether a reading lacks a record; the first and every other one may.
fn lacks(call: &Call<'_>, id: &str, reading: u64, number: usize) -> bool {
    let seed = call.faults.seed.unwrap_or(call.state.config.seed);
    let name = |what: &str| [seed, part(what), part(id), reading];
    let unstable = call.faults.graph_audit.unstable;
    reading % 2 == 1
        && Chance::of(&name("unstable")).hit(unstable)
        && Chance::of(&[mix(&name("lacks")), number as u64]).hit(LACKING)
}

fn rows(call: &Call<'_>, numbers: &[usize]) -> Vec<String> {
    let mut rows = Vec::with_capacity(numbers.len());
    call.state
        .search
        .each(call.tenant, numbers, |number, event, record| {
            let known = Known {
                at: event.at,
                id: &event.id,
                record_type: event.record_type,
                number,
            };
            rows.extend(record::row(&known, record));
        });
    rows
}

fn page(call: &Call<'_>, id: &str, rows: &[String], next: Option<String>) -> String {
    let (url, version) = (&call.state.url, call.incoming.version);
    let context = format!("{url}/{version}/$metadata#security/auditLog/queries('{id}')/records");
    let mut body = json!({"@odata.context": context, "@odata.count": rows.len()});
    if let (Some(next), Some(object)) = (next, body.as_object_mut()) {
        object.insert("@odata.nextLink".to_owned(), json!(next));
    }
    let mut body = body.to_string();
    body.truncate(body.len() - 1);
    format!("{body},\"value\":[{}]}}", rows.join(","))
}

/// Opaque to clients: signed, so that nobody makes them up.
fn write_token(call: &Call<'_>, id: &str, place: Place) -> String {
    let text = format!("{}.{}", place.reading, place.offset);
    let mac = call.state.signer.page_mac(&format!("{id}.{text}"));
    format!("{text}.{mac}.{}", Utc::now().timestamp())
}

fn read_token(call: &Call<'_>, id: &str, token: &str) -> Option<Place> {
    let mut parts = token.split('.');
    let (reading, offset, mac) = (parts.next()?, parts.next()?, parts.next()?);
    let expected = call
        .state
        .signer
        .page_mac(&format!("{id}.{reading}.{offset}"));
    (mac == expected).then_some(Place {
        reading: reading.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}
