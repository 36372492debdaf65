//! Secrets and certificates kept in Azure Key Vault (reference: auth.md §7).
//!
//! Each is read anew for each token, so that what is replaced in the vault is used without a restart. While the vault
//! does not answer, what was read last goes on being used: whether it is still good is for the authority to say. Tokens
//! go only to the vault of the configuration, which lies in the cloud's own domain or at the address that
//! `key_vault.url` names.

mod reference;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Options;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::{Error, Kind, Result, http};
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use super::cloud::origin;
use super::credentials::{
    App, CertificateOptions, Credential, FederatedOptions, Given, IdentityOptions, Text,
};
use super::explain::{self, Service};
use super::token::{Token, Tokens};
use crate::http::body::{read_capped, silent};
use crate::http::headers;
use crate::http::text::first_sentence;

/// The version of the vaults' API.
const API_VERSION: &str = "7.4";
/// A secret has at most 25 KiB; a PFX in base64 fits that too.
const ANSWER_CAP: usize = 256 * 1024;
/// The whole time that reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The table `key_vault` as it stands in the configuration: where the vault is, and who reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReaderOptions {
    /// The vault's address.
    pub(crate) url: Option<String>,
    tenant: Option<String>,
    audience: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Text>,
    certificate: Option<CertificateOptions>,
    federated_token: Option<FederatedOptions>,
    managed_identity: Option<IdentityOptions>,
}

/// Who reads vaults.
#[derive(Debug)]
struct Reader {
    app: Arc<App>,
    audience: String,
}

impl Reader {
    /// The one credential of the options; without any, the machine's own identity.
    fn of(options: &Options, domain: &str, given: ReaderOptions, app: &MakeApp) -> Result<Self> {
        let mut credential = Given {
            client_id: given.client_id,
            client_secret: given.client_secret,
            certificate: given.certificate,
            federated_token: given.federated_token,
            managed_identity: given.managed_identity,
        };
        if credential.is_empty() {
            credential.managed_identity = Some(IdentityOptions::default());
        }
        let credential = Credential::of(options, "key_vault.", credential, None)?;
        let mut app = app(credential);
        if let Some(tenant) = given.tenant {
            if !audit_exporter_core::event::is_guid(tenant.trim()) {
                return Err(options.invalid("key_vault.tenant", "a tenant's GUID", &tenant));
            }
            app.tenant = tenant.trim().into();
        }
        let audience = match given.audience {
            Some(audience) => audience.trim().trim_end_matches('/').to_owned(),
            None => format!("https://{domain}"),
        };
        Ok(Self {
            app: Arc::new(app),
            audience,
        })
    }
}

type MakeApp<'a> = dyn Fn(Credential) -> App + 'a;

/// The vaults that a tenant's configuration may name.
pub(crate) struct Vaults<'a> {
    domain: &'static str,
    url: Option<Url>,
    reader: Option<Arc<Reader>>,
    app: &'a MakeApp<'a>,
}

impl<'a> Vaults<'a> {
    /// Those of the cloud whose vaults are in `domain`, and the one that the table `key_vault` names, read by what `app`
    /// makes of the table's credential.
    pub(crate) fn of(
        options: &Options,
        domain: &'static str,
        given: Option<ReaderOptions>,
        app: &'a MakeApp<'a>,
    ) -> Result<Self> {
        let url = given.as_ref().and_then(|given| given.url.as_deref());
        let url = url
            .map(|url| origin(options, "key_vault.url", url))
            .transpose()?;
        let reader = given.map(|given| Reader::of(options, domain, given, app));
        Ok(Self {
            domain,
            url,
            reader: reader.transpose()?.map(Arc::new),
            app,
        })
    }

    /// What the text at `key` names: a name in the table's vault, an address, or a reference of App Service's kind.
    pub(crate) fn address(&self, options: &Options, key: &str, text: &str) -> Result<Address> {
        let url = reference::url(text, self.domain, self.url.as_ref())
            .map_err(|problem| options.problem(key, &problem))?;
        let reader = match &self.reader {
            Some(reader) => Arc::clone(reader),
            None => Arc::new(Reader::of(
                options,
                self.domain,
                ReaderOptions::default(),
                self.app,
            )?),
        };
        Ok(Address { url, reader })
    }
}

/// One secret in one vault, and who reads it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    url: Url,
    reader: Arc<Reader>,
}

/// Reads one secret.
pub(crate) struct Vault {
    http: http::Client,
    address: Address,
    tokens: Tokens,
    meter: Meter,
    clock: Clock,
    last: Mutex<Option<SecretString>>,
}

