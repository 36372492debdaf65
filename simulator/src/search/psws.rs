//! The older REST service (reference, "Historic REST"): GET with the cmdlet's parameters, Basic authentication, and an
//! answer in the manner of `OData` 3.

use std::collections::HashMap;

use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Asked, Invalid, config::SearchFailure, failed_session, instead};
use crate::{
    answer::{self, Answer},
    connection::Line,
    faults::Failure,
    state::{State, Tenant},
};

/// The same part again, whoever follows it.
const NEXT: &str = "../../psws/service.svc/UnifiedAuditLog?$skiptoken=";

/// Answers `GET /psws/service.svc/UnifiedAuditLog`.
pub(crate) fn answer(state: &State, query: &str, headers: &HeaderMap, line: &Line) -> Answer {
    let answer = admit(state, query, headers, line);
    state.counts.request("legacy_search", &answer.outcome);
    answer
}

fn admit(state: &State, query: &str, headers: &HeaderMap, line: &Line) -> Answer {
    let Some(tenant) = authenticate(state, headers) else {
        return unauthorized();
    };
    if !tenant.config.audit_reader.role {
        return Answer::new(StatusCode::FORBIDDEN, "text/html", "<h2>Forbidden</h2>");
    }
    if state.search.quota(state, tenant).is_none() {
        let full = instead(state, SearchFailure::Throttled);
        return full.unwrap_or_else(unauthorized);
    }
    let parameters = parameters(query);
    let answer = match Asked::read(&parameters, state, state.clock.now()) {
        Ok(asked) => search(state, tenant, &asked, line),
        Err(Invalid(_, message)) => refusal(StatusCode::BAD_REQUEST, &message),
    };
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("application/json")) {
        answer
    } else {
        let feed =
            r#"<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"/>"#;
        Answer::new(
            answer.status,
            "application/atom+xml;type=feed;charset=utf-8",
            feed,
        )
    }
}

/// The tenant of the account, if its password is right and enough.
fn authenticate<'s>(state: &'s State, headers: &HeaderMap) -> Option<&'s Tenant> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let (name, domain) = user.split_once('@')?;
    let tenant = state.tenant_named(domain)?;
    let reader = &tenant.config.audit_reader;
    let good = scheme.eq_ignore_ascii_case("basic")
        && reader.name.eq_ignore_ascii_case(name)
        && reader.password == password
        && !reader.mfa;
    good.then_some(tenant)
}

fn unauthorized() -> Answer {
    Answer::new(
        StatusCode::UNAUTHORIZED,
        "text/html",
        "<h2>Unauthorized</h2>",
    )
    .with(header::WWW_AUTHENTICATE, "Basic Realm=\"\"")
}

fn refusal(status: StatusCode, message: &str) -> Answer {
    let message = json!({"lang": "en-US", "value": message});
    let body = json!({"odata.error": {"code": "", "message": message}});
    Answer::json(status, body.to_string())
}

/// The query by names in lower case; a list is a value with commas.
fn parameters(query: &str) -> HashMap<String, Vec<String>> {
    let list = |value: &str| value.split(',').map(|one| one.trim().to_owned()).collect();
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.to_lowercase(), list(&value)))
        .collect()
}

fn search(state: &State, tenant: &Tenant, asked: &Asked, line: &Line) -> Answer {
    let config = &state.config.search;
    if state.search.has_ended(state, tenant, asked) {
        return page(vec![failed_session()], None);
    }
    let most = config.legacy_rows_per_answer;
    let found = state.search.run(state, tenant, asked, most);
    match found.failure {
        Some(SearchFailure::Unauthorized) => return unauthorized().spoilt("unauthorized"),
        // This service has no warnings: what would be one is an error.
        Some(
            failure @ (SearchFailure::ServerError
            | SearchFailure::WarningEmpty
            | SearchFailure::WarningPartial
            | SearchFailure::Truncated),
        ) => {
            let message = "A server side error has occurred because of which the operation could not be completed. Please try again after some time.";
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, message).spoilt(failure.name());
        }
        Some(SearchFailure::FailedSession) => {
            return page(vec![failed_session()], None).spoilt("failed_session");
        }
        _ => {}
    }
    if let Some(failure) = found.failure
        && let Some(answer) = instead(state, failure)
    {
        return answer.spoilt(failure.name());
    }
    let rows = state
        .search
        .rows(state, (tenant, asked), &found, |event, row| {
            row.insert(
                "RecordType".to_owned(),
                json!(event.record_type.to_string()),
            );
            for name in ["SiteIds", "ObjectIds", "IPAddresses"] {
                row.insert(name.to_owned(), Value::Null);
            }
        });
    let next = (asked.size > most && rows.len() == most).then_some(most);
    let answer = page(rows, next);
    match found.failure {
        None => answer,
        Some(SearchFailure::CutBody) => answer::spoil(Failure::CutBody, answer, line),
        Some(failure) => answer.spoilt(failure.name()),
    }
}

fn page(rows: Vec<Value>, next: Option<usize>) -> Answer {
    let mut body = json!({
        "odata.metadata": "https://outlook.office365.com/psws/service.svc/$metadata#UnifiedAuditLog",
    });
    body["value"] = Value::Array(rows);
    if let Some(skip) = next {
        body["odata.nextLink"] = json!(format!("{NEXT}{skip}"));
    }
    Answer::new(
        StatusCode::OK,
        "application/json;odata=minimalmetadata;streaming=true;charset=utf-8",
        body.to_string(),
    )
}
