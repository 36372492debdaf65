//! The Management Activity API: who may ask, what goes wrong, and which operation it is
//! (reference, "Operations" and "Errors").

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::http::{HeaderMap, Method, StatusCode, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    answer::{self, Answer, ApiError},
    attempts::Verdict,
    blobs,
    chance::{Chance, mix, part},
    connection::Line,
    faults::{AnswerFaults, Failure, Faults},
    jwt::Claims,
    listing, names,
    state::{State, Tenant, lock},
    subscriptions::{Hook, WebhookBody},
    webhook,
};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'p> {
    Start,
    Stop,
    Subscriptions,
    Content,
    Notifications,
    SensitiveTypes,
    Blob(&'p str),
}

impl<'p> Operation<'p> {
    /// The operation of a method and the path below `activity/feed/`.
    fn parse(method: &Method, path: &'p str) -> Result<Self, StatusCode> {
        let (expected, operation) = match path.trim_end_matches('/') {
            "subscriptions/start" => (Method::POST, Self::Start),
            "subscriptions/stop" => (Method::POST, Self::Stop),
            "subscriptions/list" => (Method::GET, Self::Subscriptions),
            "subscriptions/content" => (Method::GET, Self::Content),
            "subscriptions/notifications" => (Method::GET, Self::Notifications),
            "resources/dlpSensitiveTypes" => (Method::GET, Self::SensitiveTypes),
            path => match path.strip_prefix("audit/") {
                Some(id) => (Method::GET, Self::Blob(id)),
                None => return Err(StatusCode::NOT_FOUND),
            },
        };
        if *method == expected {
            Ok(operation)
        } else {
            Err(StatusCode::METHOD_NOT_ALLOWED)
        }
    }

    /// The name under which it is counted.
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Subscriptions => "subscriptions",
            Self::Content => "content",
            Self::Notifications => "notifications",
            Self::SensitiveTypes => "sensitive_types",
            Self::Blob(_) => "blob",
        }
    }

    /// The service's internal name, which it gives away in its errors.
    fn method(self) -> &'static str {
        match self {
            Self::Start => "StartSubscription",
            Self::Stop => "StopSubscription",
            Self::Subscriptions => "ListSubscriptions",
            Self::Content => "ListContent",
            Self::Notifications => "ListNotifications",
            Self::SensitiveTypes => "GetDlpSensitiveTypes",
            Self::Blob(_) => "GetBlob",
        }
    }

    fn faults(self, faults: &Faults) -> &AnswerFaults {
        match self {
            Self::Content | Self::Notifications => &faults.listing,
            Self::Blob(_) => &faults.blobs,
            Self::Start | Self::Stop | Self::Subscriptions | Self::SensitiveTypes => {
                &faults.subscriptions
            }
        }
    }
}

/// A request as it came in.
pub(crate) struct Incoming {
    pub(crate) method: Method,
    pub(crate) tenant: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) line: Line,
}

/// A request that may be answered.
pub(crate) struct Call<'c> {
    pub(crate) state: &'c Arc<State>,
    pub(crate) tenant: &'c Tenant,
    pub(crate) claims: Claims,
    /// Names in lower case: the service does not mind their case.
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: &'c HeaderMap,
    pub(crate) faults: Arc<Faults>,
    pub(crate) now: DateTime<Utc>,
    key: u64,
}

impl Call<'_> {
    /// The seed of the faults.
    pub(crate) fn seed(&self) -> u64 {
        self.faults.seed.unwrap_or(self.state.config.seed)
    }

    /// Draws for something about this request; each repetition of it draws anew.
    pub(crate) fn draw(&self, what: &str) -> Chance {
        let count = self.state.attempts.count(mix(&[self.key, part(what)]));
        Chance::of(&[self.seed(), self.key, part(what), u64::from(count)])
    }

    fn publisher(&self) -> &str {
        self.query
            .get("publisheridentifier")
            .map_or("00000000-0000-0000-0000-000000000000", String::as_str)
    }
}

