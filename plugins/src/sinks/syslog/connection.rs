//! One connection, from its begin to its confirmed end.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::{Error, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::http::is_loopback;
use crate::sinks::trust::Trust;

/// Longest time to connect, TLS included.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest time that the peer may stand still, and that it may take to read the rest and close.
const SILENCE: Duration = Duration::from_mins(1);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where messages go.
pub(super) struct Peer {
    /// Host and port.
    pub(super) address: String,
    pub(super) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    pub(super) trust: Trust,
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
}

impl Connection {
    /// Writes all of `bytes`.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        in_time(SILENCE, "the connection broke off", self.0.write_all(bytes)).await
    }

    /// Ends our side and waits for the end of the peer's: then it has read everything.
    pub(super) async fn end(mut self) -> Result<()> {
        let broke = "the connection broke off";
        in_time(SILENCE, broke, self.0.flush()).await?;
        if self.has_ended().await? {
            return Err(Error::unavailable(
                "it closed the connection before the end of the events",
            ));
        }
        match timeout(SILENCE, self.0.shutdown()).await {
            Ok(Err(error)) => return Err(Error::unavailable(broke).with_cause(error)),
            Err(_) => return Err(silent()),
            Ok(Ok(())) => {}
        }
        let mut said = [0; 512];
        loop {
            match timeout(SILENCE, self.0.read(&mut said)).await {
                Ok(Ok(0)) => return Ok(()),
                // Many do not say good-bye in TLS.
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                // What it says has no meaning in syslog.
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return Err(Error::unavailable(
                        "it reset the connection, so some events may be lost; all are sent again",
                    )
                    .with_cause(error));
                }
                Err(_) => return Err(silent()),
            }
        }
    }

    /// Whether the peer has closed its side already.
    async fn has_ended(&mut self) -> Result<bool> {
        let mut said = [0; 512];
        let read = self.0.read(&mut said);
        tokio::select! {
            biased;
            read = read => match read {
                Ok(count) => Ok(count == 0),
                Err(error) => Err(Error::unavailable("the connection broke off").with_cause(error)),
            },
            () = std::future::ready(()) => Ok(false),
        }
    }
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
