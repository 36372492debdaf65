//! Exchange Online's `InvokeCommand` (reference, "Modern: Exchange Online REST"): POST a cmdlet with its parameters,
//! with a token that needs two grants.

use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Asked, Found, Invalid, config::SearchFailure, failed_session, instead};
use crate::{
    answer::{self, Answer},
    connection::Line,
    faults::Failure,
    jwt::Claims,
    state::{State, Tenant},
};

/// The application permission.
const PERMISSION: &str = "Exchange.ManageAsApp";
/// What a token is for; a token for Graph is refused.
const AUDIENCES: [&str; 3] = [
    "https://outlook.office365.com",
    "https://outlook.office365.us",
    "https://partner.outlook.cn",
];
/// Rows of an answer, unless `Prefer` says otherwise.
const USUAL_PAGE: usize = 1_000;
/// What the cmdlet takes.
const PARAMETERS: [&str; 15] = [
    "startdate",
    "enddate",
    "operations",
    "recordtype",
    "userids",
    "objectids",
    "ipaddresses",
    "siteids",
    "freetext",
    "resultsize",
    "sessionid",
    "sessioncommand",
    "highcompleteness",
    "formatted",
    "longerretentionenabled",
];
/// What a warning says that is a failure.
const CANCELED: &str =
    "The search could not be completed: A task was canceled. Failed to process request.";
const SERVER_ERROR: &str = "A server side error has occurred because of which the operation could not be completed. Please try again after some time.";

/// The body of a request.
#[derive(Deserialize)]
struct Input {
    #[serde(rename = "CmdletInput")]
    cmdlet: Cmdlet,
}

#[derive(Deserialize)]
struct Cmdlet {
    #[serde(rename = "CmdletName")]
    name: String,
    /// An object, never null.
    #[serde(rename = "Parameters")]
    parameters: Map<String, Value>,
}

/// A request as it came in.
pub(crate) struct Incoming<'r> {
    pub(crate) tenant: &'r str,
    pub(crate) query: &'r str,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) body: &'r [u8],
    pub(crate) line: &'r Line,
}

/// Answers `POST /adminapi/beta/{tenant}/InvokeCommand`.
pub(crate) fn answer(state: &State, incoming: &Incoming<'_>) -> Answer {
    let answer = admit(state, incoming).unwrap_or_else(|refusal| *refusal);
    state.counts.request("invoke_command", &answer.outcome);
    answer
}

fn admit(state: &State, incoming: &Incoming<'_>) -> Result<Answer, Box<Answer>> {
    let claims = state
        .authenticate(incoming.headers)
        .filter(|claims| is_for_exchange(state, claims))
        .ok_or_else(|| Box::new(unauthorized()))?;
    let tenant = state
        .tenant_named(incoming.tenant)
        .filter(|tenant| tenant.id.to_string() == claims.tid)
        .ok_or_else(|| Box::new(unauthorized()))?;
    if !claims.roles.iter().any(|role| role == PERMISSION) {
        return Err(Box::new(unauthorized()));
    }
    if !tenant.config.exchange_role {
        let nothing = vec![0; 64];
        return Err(Box::new(Answer::new(
            StatusCode::FORBIDDEN,
            "application/json",
            nothing,
        )));
    }
    let limit = state.config.search.requests_per_minute;
    let Some(left) = state.search.quota(state, tenant) else {
        let full = instead(state, SearchFailure::Throttled).unwrap_or_else(unauthorized);
        return Err(Box::new(rate(full, state, 0)));
    };
    if incoming.query.to_lowercase().contains("skiptoken") {
        let text = "Expired or Invalid pagination request. Default Expiry time is 00:30:00";
        return Err(Box::new(refusal(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            text,
        )));
    }
    let input: Input = serde_json::from_slice(incoming.body).map_err(|error| {
        let text = format!("The request body is not valid: {error}");
        Box::new(refusal(
            StatusCode::BAD_REQUEST,
            "InvalidRequestException",
            &text,
        ))
    })?;
    let answer = run(state, tenant, &input.cmdlet, incoming);
    Ok(match limit {
        Some(_) => rate(answer, state, left),
        None => answer,
    })
}

