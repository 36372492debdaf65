//! One connection, from its begin to its confirmed end.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::{Error, Kind, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::http::is_loopback;
use crate::http::text::first_sentence;
use crate::sinks::trust::Trust;

/// Longest time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest time that the peer may stand still, and that it may take to read the rest and close.
const SILENCE: Duration = Duration::from_mins(1);
const BROKE: &str = "the connection broke off";
/// What the end of a peer looks like that was killed: the system closes its connections, and cannot say good-bye.
const CUT_OFF: &str = "it ended the connection without TLS's close_notify";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Whether a TLS connection must end with a `close_notify`. Many servers never send one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CloseNotify {
    /// If the server ends a connection with one that brought nothing.
    #[default]
    Detect,
    Required,
    Ignored,
}

/// How the peer has ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it should; without TLS there is only this.
    Whole,
    /// TLS without a `close_notify`: perhaps it was killed.
    CutOff,
}

/// Where messages go.
pub(super) struct Peer {
    /// Host and port.
    pub(super) address: String,
    pub(super) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    pub(super) trust: Trust,
    pub(super) close_notify: CloseNotify,
}

/// A connection to it.
pub(super) struct Connection(Box<dyn Stream>);

impl Peer {
    /// Whether nobody else can read along.
    pub(super) fn is_private(&self) -> bool {
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
        self.tls.is_some() || is_loopback(host)
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let connecting = async {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            Ok::<Box<dyn Stream>, std::io::Error>(match &self.tls {
                None => Box::new(stream),
                Some((name, config)) => {
                    let connector = TlsConnector::from(Arc::clone(config));
                    Box::new(connector.connect(name.clone(), stream).await?)
                }
            })
        };
        in_time(CONNECT, "cannot be reached", connecting)
            .await
            .map(Connection)
            .map_err(|error| self.trust.explain(error))
    }

    /// Ends a connection; `Ok` if the peer has read all of it, as far as its end can tell.
    pub(super) async fn confirm(&self, connection: Connection) -> Result<()> {
        let is_usual = match (connection.end().await?, self.close_notify) {
            (End::Whole, _) | (End::CutOff, CloseNotify::Ignored) => return Ok(()),
            (End::CutOff, CloseNotify::Required) => false,
            (End::CutOff, CloseNotify::Detect) => {
                let asking = async { self.connect().await?.end().await };
                let usual = asking.await.map_err(|error| {
                    error.context(format_args!("{CUT_OFF}; asked whether it always does"))
                })?;
                usual == End::CutOff
            }
        };
        if is_usual {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "{CUT_OFF}, as one that is killed, so some events may be lost; all are sent again. If it goes on, look \
             at the server, or at close_notify in the documentation of this sink"
        )))
    }
}

impl Connection {
    /// Writes all of `bytes`.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = in_time(SILENCE, BROKE, self.0.write_all(bytes)).await;
        if written.is_err()
            && let Err(said) = self.has_ended().await
            && said.kind() == Kind::Config
        {
            // What it said before is the reason.
            return Err(said);
        }
        written
    }

    /// Ends our side and waits for the end of the peer's: then it has read everything.
    pub(super) async fn end(mut self) -> Result<End> {
        in_time(SILENCE, BROKE, self.0.flush()).await?;
        if self.has_ended().await? {
            return Err(Error::unavailable(
                "it closed the connection before the end of the events",
            ));
        }
        match timeout(SILENCE, self.0.shutdown()).await {
            Ok(Err(error)) => return Err(Error::unavailable(BROKE).with_cause(error)),
            Err(_) => return Err(silent()),
            Ok(Ok(())) => {}
        }
        let mut said = [0; 512];
        match timeout(SILENCE, self.0.read(&mut said)).await {
            Ok(Ok(0)) => Ok(End::Whole),
            Ok(Ok(count)) => Err(no_syslog(&said[..count])),
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => Ok(End::CutOff),
            Ok(Err(error)) => Err(Error::unavailable(
                "it reset the connection, so some events may be lost; all are sent again",
            )
            .with_cause(error)),
            Err(_) => Err(silent()),
        }
    }

    /// Whether the peer has closed its side already.
    async fn has_ended(&mut self) -> Result<bool> {
        let mut said = [0; 512];
        let read = self.0.read(&mut said);
        tokio::select! {
            biased;
            read = read => match read {
                Ok(0) => Ok(true),
                Ok(count) => Err(no_syslog(&said[..count])),
                Err(error) => Err(Error::unavailable(BROKE).with_cause(error)),
            },
            () = std::future::ready(()) => Ok(false),
        }
    }
}

/// A syslog server never says anything. What does may close as politely as one, and keep nothing.
fn no_syslog(said: &[u8]) -> Error {
    let words = match first_sentence(&String::from_utf8_lossy(said)) {
        words if words.is_empty() => "bytes that are no text".to_owned(),
        words => format!("\"{words}\""),
    };
    Error::config(format!(
        "it answers {words}, and a syslog server says nothing; check address and tls"
    ))
}

fn silent() -> Error {
    Error::unavailable(format!(
        "it has not read all events and closed the connection within {} s",
        SILENCE.as_secs()
    ))
}

async fn in_time<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = std::io::Result<T>>,
) -> Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| Error::unavailable(what).with_cause(error)),
        Err(_) => Err(Error::unavailable(format!(
            "{what}: nothing happened within {} s",
            limit.as_secs()
        ))),
    }
}
