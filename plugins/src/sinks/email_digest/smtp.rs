//! Mails by SMTP, step by step, so that an error says which step was refused and whose address it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use audit_exporter_core::config::{Options, Secret};
use audit_exporter_core::{Error, Result, printable};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as From, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::Mail;
use crate::http::is_loopback;
use crate::microsoft::token::Tokens;

/// How long a call waits for an exchange: less than a sink's usual timeout, so that other mails get their turn.
const EXCHANGE: Duration = Duration::from_mins(3);
/// How long a server may take for the mail itself and the answer to it: two minutes for the one, ten for the other
/// (RFC 5321 4.5.3.2). Servers that scan mails do.
const ANSWER: Duration = Duration::from_mins(12);
/// How long it may take to say good-bye.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long to connect.
const CONNECT: Duration = Duration::from_secs(20);
/// What Exchange Online's tokens for SMTP are for.
const EXCHANGE_ONLINE: &str = "https://outlook.office365.com";

/// `[sinks.NAME.smtp]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SmtpOptions {
    host: String,
    port: Option<u16>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    allow_plaintext: bool,
    ca_file: Option<PathBuf>,
    user: Option<String>,
    password: Option<Secret>,
    #[serde(default)]
    authentication: Authentication,
    token_audience: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tls {
    /// Plain at first, then encrypted; refused by us if the server does not.
    #[default]
    Starttls,
    /// Encrypted from the start.
    #[serde(rename = "tls")]
    FromTheStart,
    /// Never encrypted.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Authentication {
    /// PLAIN, or LOGIN if the server knows only that.
    #[default]
    Password,
    Plain,
    Login,
    Xoauth2,
}

/// Who we are to the server.
enum Login {
    Nobody,
    Password(String, Secret, Vec<Mechanism>),
    /// A token of the tenant's app for Exchange Online.
    Token(String, Box<Tokens>),
}

/// A mail server.
pub(super) struct Smtp {
    host: String,
    port: u16,
    tls: Tls,
    parameters: Option<TlsParameters>,
    login: Login,
    /// The mails that a server has been given and not yet answered, by `Message-ID`. Whoever waits for one may give
    /// up and come back: an answer that nobody hears would send the same mail again.
    under_way: Mutex<BTreeMap<String, JoinSet<Result<()>>>>,
}

impl SmtpOptions {
    /// What the app's token must be for, if one is needed.
    pub(super) fn needs_token(&self) -> Option<&str> {
        (self.authentication == Authentication::Xoauth2 && self.password.is_none())
            .then(|| self.token_audience.as_deref().unwrap_or(EXCHANGE_ONLINE))
    }
}

impl Smtp {
    /// Checks the options. `tokens` are for [`SmtpOptions::needs_token`].
    pub(super) fn new(
        options: &Options,
        given: SmtpOptions,
        tokens: Option<Tokens>,
    ) -> Result<Self> {
        if given.tls == Tls::None && !given.allow_plaintext && !is_loopback(&given.host) {
            return Err(options.problem(
                "smtp.tls",
                "\"none\" would send mails, and the password, in plain text to another machine; \
                 use \"starttls\" or \"tls\", or set smtp.allow_plaintext = true",
            ));
        }
        let login = match (given.user, given.password, tokens) {
            (Some(user), None, Some(tokens)) => Login::Token(user, Box::new(tokens)),
            (Some(user), Some(password), _) => {
                let mechanisms = match given.authentication {
                    Authentication::Password => vec![Mechanism::Plain, Mechanism::Login],
                    Authentication::Plain => vec![Mechanism::Plain],
                    Authentication::Login => vec![Mechanism::Login],
                    Authentication::Xoauth2 => vec![Mechanism::Xoauth2],
                };
                Login::Password(user, password, mechanisms)
            }
            (None, None, None) => Login::Nobody,
            (Some(_), None, None) => {
                return Err(options.problem("smtp.password", "is missing: there is a user"));
            }
            (None, ..) => {
                return Err(options.problem("smtp.user", "is missing: who logs in"));
            }
        };
        let port = given.port.unwrap_or(match given.tls {
            Tls::Starttls => 587,
            Tls::FromTheStart => 465,
            Tls::None => 25,
        });
        let parameters = match given.tls {
            Tls::None => None,
            Tls::Starttls | Tls::FromTheStart => {
                Some(parameters(options, &given.host, given.ca_file)?)
            }
        };
        Ok(Self {
            host: given.host,
            port,
            tls: given.tls,
            parameters,
            login,
            under_way: Mutex::default(),
        })
    }