impl Vault {
    /// Reads what is at `address`.
    pub(crate) fn new(http: http::Client, address: &Address, meter: Meter, clock: Clock) -> Self {
        let Reader { app, audience } = &*address.reader;
        Self {
            tokens: Tokens::of_app(
                http.clone(),
                Arc::clone(app),
                audience.clone(),
                meter.clone(),
                clock.clone(),
            ),
            http,
            address: address.clone(),
            meter,
            clock,
            last: Mutex::default(),
        }
    }

    /// The secret's name and its vault's, for messages.
    pub(crate) fn place(&self) -> String {
        let url = &self.address.url;
        let path = url.path().trim_start_matches("/secrets/");
        format!("{path} in key vault {}", url.authority())
    }

    /// What the vault holds at this moment, or held when it last answered. Boxed, because a vault's own tokens are asked
    /// for in the same way.
    pub(crate) fn read(&self) -> Pin<Box<dyn Future<Output = Result<SecretString>> + Send + '_>> {
        Box::pin(async move {
            let read = timeout(READ_TIMEOUT, self.read_now()).await;
            let read = read.unwrap_or_else(|_| Err(silent("did not answer", READ_TIMEOUT)));
            let outcome = read
                .as_ref()
                .map_or_else(|error| error.kind().as_str(), |_| "ok");
            self.meter.request("key_vault", outcome);
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            match (read, last.clone()) {
                (Ok(value), _) => {
                    *last = Some(value.clone());
                    Ok(value)
                }
                (Err(error), Some(known))
                    if matches!(error.kind(), Kind::Unavailable | Kind::Throttled) =>
                {
                    let place = self.place();
                    tracing::warn!(%error, "{place} cannot be read; what it held last is used");
                    Ok(known)
                }
                (Err(error), _) => Err(error.context(self.place())),
            }
        })
    }

    async fn read_now(&self) -> Result<SecretString> {
        let token = self.tokens.get().await?;
        let (status, error) = match self.once(&token).await? {
            Ok(value) => return Ok(value),
            Err(refused) => refused,
        };
        if status != StatusCode::UNAUTHORIZED {
            return Err(error);
        }
        match self.tokens.replace(&token).await? {
            Some(fresh) => self.once(&fresh).await?.map_err(|(_, error)| error),
            None => Err(error),
        }
    }

    /// One request: the secret, or the refusal with its status.
    async fn once(&self, token: &Token) -> Result<Result<SecretString, (StatusCode, Error)>> {
        let mut url = self.address.url.clone();
        url.query_pairs_mut()
            .append_pair("api-version", API_VERSION);
        let request = self
            .http
            .request(Method::GET, url)
            .header(AUTHORIZATION, token.bearer());
        let response = self.http.send(request).await?;
        let status = response.status();
        let wait = headers::retry_after(response.headers(), self.clock.now());
        let body = read_capped(response, ANSWER_CAP).await?;
        if status != StatusCode::OK {
            return Ok(Err((status, refusal(status, &body).with_retry_after(wait))));
        }
        serde_json::from_slice::<Stored>(&body)
            .map(|stored| Ok(stored.value))
            .map_err(|_| Error::unavailable("it answered with something else than a secret"))
    }
}

#[derive(Deserialize)]
struct Stored {
    value: SecretString,
}

#[derive(Default, Deserialize)]
struct Refused {
    #[serde(default)]
    error: Detail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    code: String,
    message: String,
    innererror: Option<Box<Detail>>,
}

/// What a refusal means. The inner code is the one that says why.
fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let Detail {
        code,
        message,
        innererror,
    } = serde_json::from_slice::<Refused>(body)
        .unwrap_or_default()
        .error;
    let inner = innererror.map(|inner| inner.code);
    let mut codes = [inner, Some(code), Some(format!("HTTP {}", status.as_u16()))]
        .into_iter()
        .flatten();
    let known = codes.find_map(|code| Some((explain::find(Service::KeyVault, &code)?, code)));
    let said = match first_sentence(&message) {
        said if said.is_empty() => said,
        said => format!(" (\"{said}\")"),
    };
    match (known, status.as_u16()) {
        (Some((row, code)), _) => {
            Error::new(row.kind, format!("{code}: {}{said}", row.text())).with_code(code)
        }
        (None, 429) => Error::throttled(format!("too many requests to the vault{said}")),
        (None, number @ (401 | 403 | 404)) => {
            Error::auth(format!("the vault refused it, HTTP {number}{said}"))
        }
        (None, number) => Error::unavailable(format!("the vault answered HTTP {number}{said}")),
    }
}