fn is_for_exchange(state: &State, claims: &Claims) -> bool {
    let audience = claims.aud.trim_end_matches('/');
    audience == state.url || AUDIENCES.contains(&audience)
}

fn unauthorized() -> Answer {
    let mut answer = Answer::unauthorized();
    answer.body = answer::Payload::Whole(bytes::Bytes::new());
    answer
}

/// Says what is left of the minute, and when the next begins.
fn rate(answer: Answer, state: &State, left: u32) -> Answer {
    let next = (state.clock.now().timestamp() / 60 + 1) * 60;
    let next = chrono::DateTime::from_timestamp(next, 0).unwrap_or_default();
    answer
        .with(
            HeaderName::from_static("rate-limit-remaining"),
            &left.to_string(),
        )
        .with(
            HeaderName::from_static("rate-limit-reset"),
            &next.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        )
}

/// The error envelope: what happened is in its depth.
fn refusal(status: StatusCode, kind: &str, message: &str) -> Answer {
    let body = json!({"error": {
        "code": "BadRequest",
        "message": "Invalid Operation",
        "details": [{"code": "Client", "target": "", "message": format!("|{kind}|{message}")}],
        "innererror": {
            "message": "Invalid Operation",
            "type": "Microsoft.Exchange.Admin.OData.Core.ODataServiceException",
            "internalexception": {"message": message, "type": kind, "stacktrace": "   at Microsoft.Exchange"},
        },
    }});
    let mut answer = Answer::json(status, body.to_string());
    kind.rsplit('.')
        .next()
        .unwrap_or(kind)
        .clone_into(&mut answer.outcome);
    answer
}

fn run(state: &State, tenant: &Tenant, cmdlet: &Cmdlet, incoming: &Incoming<'_>) -> Answer {
    match cmdlet.name.to_lowercase().as_str() {
        "search-unifiedauditlog" => search(state, tenant, cmdlet, incoming),
        "get-adminauditlogconfig" => {
            let on = tenant.audit.load(std::sync::atomic::Ordering::Relaxed);
            succeed(
                vec![json!({"UnifiedAuditLogIngestionEnabled": on})],
                &[],
                None,
            )
        }
        _ => {
            let kind = "System.Management.Automation.CommandNotFoundException";
            let text = format!(
                "The term '{}' is not recognized as the name of a cmdlet.",
                cmdlet.name
            );
            refusal(StatusCode::BAD_REQUEST, kind, &text)
        }
    }
}

/// The parameters by names in lower case; a list has several values.
fn parameters(cmdlet: &Cmdlet) -> Result<HashMap<String, Vec<String>>, String> {
    let mut all = HashMap::new();
    for (name, value) in &cmdlet.parameters {
        let name = name.to_lowercase();
        if !PARAMETERS.contains(&name.as_str()) {
            return Err(name);
        }
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let values = match value {
            Value::Array(values) => values.iter().map(text).collect(),
            one => vec![text(one)],
        };
        all.insert(name, values);
    }
    Ok(all)
}

