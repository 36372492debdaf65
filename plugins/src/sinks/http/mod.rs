//! `http`: events posted to any address that takes NDJSON or JSON arrays, such as the intake of a SIEM.
//!
//! What it promises:
//!
//! - **At least once**: a delivery is `Ok` after each request was answered with a 2xx. What was answered is not sent
//!   again when another request fails; a request whose answer did not come is.
//! - **One poisoned event stops nothing**: a refused request (400, 422) is halved until the events are found that are
//!   refused by themselves; these go to the dead letters. So does one that is too large (413) by itself.
//! - **Apart**: address and headers are a tenant's own where they differ.

mod config;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::{AuditEvent, normalized};
use audit_exporter_core::plugin::{Context, Finding, Sink};
use audit_exporter_core::{Error, Result, http};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::ExposeSecret;

use super::line::Format;
use super::post::status::{self, ANSWER_CAP};
use super::post::{
    Destination, Frame, Limits, Outcome, Packed, Posting, warn_of_clear_text, write_value,
};
use crate::http::body::read_start;
use crate::http::headers::retry_after;
use config::{Body, Settings};

/// Where one tenant's events go.
struct Intake {
    http: http::Client,
    clock: Clock,
    settings: Settings,
}

/// Builds an `http` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    let Context {
        options,
        tenants,
        http,
        clock,
        ..
    } = context;
    let read = move |options: &Options, name: &str, id: &str| {
        let settings = config::read(options, name, id)?;
        Ok(Intake {
            http: settings.trust.http(options, http.clone())?,
            clock: clock.clone(),
            settings,
        })
    };
    Ok(Box::new(Posting::new(options, &tenants, read)?))
}

impl Intake {
    fn host(&self) -> &str {
        self.settings.url.authority()
    }

    /// The headers. Secrets are read each time: their files may have been replaced.
    fn headers(&self) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, self.settings.body.content_type());
        for (name, secret) in &self.settings.headers {
            let text = secret.read()?;
            let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| {
                let place = secret.describe();
                Error::auth(format!("header {name}: {place} holds no text for a header"))
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn post(&self, body: Packed) -> Result<Response> {
        let request = self.http.request(Method::POST, self.settings.url.clone());
        let mut request = request.headers(self.headers()?).body(body.bytes);
        if let Some(encoding) = body.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        self.ask(request).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Response> {
        let answer = self.http.send(request).await;
        answer.map_err(|error| self.settings.trust.explain(error))
    }
}

#[async_trait]
impl Destination for Intake {
    fn frame(&self) -> Frame {
        self.settings.body.frame()
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn write(&self, event: &AuditEvent, body: &mut Vec<u8>) -> Result<(), String> {
        match (self.settings.body, self.settings.format) {
            (Body::Ndjson, format) => format.write(event, body),
            (Body::JsonArray, Format::Normalized) => normalized::write(event, body),
            (Body::JsonArray, Format::Raw) => write_value(event.raw(), |_| true, body)?,
        }
        Ok(())
    }

    async fn send(&self, body: Vec<u8>) -> Result<Outcome> {
        let body = self.settings.compression.pack(body).await?;
        let sent = async {
            let answer = self.post(body).await?;
            let status = answer.status();
            let wait = retry_after(answer.headers(), self.clock.now());
            // The status alone is worth telling if the rest breaks off.
            let said = read_start(answer, ANSWER_CAP).await;
            status::judge(status, &said, wait)
        };
        sent.await
            .map_err(|error: Error| error.context(self.host()))
    }

    /// No request without events means the same to every intake, so all that is tried is to reach it.
    async fn check(&self) -> Vec<Finding> {
        let host = self.host();
        if let Err(error) = self.headers() {
            return vec![Finding::problem(error.context(host).to_string())];
        }
        let request = self.http.request(Method::HEAD, self.settings.url.clone());
        let reached = match self.ask(request).await {
            Ok(_) => Finding::ok(format!(
                "{host} answers; whether it takes events, the first will show"
            )),
            Err(error) => Finding::problem(error.context(host).to_string()),
        };
        std::iter::once(reached)
            .chain(warn_of_clear_text(&self.settings.url))
            .collect()
    }
}