/// Answers a request of the API.
pub(crate) async fn answer(state: &Arc<State>, incoming: Incoming) -> Answer {
    let operation = match Operation::parse(&incoming.method, &incoming.path) {
        Ok(operation) => operation,
        Err(status) => return Answer::new(status, "text/html", "The resource cannot be found."),
    };
    let answer = admit(state, &incoming, operation).await;
    state.counts.request(operation.name(), &answer.outcome);
    answer
}

/// Lets in who may ask, then decides what goes wrong.
async fn admit(state: &Arc<State>, incoming: &Incoming, operation: Operation<'_>) -> Answer {
    if state.config.require_content_length && lacks_length(incoming) {
        return Answer::new(
            StatusCode::LENGTH_REQUIRED,
            "text/html",
            "<h2>Length Required</h2>",
        );
    }
    let Some(claims) = state.authenticate(&incoming.headers) else {
        return Answer::unauthorized();
    };
    let tenant = match check_tenant(state, &incoming.tenant, &claims) {
        Ok(tenant) => tenant,
        Err(error) => return error.answer(&state.config.statuses),
    };
    let query: HashMap<String, String> = url::form_urlencoded::parse(incoming.query.as_bytes())
        .map(|(key, value)| (key.to_ascii_lowercase(), value.into_owned()))
        .collect();
    if !query.contains_key("publisheridentifier") {
        state
            .counts
            .without_publisher
            .fetch_add(1, Ordering::Relaxed);
    }
    let resource = match operation {
        Operation::Blob(id) => part(id),
        _ => query.get("contenttype").map_or(0, |name| part(name)),
    };
    let call = Call {
        state,
        tenant,
        query,
        headers: &incoming.headers,
        faults: state.faults(),
        now: state.clock.now(),
        key: mix(&[
            part(operation.name()),
            part(&incoming.tenant),
            part(&claims.appid),
            resource,
        ]),
        claims,
    };
    if over_limit(&call) {
        let full = answer::instead(
            Failure::Throttled403,
            &call.faults,
            operation.method(),
            call.publisher(),
            "",
        );
        return full.unwrap_or_else(Answer::unauthorized);
    }
    if !tenant.audit.load(Ordering::Relaxed) {
        return audit_off(&call, operation);
    }
    let faults = operation.faults(&call.faults);
    let verdict = state
        .attempts
        .decide(&call.faults, faults, state.config.seed, call.key);
    execute(&call, operation, verdict, incoming).await
}

/// A POST must say how long it is; IIS insists.
fn lacks_length(incoming: &Incoming) -> bool {
    let length = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    let mut named = length
        .iter()
        .map(|name| incoming.headers.contains_key(name));
    incoming.method == Method::POST && !named.any(|named| named)
}

async fn execute(
    call: &Call<'_>,
    operation: Operation<'_>,
    verdict: Verdict,
    incoming: &Incoming,
) -> Answer {
    if verdict.wait_millis > 0 {
        tokio::time::sleep(Duration::from_millis(verdict.wait_millis)).await;
    }
    let elsewhere = format!("{}/stolen", call.state.foreign_url);
    let spoil_early = |failure: Failure| {
        answer::instead(
            failure,
            &call.faults,
            operation.method(),
            call.publisher(),
            &elsewhere,
        )
    };
    if let Some(answer) = verdict.failure.and_then(spoil_early) {
        return answer;
    }
    let mut failure = verdict.failure;
    let result = match operation {
        Operation::Start => start(call, &incoming.body).await,
        Operation::Stop => stop(call),
        Operation::Subscriptions => {
            let omit = call.state.config.omit_status;
            let list: Value = call
                .tenant
                .subscriptions
                .list(&call.claims.appid, omit, call.now);
            Ok(Answer::json(StatusCode::OK, list.to_string()))
        }
        Operation::Content => listing::content(call),
        Operation::Notifications => webhook::notifications(call),
        Operation::SensitiveTypes => names::sensitive_types(call.headers),
        Operation::Blob(id) => match blobs::find(call, id) {
            Err(error) => Err(error),
            Ok(blob) => {
                let own = blobs::own_failure(call, &blob);
                if let Some(answer) = own.and_then(spoil_early) {
                    return answer;
                }
                failure = own.or(failure);
                Ok(blobs::body(call.state, blob, call.headers).await)
            }
        },
    };
    let answer = result.unwrap_or_else(|error| error.answer(&call.state.config.statuses));
    match failure {
        Some(failure) => answer::spoil(failure, answer, &incoming.line),
        None => answer,
    }
}