fn search(state: &State, tenant: &Tenant, cmdlet: &Cmdlet, incoming: &Incoming<'_>) -> Answer {
    let asked = parameters(cmdlet)
        .map_err(|name| {
            let kind = "AmbiguousParameterSetException";
            Invalid(
                kind,
                format!("A parameter cannot be found that matches parameter name '{name}'."),
            )
        })
        .and_then(|parameters| Asked::read(&parameters, state, state.clock.now()));
    let asked = match asked {
        Ok(asked) => asked,
        Err(Invalid(kind, message)) => {
            let kind = format!("System.Management.Automation.{kind}");
            return refusal(StatusCode::BAD_REQUEST, &kind, &message);
        }
    };
    if state.search.has_ended(state, tenant, &asked) {
        return succeed(vec![failed_session()], &[], None);
    }
    let found = state.search.run(state, tenant, &asked, usize::MAX);
    match found.failure {
        Some(failure) => fail(state, failure).unwrap_or_else(|| {
            let answer = page(state, tenant, &asked, &found, incoming);
            if failure == SearchFailure::CutBody {
                answer::spoil(Failure::CutBody, answer, incoming.line)
            } else {
                answer.spoilt(failure.name())
            }
        }),
        None => page(state, tenant, &asked, &found, incoming),
    }
}

/// The answer of a failure that leaves no page.
fn fail(state: &State, failure: SearchFailure) -> Option<Answer> {
    let answer = match failure {
        SearchFailure::ServerError => {
            let kind = "Microsoft.Exchange.Management.UnifiedAuditLogException";
            refusal(StatusCode::INTERNAL_SERVER_ERROR, kind, SERVER_ERROR)
        }
        SearchFailure::Unauthorized => unauthorized(),
        SearchFailure::WarningEmpty => succeed(Vec::new(), &[CANCELED], None),
        SearchFailure::FailedSession => succeed(vec![failed_session()], &[], None),
        other => instead(state, other)?,
    };
    Some(answer.spoilt(failure.name()))
}

/// A page of rows, cut to what `Prefer` allows: then a link leads to the rest, which nobody can follow.
fn page(
    state: &State,
    tenant: &Tenant,
    asked: &Asked,
    found: &Found,
    incoming: &Incoming<'_>,
) -> Answer {
    let mut rows = state
        .search
        .rows(state, (tenant, asked), found, |event, row| {
            row.insert("RecordType".to_owned(), json!(event.record_type));
            row.insert(
                "CreationDate@data.type".to_owned(),
                json!("System.DateTime"),
            );
            row.insert("ResultIndex@odata.type".to_owned(), json!("#Int32"));
        });
    let most = preferred(incoming.headers).unwrap_or(USUAL_PAGE);
    let is_cut = rows.len() > most || found.failure == Some(SearchFailure::Truncated);
    rows.truncate(most);
    let next = is_cut.then(|| {
        let (url, tenant) = (&state.url, tenant.id);
        format!("{url}/adminapi/beta/{tenant}/InvokeCommand?%24skiptoken=AAAA")
    });
    select(&mut rows, incoming.query);
    let partial = found.failure == Some(SearchFailure::WarningPartial);
    let warnings = if partial { &[CANCELED][..] } else { &[] };
    succeed(rows, warnings, next)
}

/// `$select`: leaves the named properties alone.
fn select(rows: &mut [Value], query: &str) {
    let wanted = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "$select");
    let Some((_, wanted)) = wanted else {
        return;
    };
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).collect();
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.retain(|name, _| wanted.contains(&name.split('@').next().unwrap_or(name)));
    }
}

/// The page size of `Prefer: odata.maxpagesize=N`.
fn preferred(headers: &HeaderMap) -> Option<usize> {
    let prefer = headers.get("prefer")?.to_str().ok()?;
    let size = prefer
        .split(';')
        .find_map(|part| part.trim().strip_prefix("odata.maxpagesize="));
    size?.parse().ok()
}

fn succeed(rows: Vec<Value>, warnings: &[&str], next: Option<String>) -> Answer {
    let mut body = json!({
        "@odata.context": "https://outlook.office365.com/adminapi/beta/$metadata#Collection(Exchange.GenericHashTable)",
        "@adminapi.warnings@odata.type": "#Collection(String)",
        "@adminapi.warnings": warnings,
    });
    body["value"] = Value::Array(rows);
    if let Some(next) = next {
        body["@odata.nextLink"] = json!(next);
    }
    Answer::json(StatusCode::OK, body.to_string())
}
