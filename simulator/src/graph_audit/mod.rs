//! Audit log queries of Microsoft Graph, from the same records as the Management Activity API: a query is created, runs
//! for a while, and is read page by page.
//!
//! Faults are drawn for what is asked for (the time that a query searches, a query, a page), so that a client that
//! begins anew does not start a new row of failures.

mod config;
mod pages;
mod query;
mod record;
mod record_types;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

pub use config::{GraphAuditConfig, GraphAuditFaults};

use self::query::{End, Query, Wanted};
use crate::{
    answer::{self, Answer},
    chance::{Chance, mix, part},
    connection::Line,
    faults::{Failure, Faults},
    jwt::Claims,
    search::Filter,
    state::{State, Tenant, lock},
};

/// The application permission for all workloads.
const PERMISSION: &str = "AuditLogsQuery.Read.All";
/// Those for one workload each, and the `Workload` of its records.
const PERMISSIONS: [(&str, &str); 6] = [
    ("AuditLogsQuery-Entra.Read.All", "AzureActiveDirectory"),
    ("AuditLogsQuery-Exchange.Read.All", "Exchange"),
    ("AuditLogsQuery-SharePoint.Read.All", "SharePoint"),
    ("AuditLogsQuery-OneDrive.Read.All", "OneDrive"),
    ("AuditLogsQuery-CRM.Read.All", "CRM"),
    ("AuditLogsQuery-Endpoint.Read.All", "Endpoint"),
];
/// A token for another API is refused.
const OTHER_AUDIENCE: &str = "https://manage.office.com";

/// The queries of all tenants.
#[derive(Default)]
pub(crate) struct GraphAudit(Mutex<Vec<Query>>);

impl GraphAudit {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.0).len() as u64
    }
}

/// A request as it came in.
pub(crate) struct Incoming {
    /// `v1.0` or `beta`.
    pub(crate) version: &'static str,
    pub(crate) method: Method,
    /// Below `queries`, without the slash.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: axum::body::Bytes,
    pub(crate) line: Line,
}

/// A request that may be answered.
struct Call<'c> {
    state: &'c Arc<State>,
    tenant: &'c Tenant,
    claims: Claims,
    faults: Arc<Faults>,
    incoming: &'c Incoming,
    now: DateTime<Utc>,
}

/// A refusal, in the place of an answer.
type Refused = Box<Answer>;

impl Call<'_> {
    /// Whether a fault of this probability comes up for something; each repetition draws anew, and after
    /// `most_in_a_row` of them in a row there is none.
    fn hits(&self, what: &str, key: u64, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        let key = mix(&[part(what), part(&self.claims.tid), key]);
        let count = self.state.attempts.count(key);
        let most = self.faults.most_in_a_row;
        let spared = most > 0 && count % (most + 1) == most;
        let seed = self.faults.seed.unwrap_or(self.state.config.seed);
        !spared && Chance::of(&[seed, key, u64::from(count)]).hit(probability)
    }

    fn address(&self, rest: &str) -> String {
        let (url, version) = (&self.state.url, self.incoming.version);
        format!("{url}/{version}/security/auditLog/queries{rest}")
    }

    /// The services whose records the token may see; all if there are none.
    fn workloads(&self) -> Vec<&'static str> {
        let has = |role: &str| self.claims.roles.iter().any(|held| held == role);
        if has(PERMISSION) {
            return Vec::new();
        }
        let each = PERMISSIONS.iter().filter(|(role, _)| has(role));
        each.map(|(_, workload)| *workload).collect()
    }
}

/// Answers a request at or below `/{version}/security/auditLog/queries`.
pub(crate) async fn answer(state: &Arc<State>, incoming: Incoming) -> Answer {
    let parts: Vec<&str> = incoming
        .path
        .split('/')
        .filter(|it| !it.is_empty())
        .collect();
    let operation = match (&incoming.method, &*parts) {
        (&Method::POST, []) => "graph_create",
        (&Method::GET, []) => "graph_list",
        (&Method::GET, [_]) => "graph_get",
        (&Method::GET, [_, "records"]) => "graph_records",
        (_, [] | [_] | [_, "records"]) => {
            return error(
                StatusCode::METHOD_NOT_ALLOWED,
                "Request_BadRequest",
                "Specified HTTP method is not allowed for the request target.",
            );
        }
        _ => {
            return error(
                StatusCode::NOT_FOUND,
                "BadRequest",
                "Resource not found for the segment.",
            );
        }
    };
    let answer = admit(state, &incoming, operation, &parts).await;
    let answer = answer.unwrap_or_else(|refusal| *refusal);
    state.counts.request(operation, &answer.outcome);
    let id = Uuid::new_v4().to_string();
    answer
        .with(HeaderName::from_static("request-id"), &id)
        .with(HeaderName::from_static("client-request-id"), &id)
}