/// The tenant of the URL, if it is the token's and the token may read (`AF20013`, `AF20010`,
/// `AF20011`, `AF10001`).
fn check_tenant<'s>(state: &'s State, name: &str, claims: &Claims) -> Result<&'s Tenant, ApiError> {
    let id = Uuid::parse_str(name).map_err(|_| {
        ApiError::new(
            "AF20013",
            format!("The tenant ID passed in the URL ({name}) is not a valid GUID."),
        )
    })?;
    if id.to_string() != claims.tid {
        let text = format!(
            "The tenant ID passed in the URL ({name}) does not match the tenant ID passed in the access token ({}).",
            claims.tid
        );
        return Err(ApiError::new("AF20010", text));
    }
    let tenant = state.tenant(id).ok_or_else(|| {
        let text = format!(
            "Specified tenant ID ({name}) does not exist in the system or has been deleted."
        );
        ApiError::new("AF20011", text)
    })?;
    if !claims.roles.iter().any(|role| role == "ActivityFeed.Read") {
        let text = format!(
            "The permission set ({}) sent in the request did not include the expected permission ActivityFeed.Read.",
            claims.roles.join(" ")
        );
        return Err(ApiError::new("AF10001", text));
    }
    Ok(tenant)
}

/// The hard limit of requests per minute (reference, "API throttling").
fn over_limit(call: &Call<'_>) -> bool {
    let own = *lock(&call.tenant.limit);
    let Some(limit) = own.or(call.state.config.requests_per_minute) else {
        return false;
    };
    let minute = call.now.timestamp() / 60;
    let mut current = lock(&call.tenant.minute);
    if current.0 != minute {
        *current = (minute, 0);
    }
    current.1 += 1;
    current.1 > limit
}

/// The answer of a tenant without unified auditing: 400, no `AF` code, and a diagnostic dump that
/// is cut off in the code and goes on in the message (reference, "Audit not enabled").
fn audit_off(call: &Call<'_>, operation: Operation<'_>) -> Answer {
    let tenant = call.tenant.id;
    let content_type = call
        .query
        .get("contenttype")
        .map_or("Audit.General", String::as_str);
    let code = format!(
        "{} [CorrId={}][TenantId={tenant},ContentType={content_type},ApplicationId={},PublisherId={}][AppId",
        operation.method(),
        Uuid::new_v4(),
        call.claims.appid,
        call.publisher(),
    );
    let message = format!(
        "{}] failed. Exception: Microsoft.Office.Compliance.Audit.DataServiceException: Tenant {tenant} does not exist.\r\n   at Microsoft.Office.Compliance.Audit.API.{}Handler.Execute()",
        call.claims.appid,
        operation.method(),
    );
    let body = serde_json::json!({"error": {"code": code, "message": message}});
    let mut answer = Answer::json(StatusCode::BAD_REQUEST, body.to_string());
    "audit_off".clone_into(&mut answer.outcome);
    answer
}

async fn start(call: &Call<'_>, body: &[u8]) -> Result<Answer, ApiError> {
    let content_type = listing::content_type(&call.query)?;
    let hook = match WebhookBody::parse(body)? {
        // An empty address takes the webhook away.
        Some(wanted) if wanted.address.is_empty() => Hook::Remove,
        Some(wanted) => Hook::Set(webhook::validate(call, wanted).await?),
        None => Hook::Keep,
    };
    let subscriptions = &call.tenant.subscriptions;
    let started = subscriptions.start(
        &call.state.config,
        &call.claims.appid,
        content_type,
        hook,
        call.now,
    )?;
    Ok(Answer::json(StatusCode::OK, started.to_string()))
}

fn stop(call: &Call<'_>) -> Result<Answer, ApiError> {
    let content_type = listing::content_type(&call.query)?;
    call.tenant
        .subscriptions
        .stop(&call.claims.appid, content_type, call.now)?;
    Ok(Answer::empty())
}
