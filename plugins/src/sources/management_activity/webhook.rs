//! The webhook: Microsoft tells that there is content, so that it need not wait for the next poll (reference:
//! management-activity-api.md §7).
//!
//! Of a notification only the names of content types are used. They are listed as at any poll; nothing that a
//! notification names is fetched. Each content type's subscription has a webhook of its own, all with one address.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::config::{Options, Secret, same_secret};
use audit_exporter_core::http;
use audit_exporter_core::plugin::Context;
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use url::Url;

use super::config::known;
use super::listing;
use crate::microsoft::cloud::Access;

/// Says who sends it: the word that the subscription was started with.
const AUTH_ID: &str = "webhook-authid";
/// Asks whether the address is the subscriber's.
const VALIDATION: &str = "webhook-validationcode";

/// A webhook that nobody renews ends by itself.
const LIFE: TimeDelta = TimeDelta::days(14);
/// It is renewed when it has less left than this.
const RENEWED_BEFORE: TimeDelta = TimeDelta::days(7);
/// Shorter could be guessed, longer is no word.
const AUTH_ID_CHARS: std::ops::RangeInclusive<usize> = 16..=128;

/// How long the webhook's address may take to answer `check`.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// The body of a start that takes a webhook away.
pub(super) const NONE: &str = r#"{"webhook":{"address":""}}"#;

/// What `subscriptions/list` says of a webhook.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Listed {
    status: Option<String>,
    address: Option<String>,
    auth_id: Option<SecretString>,
    expiration: Option<String>,
}

impl Listed {
    /// One that cannot be read is none: it is no reason not to read the subscription.
    pub(super) fn lenient<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        let value = Value::deserialize(from)?;
        Ok(serde_json::from_value(value).unwrap_or_default())
    }

    /// Whether it leads there. Compared as addresses: a name may come back in another spelling.
    pub(super) fn leads_to(&self, address: &Url) -> bool {
        self.url().as_ref() == Some(address)
    }

    fn url(&self) -> Option<Url> {
        Url::parse(self.address()).ok()
    }

    fn address(&self) -> &str {
        self.address.as_deref().unwrap_or_default().trim()
    }
}

/// How a subscription's webhook stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it should be; until when, if that is known.
    Working(Option<DateTime<Utc>>),
    /// It should be renewed.
    Ending(DateTime<Utc>),
    /// There is none.
    Missing,
    /// It leads to another host, or to another path there.
    Elsewhere(String),
    /// Its notifications would be refused here.
    OtherAuthId,
    /// Microsoft has given up, for notifications failed.
    Disabled,
    /// Its time is over.
    Expired,
}

/// What a request to the webhook says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Microsoft asks whether the address is ours.
    Validation,
    /// There is content of these types.
    Content(BTreeSet<&'static str>),
}

/// The webhook of one source of one tenant.
pub(super) struct Webhook {
    address: Url,
    auth_id: AuthId,
    /// The auth id as it was last read: what Microsoft was told, or is told next.
    told: Mutex<Option<SecretString>>,
    /// Whether it could not be read when that was last tried.
    is_unreadable: AtomicBool,
    tenant: Arc<str>,
    client_id: Option<String>,
    http: http::Client,
}