/// Lets in who may ask, then decides what goes wrong.
async fn admit(
    state: &Arc<State>,
    incoming: &Incoming,
    operation: &str,
    parts: &[&str],
) -> Result<Answer, Refused> {
    let claims = state
        .authenticate(&incoming.headers)
        .filter(|claims| claims.aud.trim_end_matches('/') != OTHER_AUDIENCE)
        .ok_or_else(unauthorized)?;
    let tenant = state.tenant_named(&claims.tid).ok_or_else(unauthorized)?;
    let may =
        |role: &String| role == PERMISSION || PERMISSIONS.iter().any(|(each, _)| each == role);
    if !claims.roles.iter().any(may) {
        let text = "The application does not have any of the required application permissions (AuditLogsQuery.Read.All).";
        return Err(Box::new(error(StatusCode::FORBIDDEN, "Forbidden", text)));
    }
    let config = &state.config.graph_audit;
    let creates = operation != "graph_create" || config.v1_creates;
    if incoming.version == "v1.0" && !(config.v1 && creates) {
        return Err(Box::new(error(StatusCode::NOT_FOUND, "UnknownError", "")));
    }
    let call = Call {
        state,
        tenant,
        claims,
        faults: state.faults(),
        incoming,
        now: state.clock.now(),
    };
    let key = mix(&[
        part(operation),
        part(&call.claims.tid),
        part(parts.first().unwrap_or(&"")),
        part(&pages::offset_text(&incoming.query)),
    ]);
    let answers = &call.faults.graph_audit.answers;
    let seed = state.config.seed;
    let verdict = state.attempts.decide(&call.faults, answers, seed, key);
    if verdict.wait_millis > 0 {
        tokio::time::sleep(Duration::from_millis(verdict.wait_millis)).await;
    }
    if let Some(answer) = verdict.failure.and_then(|failure| instead(&call, failure)) {
        return Err(Box::new(answer));
    }
    let answer = match (operation, parts) {
        ("graph_create", _) => create(&call)?,
        ("graph_list", _) => list(&call),
        ("graph_get", [id]) => get(&call, id)?,
        (_, [id, ..]) => pages::records(&call, id)?,
        _ => return Err(Box::new(not_found())),
    };
    Ok(match verdict.failure {
        Some(failure) => answer::spoil(failure, answer, &incoming.line),
        None => answer,
    })
}

fn create(call: &Call<'_>) -> Result<Answer, Refused> {
    let bad = |text: &str| Box::new(error(StatusCode::BAD_REQUEST, "BadRequest", text));
    let wanted: Wanted = serde_json::from_slice(&call.incoming.body)
        .map_err(|problem| bad(&format!("Invalid request body: {problem}")))?;
    let (from, to) = wanted.check().map_err(|text| bad(&text))?;
    let config = &call.state.config.graph_audit;
    let mut queries = lock(&call.state.graph_audit.0);
    let kept = TimeDelta::days(i64::from(config.kept_days));
    queries.retain(|query| query.created > call.now - kept);
    let own = || {
        queries
            .iter()
            .filter(|query| query.tenant == call.tenant.id)
    };
    let today = own().filter(|query| query.is_of_today(call.now)).count();
    let under_way = own().filter(|query| query.is_under_way(call.now)).count();
    if today >= config.creates_per_day || under_way >= config.at_once {
        return Err(Box::new(throttled(&call.faults)));
    }
    let faults = &call.faults.graph_audit;
    let key = mix(&[from.timestamp() as u64, to.timestamp() as u64]);
    let end = if call.hits("failed", key, faults.failed) {
        End::Failed
    } else if call.hits("cancelled", key, faults.cancelled) {
        End::Cancelled
    } else {
        End::Succeeded
    };
    let slow = call.hits("slow", key, faults.slow);
    let seconds = config.run_seconds + if slow { faults.slow_seconds } else { 0 };
    let query = Query {
        id: Uuid::new_v4(),
        tenant: call.tenant.id,
        app: call.claims.appid.clone(),
        created: call.now,
        from,
        to,
        ends: call.now + TimeDelta::seconds(seconds as i64),
        end,
        wanted,
        found: None,
        readings: 0,
    };
    let shown = with_context(call, query.shown(call.now, config.most_records));
    queries.push(query);
    if call.hits("lost create", key, faults.lost_create) {
        return Err(Box::new(gateway_timeout()));
    }
    Ok(Answer::json(StatusCode::CREATED, shown.to_string()))
}

