//! Webhooks: validation when a subscription starts, notifications as blobs appear, and the list of
//! those sent (reference, "Webhooks").

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use uuid::Uuid;

use crate::{
    answer::{Answer, ApiError},
    api::Call,
    catalogue::{Blob, Cursor},
    clock::wire_time,
    content_type::ContentType,
    listing::{self, NextPage, Window, content_uri},
    state::{State, Tenant, lock},
    subscriptions::{Webhook, WebhookBody},
};

/// How long an endpoint may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Blobs in one notification; the service's cap is not documented.
const MOST_ROWS: usize = 50;
/// Notifications that are remembered for listing.
const REMEMBERED: usize = 1_000;

/// One attempt to tell an endpoint of a blob.
pub(crate) struct Notification {
    /// Rises with each.
    number: usize,
    app: String,
    blob: Arc<Blob>,
    sent: DateTime<Utc>,
    status: String,
}

/// Checks a webhook before it is taken on (`AF20002`, `AF20003`, `AF20021`).
pub(crate) async fn validate(call: &Call<'_>, wanted: WebhookBody) -> Result<Webhook, ApiError> {
    wanted.check(call.now)?;
    let address = &wanted.address;
    let refused = |why: &str| {
        ApiError::new(
            "AF20021",
            format!("The webhook endpoint ({address}) could not be validated. {why}"),
        )
    };
    let over_http = call.state.config.webhooks_over_http && address.starts_with("http://");
    if !over_http && !address.starts_with("https://") {
        return Err(refused("The address must begin with HTTPS."));
    }
    let code = Uuid::new_v4().simple().to_string();
    let body = json!({"validationCode": code}).to_string();
    let auth = wanted.auth_id.clone().unwrap_or_default();
    let mut headers = vec![
        ("Content-Type", "application/json; charset=utf-8"),
        ("Webhook-ValidationCode", &code),
    ];
    if !auth.is_empty() {
        headers.push(("Webhook-AuthID", &auth));
    }
    match post(address, &headers, &body).await {
        Ok(200) => Ok(Webhook {
            status: "enabled",
            address: wanted.address,
            auth_id: wanted.auth_id,
            expiration: wanted.expiration.filter(|text| !text.is_empty()),
            failures: 0,
        }),
        Ok(_) | Err(_) => Err(refused("The endpoint did not return HTTP 200.")),
    }
}

/// Posts over plain HTTP and reads the status. There is no TLS: an `https` address fails.
async fn post(address: &str, headers: &[(&str, &str)], body: &str) -> io::Result<u16> {
    let url = url::Url::parse(address).map_err(io::Error::other)?;
    let host = url
        .host_str()
        .ok_or_else(|| io::Error::other("no host in the address"))?;
    if url.scheme() != "http" {
        return Err(io::Error::other("only http is supported"));
    }
    let port = url.port_or_known_default().unwrap_or(80);
    let mut request = format!(
        "POST {} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n",
        url.path()
    );
    for (name, value) in headers {
        let line = format!("{name}: {value}\r\n");
        request.push_str(&line);
    }
    let end = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    request.push_str(&end);
    let exchange = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::with_capacity(512);
        while head.len() < 16 && stream.read_buf(&mut head).await? > 0 {}
        let text = String::from_utf8_lossy(&head).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.ok_or_else(|| io::Error::other("no status in the answer"))
    };
    timeout(PATIENCE, exchange)
        .await
        .map_err(|_| io::Error::other("timed out"))?
}

/// What waits to be told to one endpoint.
#[derive(Default)]
struct Queue {
    blobs: Vec<Arc<Blob>>,
    not_before: Option<DateTime<Utc>>,
    failures: u32,
}

/// The blobs of a tenant that no webhook was told of yet.
struct Horizon {
    known: usize,
    waiting: Vec<Arc<Blob>>,
}

impl Horizon {
    /// Blobs that have appeared since the last call.
    fn risen(&mut self, tenant: &Tenant, now: DateTime<Utc>) -> Vec<Arc<Blob>> {
        let new = tenant.blobs_after(self.known);
        self.known += new.len();
        self.waiting.extend(new);
        let (risen, waiting) = self
            .waiting
            .drain(..)
            .partition(|blob| blob.visible_at <= now);
        self.waiting = waiting;
        risen
    }
}

/// Tells the webhooks of every blob that appears, until the simulator stops.
pub(crate) async fn notify(state: Arc<State>) {
    let mut queues: HashMap<(Uuid, String, ContentType), Queue> = HashMap::new();
    let mut horizons: Vec<Horizon> = Vec::new();
    for tenant in &state.tenants {
        let mut horizon = Horizon {
            known: 0,
            waiting: Vec::new(),
        };
        // What is there at the start is old.
        horizon.risen(tenant, state.clock.now());
        horizons.push(horizon);
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        let now = state.clock.now();
        for (tenant, horizon) in state.tenants.iter().zip(&mut horizons) {
            let fresh = horizon.risen(tenant, now);
            for (app, content_type, webhook) in tenant.subscriptions.webhooks(now) {
                let key = (tenant.id, app.clone(), content_type);
                let queue = queues.entry(key).or_default();
                let theirs = fresh
                    .iter()
                    .filter(|blob| blob.content_type == content_type);
                queue.blobs.extend(theirs.cloned());
                deliver(&state, tenant, (&app, content_type, &webhook), queue, now).await;
            }
        }
    }
}

