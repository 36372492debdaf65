//! Exchange Online's `InvokeCommand`, which is what Exchange Online PowerShell itself asks (reference:
//! search-unified-audit-log.md, B).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::plugin::Context;
use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::Url;
use uuid::Uuid;

use super::client::Query;
use super::{page, refusal};
use crate::http::body::read_capped;
use crate::http::headers;
use crate::microsoft::cloud::Access;
use crate::microsoft::explain::AUDITING_IS_OFF;
use crate::microsoft::http::{Api, Call};
use crate::sources::patience::LONGEST_WAIT;

/// The largest page that is read. A page that is larger is asked for in smaller ones.
const PAGE_CAP: usize = 32 * 1024 * 1024;
/// The mailbox that a request without a user is routed by.
const ANCHOR: &str = "UPN:SystemMailbox{bb558c35-97f1-4cb9-8ff7-d53741dc928c}";

/// One tenant's Exchange Online.
pub(super) struct Exchange {
    api: Api,
    access: Arc<Access>,
    clock: Clock,
    high_completeness: bool,
    /// One for all requests of this client.
    connection: String,
    /// The limit was used up: nothing is asked before this.
    rests_until: Mutex<Option<Instant>>,
}

/// A row of `Get-AdminAuditLogConfig`.
#[derive(Deserialize)]
struct AuditConfig {
    #[serde(rename = "UnifiedAuditLogIngestionEnabled")]
    is_on: Option<bool>,
}

#[derive(Deserialize)]
struct AuditConfigs<'b> {
    #[serde(default)]
    value: Vec<AuditConfig>,
    #[serde(borrow, default)]
    error: Option<&'b RawValue>,
}

impl Exchange {
    /// A client for the tenant of `access`.
    pub(super) fn new(
        context: &Context,
        access: Arc<Access>,
        high_completeness: bool,
        requests_per_minute: u32,
    ) -> Self {
        let there = (&access.exchange_api, &*access.exchange_audience);
        let api = Api::of(context, &access, there, requests_per_minute);
        Self {
            api: api.judged_by(refusal::of_exchange),
            access,
            clock: context.clock.clone(),
            high_completeness,
            connection: Uuid::new_v4().to_string(),
            rests_until: Mutex::default(),
        }
    }

    /// The HTTP layer below.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// How the tenant is read.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// One page of a session.
    pub(super) async fn search(&self, query: Query<'_>) -> Result<Bytes> {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut parameters = json!({
            "StartDate": time(query.window.from),
            "EndDate": time(query.window.to),
            "ResultSize": query.size,
            "SessionId": query.session,
            "SessionCommand": "ReturnLargeSet",
        });
        for (name, names) in [("Operations", query.operations), ("UserIds", query.users)] {
            if !names.is_empty() {
                parameters[name] = json!(names);
            }
        }
        if self.high_completeness {
            parameters["HighCompleteness"] = json!(true);
        }
        self.invoke("search", "Search-UnifiedAuditLog", &parameters, query.size)
            .await
    }

    /// Whether unified auditing is on, if the app may ask.
    pub(super) async fn is_auditing(&self) -> Result<Option<bool>> {
        let answer = self
            .invoke("probe", "Get-AdminAuditLogConfig", &json!({}), 1)
            .await;
        let body = match answer {
            Err(error) if error.code() == Some(refusal::NO_SUCH_CMDLET) => return Ok(None),
            answer => answer?,
        };
        let configs: AuditConfigs<'_> = serde_json::from_slice(&body).map_err(|error| {
            Error::unavailable("the answer to Get-AdminAuditLogConfig is not understood")
                .with_cause(error)
        })?;
        if let Some(error) = configs.error {
            return Err(page::failed(error));
        }
        Ok(configs.value.first().and_then(|config| config.is_on))
    }

    /// Fails if the app is refused, or auditing is off. The first thing that is asked, so it also settles the time.
    pub(super) async fn probe(&self) -> Result<()> {
        let mut is_on = self.is_auditing().await?;
        if self.api.doubts_the_time() {
            is_on = self.is_auditing().await?;
        }
        match is_on {
            Some(false) => Err(Error::auth(AUDITING_IS_OFF.text())),
            Some(true) | None => Ok(()),
        }
    }

    async fn invoke(
        &self,
        operation: &'static str,
        cmdlet: &'static str,
        parameters: &Value,
        size: usize,
    ) -> Result<Bytes> {
        sleep(self.rest()).await;
        let input = json!({"CmdletInput": {"CmdletName": cmdlet, "Parameters": parameters}});
        let headers = self.headers(cmdlet, size)?;
        let call = input.to_string();
        let call = Call::PostJson(&call, &headers);
        let answer = self.api.send(operation, call, self.url()).await?;
        if let Some(wait) = headers::rate_limit_wait(answer.headers(), self.clock.now()) {
            *self
                .rests_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner) =
                Some(Instant::now() + wait.min(LONGEST_WAIT));
        }
        read_capped(answer, PAGE_CAP).await
    }

    /// How long it is to the next of the service's minutes, if the last answer used this one up.
    pub(super) fn rest(&self) -> Duration {
        let until = *self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    fn url(&self) -> Url {
        let mut url = self.access.exchange_api.clone();
        url.set_path(&format!(
            "adminapi/beta/{}/InvokeCommand",
            self.access.tenant
        ));
        url
    }

    fn headers(&self, cmdlet: &'static str, size: usize) -> Result<HeaderMap> {
        let (tenant, request) = (&self.access.tenant, Uuid::new_v4().to_string());
        let named = [
            ("x-cmdletname", cmdlet.to_owned()),
            ("x-anchormailbox", format!("{ANCHOR}@{tenant}")),
            ("prefer", format!("odata.maxpagesize={size}")),
            ("connection-id", self.connection.clone()),
            ("client-request-id", request),
        ];
        named
            .into_iter()
            .map(|(name, value)| {
                let value = HeaderValue::try_from(value)
                    .map_err(|error| Error::bug("a header is not text").with_cause(error))?;
                Ok((HeaderName::from_static(name), value))
            })
            .collect()
    }
}