fn list(call: &Call<'_>) -> Answer {
    let most = call.state.config.graph_audit.most_records;
    let queries = lock(&call.state.graph_audit.0);
    let own = queries.iter().filter(|query| is_visible(call, query));
    let shown: Vec<Value> = own.map(|query| query.shown(call.now, most)).collect();
    let context = format!(
        "{}/{}/$metadata#security/auditLog/queries",
        call.state.url, call.incoming.version
    );
    let body = json!({"@odata.context": context, "value": shown});
    Answer::json(StatusCode::OK, body.to_string())
}

fn get(call: &Call<'_>, id: &str) -> Result<Answer, Refused> {
    let most = call.state.config.graph_audit.most_records;
    let shown = with_query(call, id, |query| {
        pages::settle(call, query);
        query.shown(call.now, most)
    })?;
    let body = with_context(call, shown).to_string();
    Ok(Answer::json(StatusCode::OK, body))
}

/// Looks at a query of the tenant that is kept.
fn with_query<T>(
    call: &Call<'_>,
    id: &str,
    look: impl FnOnce(&mut Query) -> T,
) -> Result<T, Refused> {
    let mut queries = lock(&call.state.graph_audit.0);
    let found = queries
        .iter_mut()
        .find(|query| query.id.to_string() == id && is_visible(call, query));
    found.map(look).ok_or_else(|| Box::new(not_found()))
}

fn is_visible(call: &Call<'_>, query: &Query) -> bool {
    let kept = TimeDelta::days(i64::from(call.state.config.graph_audit.kept_days));
    query.tenant == call.tenant.id
        && query.app == call.claims.appid
        && query.created > call.now - kept
}

fn with_context(call: &Call<'_>, mut shown: Value) -> Value {
    let (url, version) = (&call.state.url, call.incoming.version);
    let context = format!("{url}/{version}/$metadata#security/auditLog/queries/$entity");
    if let Some(object) = shown.as_object_mut() {
        object.insert("@odata.context".to_owned(), json!(context));
    }
    shown
}

/// Graph's envelope of an error (reference, "Errors").
fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let id = Uuid::new_v4().to_string();
    let date = Utc::now().format("%Y-%m-%dT%H:%M:%S").to_string();
    let inner = json!({"date": date, "request-id": id, "client-request-id": id});
    let body = json!({"error": {"code": code, "message": message, "innerError": inner}});
    let mut answer = Answer::json(status, body.to_string());
    code.clone_into(&mut answer.outcome);
    answer
}

fn unauthorized() -> Refused {
    let text = "Access token validation failure. Invalid audience.";
    Box::new(error(
        StatusCode::UNAUTHORIZED,
        "InvalidAuthenticationToken",
        text,
    ))
}

fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "UnknownError", "")
}

fn throttled(faults: &Faults) -> Answer {
    let answer = error(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        "Too many requests.",
    );
    match faults.retry_after_seconds {
        Some(seconds) => answer.with(header::RETRY_AFTER, &seconds.to_string()),
        None => answer,
    }
}

/// The answer that a client gets whose query was created all the same.
fn gateway_timeout() -> Answer {
    let page = "<html><head><title>504 Gateway Time-out</title></head></html>";
    Answer::new(StatusCode::GATEWAY_TIMEOUT, "text/html", page).spoilt("lost_create")
}

/// The answer of a failure that comes before the request is looked at, in Graph's words.
fn instead(call: &Call<'_>, failure: Failure) -> Option<Answer> {
    Some(match failure {
        Failure::Throttled429 => throttled(&call.faults),
        Failure::Throttled403 => {
            let page = "<html><head><title>403 Forbidden</title></head><body>Microsoft-Azure-Application-Gateway/v2</body></html>";
            Answer::new(StatusCode::FORBIDDEN, "text/html", page)
        }
        Failure::InternalError | Failure::InternalErrorInAnHour => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "An internal server error occurred.",
        ),
        Failure::Unauthorized => *unauthorized(),
        _ => {
            let elsewhere = format!("{}/stolen", call.state.foreign_url);
            return answer::instead(failure, &call.faults, "", "", &elsewhere);
        }
    })
}

/// The index's part of a query's filters.
fn filter(query: &Query) -> Filter {
    let (operations, users) = query.wanted.indexed();
    Filter {
        from: query.from,
        to: query.to,
        operations,
        users,
    }
}