async fn deliver(
    state: &State,
    tenant: &Tenant,
    (app, content_type, webhook): (&str, ContentType, &Webhook),
    queue: &mut Queue,
    now: DateTime<Utc>,
) {
    if queue.blobs.is_empty() || queue.not_before.is_some_and(|at| now < at) {
        return;
    }
    let rows = queue.blobs.len().min(MOST_ROWS);
    let body: Value = queue.blobs[..rows]
        .iter()
        .map(|blob| row(state, tenant, app, blob))
        .collect();
    // The reference prints this odd content type literally.
    let mut headers = vec![("Content-Type", "application/json; utf-8")];
    if let Some(auth) = webhook.auth_id.as_deref().filter(|auth| !auth.is_empty()) {
        headers.push(("Webhook-AuthID", auth));
    }
    let result = post(&webhook.address, &headers, &body.to_string()).await;
    state.counts.notifications.fetch_add(1, Ordering::Relaxed);
    let well = matches!(result, Ok(200));
    let status = match result {
        Ok(200) => "success".to_owned(),
        Ok(status) => format!("failed: HTTP {status}"),
        Err(error) => format!("failed: {error}"),
    };
    remember(tenant, app, &queue.blobs[..rows], now, &status);
    tenant
        .subscriptions
        .notified(app, content_type, well, state.config.webhook_failures);
    if well {
        queue.blobs.drain(..rows);
        queue.failures = 0;
        queue.not_before = None;
    } else {
        queue.failures = (queue.failures + 1).min(8);
        queue.not_before = Some(now + TimeDelta::milliseconds(100 << queue.failures));
    }
}

fn row(state: &State, tenant: &Tenant, app: &str, blob: &Blob) -> Value {
    json!({
        "tenantId": tenant.id.to_string(),
        "clientId": app,
        "contentType": blob.content_type.name(),
        "contentId": &*blob.id,
        "contentUri": content_uri(&state.url, tenant.id, &blob.id),
        "contentCreated": wire_time(blob.created),
        "contentExpiration": wire_time(blob.expires()),
    })
}

fn remember(tenant: &Tenant, app: &str, blobs: &[Arc<Blob>], sent: DateTime<Utc>, status: &str) {
    let mut rows = lock(&tenant.notifications);
    for blob in blobs {
        if rows.len() == REMEMBERED {
            rows.pop_front();
        }
        let number = rows.back().map_or(0, |last| last.number + 1);
        let (app, status) = (app.to_owned(), status.to_owned());
        rows.push_back(Notification {
            number,
            app,
            blob: Arc::clone(blob),
            sent,
            status,
        });
    }
}

/// Answers `GET subscriptions/notifications`: the attempts of a window, page by page.
pub(crate) fn notifications(call: &Call<'_>) -> Result<Answer, ApiError> {
    let content_type = listing::content_type(&call.query)?;
    call.tenant
        .subscriptions
        .view(&call.claims.appid, content_type, &call.state.config)?;
    let window = Window::of(&call.query, &call.state.config, call.now)?;
    let after = NextPage::asked(call)?.after;
    let rows = lock(&call.tenant.notifications);
    let mut rows = rows
        .iter()
        .filter(|it| {
            it.blob.content_type == content_type && it.app.eq_ignore_ascii_case(&call.claims.appid)
        })
        .filter(|it| window.start <= it.blob.created && it.blob.created < window.end)
        .filter(|it| after.is_none_or(|after| after.number < it.number))
        .peekable();
    let size = call.state.config.page_size.max(1);
    let page: Vec<&Notification> = rows.by_ref().take(size).collect();
    let body: Value = page.iter().map(|it| attempt(call, it)).collect();
    let answer = Answer::json(StatusCode::OK, body.to_string());
    let Some(last) = page.last().filter(|_| rows.peek().is_some()) else {
        return Ok(answer);
    };
    let next = NextPage::after(Cursor {
        created_millis: last.blob.created.timestamp_millis(),
        number: last.number,
    });
    Ok(next.named_in(answer, call, "notifications", content_type, &window))
}

fn attempt(call: &Call<'_>, it: &Notification) -> Value {
    json!({
        "contentType": it.blob.content_type.name(),
        "contentId": &*it.blob.id,
        "contentUri": content_uri(&call.state.url, call.tenant.id, &it.blob.id),
        "notificationStatus": it.status,
        "contentCreated": wire_time(it.blob.created),
        "notificationSent": wire_time(it.sent),
        "contentExpiration": wire_time(it.blob.expires()),
    })
}