    /// Hands a mail over. `Ok` only when the server has taken responsibility for it.
    pub(super) async fn send(&self, mail: &Mail) -> Result<()> {
        self.within(async {
            let mut under_way = self.under_way.lock().await;
            if !under_way.contains_key(&mail.id) {
                let connection = self.address(mail).await?;
                let handing = hand_over(connection, mail.bytes.clone());
                under_way.insert(mail.id.clone(), JoinSet::from_iter([handing]));
            }
            let answer = match under_way.get_mut(&mail.id) {
                Some(handing) => handing.join_next().await,
                None => None,
            };
            under_way.remove(&mail.id);
            let broken = || Err(Error::bug("handing over a mail broke off"));
            answer.and_then(Result::ok).unwrap_or_else(broken)
        })
        .await
    }

    /// Connects and says whom a mail is from and to. Broken off here, nobody has got anything.
    async fn address(&self, mail: &Mail) -> Result<AsyncSmtpConnection> {
        let mut connection = self.connect().await?;
        match address(&mut connection, mail).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                say_goodbye(connection).await;
                Err(error)
            }
        }
    }

    /// Logs in and out again.
    pub(super) async fn check(&self) -> Result<String> {
        self.within(async {
            say_goodbye(self.connect().await?).await;
            let login = match &self.login {
                Login::Nobody => "without a login".to_owned(),
                Login::Password(user, ..) | Login::Token(user, _) => format!("as {user}"),
            };
            Ok(format!("{}:{} takes mails {login}", self.host, self.port))
        })
        .await
    }

    async fn within<T>(&self, exchange: impl Future<Output = Result<T>>) -> Result<T> {
        let done = timeout(EXCHANGE, exchange).await;
        done.unwrap_or_else(|_| Err(too_slow("the exchange takes longer than", EXCHANGE)))
            .map_err(|error| error.context(format!("mail server {}:{}", self.host, self.port)))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection> {
        let step = |error| refusal("cannot be reached", None, &error);
        let hello = ClientId::default();
        let tls = self.parameters.clone();
        let at_once = tls.clone().filter(|_| self.tls == Tls::FromTheStart);
        let address = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT), &hello, at_once, None)
                .await
                .map_err(step)?;
        if let (Tls::Starttls, Some(tls)) = (self.tls, tls) {
            if !connection.can_starttls() {
                return Err(Error::config(
                    "does not offer STARTTLS, so nothing is sent to it; set smtp.tls = \"tls\" and the port for it",
                ));
            }
            connection.starttls(tls, &hello).await.map_err(step)?;
        }
        let (credentials, mechanisms) = match &self.login {
            Login::Nobody => return Ok(connection),
            Login::Password(user, password, mechanisms) => {
                let password: SecretString = password
                    .read()
                    .map_err(|error| error.context("smtp.password"))?;
                let credentials =
                    Credentials::new(user.clone(), password.expose_secret().to_owned());
                (credentials, mechanisms.clone())
            }
            Login::Token(user, tokens) => {
                let token = tokens.get().await?;
                let bearer = token.bearer().to_str().unwrap_or_default();
                let token = bearer.trim_start_matches("Bearer ").to_owned();
                (
                    Credentials::new(user.clone(), token),
                    vec![Mechanism::Xoauth2],
                )
            }
        };
        let login = connection.auth(&mechanisms, &credentials).await;
        login.map_err(|error| refusal("does not accept the login", Some(Step::Login), &error))?;
        Ok(connection)
    }
}

/// Which step of a transfer it was: the same code means different things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Login,
    Mail,
}

fn too_slow(what: &str, limit: Duration) -> Error {
    Error::unavailable(format!("{what} {} s", limit.as_secs()))
}

