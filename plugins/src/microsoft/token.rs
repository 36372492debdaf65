//! Access tokens: cached, renewed early, asked for once however many callers wait (reference: auth.md §1, §2).

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::{Kind, Result, http};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::claims::Claims;
use super::cloud::Access;
use super::credentials::{App, Issuer};
use super::key_vault::Vault;
use super::refusal::Refusal;

/// A token is renewed this long before it expires, or at four fifths of a short life.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// The life of a token whose answer does not tell it.
const UNKNOWN_LIFE: Duration = Duration::from_mins(5);
/// No token lives longer. An answer that says more is wrong, and its time must not overflow a clock.
const LONGEST_LIFE: Duration = Duration::from_hours(24);
/// Callers that waited for a token that could not be had get that answer too, instead of asking again in turn.
const REFUSAL_HOLDS: Duration = Duration::from_secs(10);
/// A token that replaced a refused one is not replaced in turn before this, so that a service that refuses every token
/// is not asked for one at each call. Short, because a good one may follow at once.
const REPLACED_AGAIN_AFTER: Duration = Duration::from_secs(20);

/// One access token.
pub(crate) struct Token {
    bearer: HeaderValue,
    claims: Option<Claims>,
    issued: Instant,
    renew_at: Instant,
    expires: Instant,
    replaced_a_refused_one: bool,
}

impl Token {
    /// The `Authorization` header. Marked as sensitive: it is never printed.
    pub(crate) fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// What the token says about itself, unless it is opaque.
    pub(crate) fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }
}

/// One tenant's tokens for one audience.
pub(crate) struct Tokens {
    issuer: Issuer,
    meter: Meter,
    current: StdMutex<Option<Arc<Token>>>,
    /// Whoever holds it asks for the next token; holds the last refusal and until when it is repeated.
    asking: Mutex<Option<(Instant, Refusal)>>,
    /// A configuration that has worked once is not the cause of a refusal: it is not given up.
    issued_once: std::sync::atomic::AtomicBool,
}

impl Tokens {
    /// A tenant's tokens for `audience`.
    #[allow(clippy::needless_pass_by_value)] // A shared handle is given away.
    pub(crate) fn new(
        http: http::Client,
        access: Arc<Access>,
        audience: String,
        meter: Meter,
        clock: Clock,
    ) -> Self {
        Self::of_app(http, Arc::clone(&access.app), audience, meter, clock)
    }

    /// An app's tokens for `audience`.
    pub(crate) fn of_app(
        http: http::Client,
        app: Arc<App>,
        audience: String,
        meter: Meter,
        clock: Clock,
    ) -> Self {
        let in_vault = app.credential.vault();
        let vault =
            in_vault.map(|address| Vault::new(http.clone(), address, meter.clone(), clock.clone()));
        Self {
            issuer: Issuer::new(http, app, audience, vault, clock),
            meter,
            current: StdMutex::default(),
            asking: Mutex::default(),
            issued_once: false.into(),
        }
    }

    /// Who asks for them.
    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// A token that will not expire soon. While a renewal is under way, or fails, the present one goes on being used
    /// until it expires.
    pub(crate) async fn get(&self) -> Result<Arc<Token>> {
        let now = Instant::now();
        let current = self.current();
        if let Some(token) = current.as_ref().filter(|token| now < token.renew_at) {
            return Ok(Arc::clone(token));
        }
        if let Some(token) = current.filter(|token| now < token.expires) {
            let Ok(mut asking) = self.asking.try_lock() else {
                return Ok(token);
            };
            return Ok(self.ask(&mut asking, false).await.unwrap_or(token));
        }
        let mut asking = self.asking.lock().await;
        let now = Instant::now();
        match self.current().filter(|token| now < token.expires) {
            Some(token) => Ok(token),
            None => self.ask(&mut asking, false).await,
        }
    }

    /// A token in place of `refused`, or `None` if that one is itself such a replacement and still new.
    pub(crate) async fn replace(&self, refused: &Arc<Token>) -> Result<Option<Arc<Token>>> {
        let mut asking = self.asking.lock().await;
        if let Some(current) = self.current()
            && !Arc::ptr_eq(&current, refused)
        {
            return Ok(Some(current));
        }
        if refused.replaced_a_refused_one && refused.issued.elapsed() < REPLACED_AGAIN_AFTER {
            return Ok(None);
        }
        self.ask(&mut asking, true).await.map(Some)
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn ask(
        &self,
        asking: &mut Option<(Instant, Refusal)>,
        replaces_a_refused_one: bool,
    ) -> Result<Arc<Token>> {
        use std::sync::atomic::Ordering::Relaxed;
        if let Some((until, refusal)) = asking.as_ref()
            && Instant::now() < *until
        {
            return Err(refusal.to_error());
        }
        match self.request(replaces_a_refused_one).await {
            Ok(token) => {
                *asking = None;
                self.issued_once.store(true, Relaxed);
                self.meter.request("token", "ok");
                let token = Arc::new(token);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::clone(&token));
                Ok(token)
            }
            Err(mut refusal) => {
                if refusal.kind == Kind::Config && self.issued_once.load(Relaxed) {
                    refusal.kind = Kind::Auth;
                }
                self.meter.request("token", refusal.kind.as_str());
                let error = refusal.to_error();
                let holds = refusal.retry_after.unwrap_or(REFUSAL_HOLDS);
                *asking = Some((Instant::now() + holds, refusal));
                Err(error)
            }
        }
    }

    async fn request(&self, replaced_a_refused_one: bool) -> Result<Token, Refusal> {
        let host = self.issuer.host();
        let asked = Instant::now();
        let grant = self.issuer.ask().await?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", grant.token.expose_secret()))
            .map_err(|_| {
            Refusal::unavailable(format!("{host} issued a token that is not text"))
        })?;
        bearer.set_sensitive(true);
        let life = grant.life.unwrap_or(UNKNOWN_LIFE).min(LONGEST_LIFE);
        Ok(Token {
            bearer,
            claims: Claims::read(grant.token.expose_secret()),
            issued: asked,
            renew_at: asked + life.saturating_sub(RENEW_BEFORE.min(life / 5)),
            expires: asked + life,
            replaced_a_refused_one,
        })
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