impl Webhook {
    /// The webhook that the options ask for. A file that cannot be read is no reason not to start: it is tried again.
    pub(super) fn new(context: &Context, access: &Access, auth_id: Secret) -> Result<Self> {
        let Some(address) = context.webhook.clone() else {
            return Err(context.options.problem(
                "webhook",
                "it needs webhooks.public_url, where Microsoft reaches this program (a change there waits for the next \
                 start)",
            ));
        };
        let auth_id = AuthId {
            secret: auth_id,
            options: context.options.clone(),
        };
        let told = match auth_id.read() {
            Ok(told) => Some(told),
            Err(error) if error.kind() == Kind::Auth => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            address,
            auth_id,
            is_unreadable: AtomicBool::new(told.is_none()),
            told: Mutex::new(told),
            tenant: Arc::clone(&access.tenant),
            client_id: access.app.credential.client_id().map(str::to_owned),
            http: context.http.clone(),
        })
    }

    /// Where Microsoft sends to.
    pub(super) fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Reads the auth id anew. If it cannot be read, the one before stays.
    pub(super) fn renew_auth_id(&self) {
        match self.auth_id.read() {
            Ok(read) => {
                self.is_unreadable.store(false, Ordering::Relaxed);
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
            }
            Err(error) => {
                if !self.is_unreadable.swap(true, Ordering::Relaxed) {
                    tracing::warn!("the webhook keeps the webhook_auth_id that it has: {error}");
                }
            }
        }
    }

    fn told(&self) -> Option<SecretString> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    /// Whether a request with these headers is Microsoft's.
    pub(super) fn expects(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTH_ID).map_or(&[][..], HeaderValue::as_bytes);
        let told = self.told();
        told.is_some_and(|told| same_secret(given, told.expose_secret().as_bytes()))
    }

    /// What a request says, of this tenant and this app. `None` if it cannot be read.
    pub(super) fn read(&self, headers: &HeaderMap, body: &[u8]) -> Option<Message> {
        if let Some(code) = headers.get(VALIDATION) {
            let asked: HashMap<String, Value> = serde_json::from_slice(body).ok()?;
            let same = asked.get("validationCode")?.as_str()?.as_bytes() == code.as_bytes();
            return same.then_some(Message::Validation);
        }
        let rows: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
        let content_types = rows.into_iter().filter_map(|row| self.content_type(row));
        Some(Message::Content(content_types.collect()))
    }

    /// The content type of one row, unless it is another's: one address may be given to several apps.
    fn content_type(&self, row: &RawValue) -> Option<&'static str> {
        let fields: HashMap<String, &RawValue> = serde_json::from_str(row.get()).ok()?;
        let text =
            |name: &str| -> Option<String> { serde_json::from_str(fields.get(name)?.get()).ok() };
        let is_own =
            |name: &str, own: &str| text(name).is_none_or(|id| id.eq_ignore_ascii_case(own));
        let is_ours = is_own("tenantId", &self.tenant)
            && self
                .client_id
                .as_ref()
                .is_none_or(|own| is_own("clientId", own));
        known(&text("contentType")?).filter(|_| is_ours)
    }

    /// The body of a start that sets the webhook, or renews it.
    pub(super) fn start_body(&self, now: DateTime<Utc>) -> Result<String> {
        let Some(auth_id) = self.told() else {
            return Err(self.unreadable());
        };
        let webhook = json!({
            "address": self.address.as_str(),
            "authId": auth_id.expose_secret(),
            "expiration": (now + LIFE).to_rfc3339_opts(SecondsFormat::Secs, true),
        });
        Ok(json!({ "webhook": webhook }).to_string())
    }

    fn unreadable(&self) -> Error {
        let place = self.auth_id.secret.describe();
        Error::auth(format!("webhook_auth_id: {place} cannot be read"))
    }

    /// How the webhook of a subscription stands.
    pub(super) fn state(&self, listed: Option<&Listed>, now: DateTime<Utc>) -> State {
        let Some(listed) = listed else {
            return State::Missing;
        };
        if listed.address().is_empty() {
            return State::Missing;
        }
        if !listed.leads_to(&self.address) {
            let host = listed
                .url()
                .and_then(|there| there.host_str().map(str::to_owned));
            return State::Elsewhere(host.unwrap_or_default());
        }
        let is = |word: &str| {
            listed
                .status
                .as_deref()
                .is_some_and(|status| status.eq_ignore_ascii_case(word))
        };
        let ends = listed
            .expiration
            .as_deref()
            .and_then(|text| listing::time(text, now));
        if is("expired") || ends.is_some_and(|ends| ends <= now) {
            return State::Expired;
        }
        if is("disabled") {
            return State::Disabled;
        }
        let same = |listed: &SecretString| {
            let told = self.told();
            told.is_none_or(|told| told.expose_secret() == listed.expose_secret())
        };
        if !listed.auth_id.as_ref().is_none_or(same) {
            return State::OtherAuthId;
        }
        match ends {
            Some(ends) if ends - now < RENEWED_BEFORE => State::Ending(ends),
            ends => State::Working(ends),
        }
    }

    /// Asks the address what Microsoft asks before it takes it. Changes nothing, and tells why there is no right answer.
    pub(super) async fn probe(&self) -> Result<()> {
        let auth_id = self.told().ok_or_else(|| self.unreadable())?;
        let code = format!("{:032x}", rand::random::<u128>());
        let request = self
            .http
            .request(Method::POST, self.address.clone())
            .timeout(PROBE_TIMEOUT)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(AUTH_ID, auth_id.expose_secret())
            .header(VALIDATION, &code)
            .body(json!({ "validationCode": code }).to_string());
        let status = self.http.send(request).await?.status();
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "HTTP {} in place of 200",
            status.as_u16()
        )))
    }
}

/// Where the auth id comes from.
struct AuthId {
    secret: Secret,
    options: Options,
}

impl AuthId {
    /// Refuses a word that could be guessed, or that no header can carry.
    fn read(&self) -> Result<SecretString> {
        let read = self.secret.read()?;
        let auth_id = read.expose_secret();
        let is_visible = auth_id.bytes().all(|byte| byte.is_ascii_graphic());
        if is_visible && AUTH_ID_CHARS.contains(&auth_id.len()) {
            return Ok(read);
        }
        let expected = "16 to 128 visible ASCII characters without spaces, made at random";
        let found = format!("{} bytes", auth_id.len());
        Err(self.options.invalid("webhook_auth_id", expected, &found))
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