async fn address(connection: &mut AsyncSmtpConnection, mail: &Mail) -> Result<()> {
    let server = connection.server_info();
    let mut parameters = Vec::new();
    if server.supports_feature(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let addresses = mail.envelope.from().into_iter().chain(mail.envelope.to());
    if !addresses.map(AsRef::<str>::as_ref).all(str::is_ascii) {
        if !server.supports_feature(Extension::SmtpUtfEight) {
            return Err(Error::config(
                "does not take addresses with letters beyond ASCII (SMTPUTF8); use others",
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    let from = mail.envelope.from().cloned();
    let sender = from.as_ref().map_or_else(String::new, ToString::to_string);
    let step = |what: String| move |error: SmtpError| refusal(&what, Some(Step::Mail), &error);
    let refused = step(format!("does not take mails from {sender}"));
    connection
        .command(From::new(from, parameters))
        .await
        .map_err(refused)?;
    for to in mail.envelope.to() {
        let refused = step(format!("does not take mails to {to}, so nobody got it"));
        connection
            .command(Rcpt::new(to.clone(), Vec::new()))
            .await
            .map_err(refused)?;
    }
    Ok(())
}

/// Hands over the mail itself.
async fn hand_over(mut connection: AsyncSmtpConnection, mail: Vec<u8>) -> Result<()> {
    let refused = |error: SmtpError| {
        let what = format!("does not take the mail, of {} bytes", mail.len());
        refusal(&what, Some(Step::Mail), &error)
    };
    let handing = async {
        connection.command(Data).await.map_err(refused)?;
        connection.message(&mail).await.map_err(refused)
    };
    let Ok(answer) = timeout(ANSWER, handing).await else {
        let what =
            "has been given the mail and not said whether it takes it; it is sent again after";
        return Err(too_slow(what, ANSWER));
    };
    say_goodbye(connection).await;
    answer.map(drop)
}

/// The mail is theirs, or refused: nothing depends on how they say good-bye.
async fn say_goodbye(mut connection: AsyncSmtpConnection) {
    drop(timeout(GOODBYE, connection.quit()).await);
}

/// What a failed step means: the server's own code and words, and what the engine does next.
fn refusal(what: &str, step: Option<Step>, error: &SmtpError) -> Error {
    let said =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let said = printable(said.trim()).replace('\n', " ");
    let Some(code) = error.status() else {
        let message = format!("{what}: {said}");
        return if error.is_client() {
            Error::config(message)
        } else {
            Error::unavailable(message)
        };
    };
    let code = code.to_string();
    let message = format!("{what}: {code} {said}");
    let slower = ["too many", "throttl", "rate limit", "quota", "concurrent"];
    let lower = said.to_ascii_lowercase();
    let kind = match code.as_str() {
        _ if error.is_transient() && slower.iter().any(|word| lower.contains(word)) => {
            Error::throttled
        }
        _ if error.is_transient() => Error::unavailable,
        "530" | "534" | "535" | "538" => Error::auth,
        _ if step == Some(Step::Login) => Error::auth,
        _ if step.is_some() => Error::config,
        _ => Error::unavailable,
    };
    kind(message).with_code(code)
}

fn parameters(options: &Options, host: &str, ca_file: Option<PathBuf>) -> Result<TlsParameters> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let path = options.resolve_path(&path);
        let unreadable = |error: &dyn std::fmt::Display| {
            options.problem(
                "smtp.ca_file",
                &format!("{} cannot be used: {error}", path.display()),
            )
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
        let end = "-----END CERTIFICATE-----";
        let certificates: Vec<&str> = text
            .split_inclusive(end)
            .filter(|part| part.contains(end))
            .collect();
        if certificates.is_empty() {
            return Err(unreadable(&"it holds no certificate in PEM"));
        }
        for certificate in certificates {
            let certificate = Certificate::from_pem(certificate.as_bytes())
                .map_err(|error| unreadable(&error))?;
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder
        .build()
        .map_err(|error| options.problem("smtp", &format!("TLS cannot be set up: {error}")))
}
