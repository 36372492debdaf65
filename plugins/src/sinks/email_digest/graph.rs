//! Mails by Microsoft Graph's `sendMail`, for tenants without an SMTP server that takes logins.
//!
//! The same message as by SMTP, as MIME in base64. The token, of the tenant's own app with the application permission
//! `Mail.Send`, goes to the Graph host of the tenant's cloud and nowhere else; redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::http;
use audit_exporter_core::{Error, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use url::Url;

use super::message::Mail;
use crate::http::body::read_capped;
use crate::http::headers;
use crate::http::text::first_sentence;
use crate::microsoft::cloud::Access;
use crate::microsoft::explain::{self, Service};
use crate::microsoft::token::{Token, Tokens};

/// How long Graph may take for a mail of its largest size.
const EXCHANGE: Duration = Duration::from_mins(2);
/// What is read of a refusal.
const REFUSAL_CAP: usize = 64 * 1024;
/// The application permission.
const PERMISSION: &str = "Mail.Send";
/// What Graph calls its lack.
const NO_PERMISSION: &str = "ErrorAccessDenied";

/// `[sinks.NAME.graph]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphOptions {
    /// The mailbox that sends: its address or id.
    pub(super) sender: String,
    /// The tenant of the mailbox and of the app; the mail's own by default.
    pub(super) tenant: Option<String>,
}

/// A mailbox that sends.
pub(super) struct Graph {
    http: http::Client,
    clock: Clock,
    url: Url,
    sender: String,
    tokens: Tokens,
}

#[derive(Deserialize)]
struct Answer {
    error: Detail,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Graph {
    pub(super) fn new(
        http: http::Client,
        clock: Clock,
        access: &Arc<Access>,
        sender: String,
        tokens: Tokens,
    ) -> Result<Self> {
        let mut url = access.graph_api.clone();
        url.path_segments_mut()
            .map_err(|()| Error::bug("the Graph address has no path"))?
            .extend(["v1.0", "users", &sender, "sendMail"]);
        Ok(Self {
            http,
            clock,
            url,
            sender,
            tokens,
        })
    }

    /// Hands a mail over. `Ok` only when Graph has accepted it.
    pub(super) async fn send(&self, mail: &Mail) -> Result<()> {
        let done = tokio::time::timeout(EXCHANGE, self.exchange(mail)).await;
        done.unwrap_or_else(|_| {
            let seconds = EXCHANGE.as_secs();
            Err(Error::unavailable(format!(
                "did not answer within {seconds} s"
            )))
        })
        .map_err(|error| error.context(self.host()))
    }

    /// Whether there is a token that may send.
    pub(super) async fn check(&self) -> Result<String> {
        let token = self.tokens.get().await?;
        if token
            .claims()
            .is_some_and(|claims| !claims.has_role(PERMISSION))
        {
            return Err(explained(NO_PERMISSION, &self.sender, "")
                .unwrap_or_else(|| Error::auth(format!("the token lacks {PERMISSION}"))));
        }
        Ok(format!(
            "{} gives tokens that may send as {}",
            self.host(),
            self.sender
        ))
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    async fn exchange(&self, mail: &Mail) -> Result<()> {
        let body = BASE64_STANDARD.encode(&mail.bytes);
        let mut token = self.tokens.get().await?;
        match self.once(&token, body.clone()).await? {
            None => return Ok(()),
            Some((StatusCode::UNAUTHORIZED, _)) => {}
            Some((_, error)) => return Err(error),
        }
        // It was revoked, or keys have changed: one more, with another token if there is one.
        if let Some(fresh) = self.tokens.replace(&token).await? {
            token = fresh;
        }
        match self.once(&token, body).await? {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    /// Sends once; the refusal if there is one.
    async fn once(&self, token: &Token, body: String) -> Result<Option<(StatusCode, Error)>> {
        let request = self
            .http
            .request(Method::POST, self.url.clone())
            .header(AUTHORIZATION, token.bearer())
            .header(CONTENT_TYPE, "text/plain")
            .body(body);
        let response = self.http.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(None);
        }
        let wait = headers::retry_after(response.headers(), self.clock.now());
        // The status alone is worth telling if the rest breaks off.
        let body = read_capped(response, REFUSAL_CAP).await.unwrap_or_default();
        let error = refusal(status, &body, &self.sender).with_retry_after(wait);
        Ok(Some((status, error)))
    }
}

/// What the table says of a code.
fn explained(code: &str, sender: &str, said: &str) -> Option<Error> {
    let row = explain::find(Service::Graph, code)?;
    let text = row.text();
    Some(Error::new(
        row.kind,
        format!("sending as {sender}: {text}{said}"),
    ))
}

/// What a refusal means.
fn refusal(status: StatusCode, body: &[u8], sender: &str) -> Error {
    let (code, said) = match serde_json::from_slice::<Answer>(body) {
        Ok(Answer { error }) => (first_sentence(&error.code), first_sentence(&error.message)),
        Err(_) => (String::new(), String::new()),
    };
    let number = status.as_u16();
    let said = match (code.is_empty(), said.is_empty()) {
        (true, _) => format!(" (HTTP {number})"),
        (false, true) => format!(" (HTTP {number} {code})"),
        (false, false) => format!(" (HTTP {number} {code}: {said})"),
    };
    // Microsoft's words for a status differ; what it means here does not.
    let known = match number {
        401 => Some("InvalidAuthenticationToken"),
        403 => Some(NO_PERMISSION),
        404 => Some("ErrorInvalidUser"),
        413 => Some("RequestEntityTooLarge"),
        _ => None,
    };
    let explained = known.and_then(|code| explained(code, sender, &said));
    let error = explained.unwrap_or_else(|| match number {
        429 => Error::throttled(format!("asks to slow down{said}")),
        400..=499 if number != 408 => Error::config(format!("does not take the mail{said}")),
        _ => Error::unavailable(format!("failed{said}")),
    });
    if code.is_empty() {
        error.with_code(format!("HTTP {number}"))
    } else {
        error.with_code(code)
    }
}
