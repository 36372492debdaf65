//! `syslog`: RFC 5424 over TCP or TLS, each message with its length before it (RFC 6587, RFC 5425).
//!
//! Syslog has no acknowledgement: what TCP has taken may never be read. The most that TCP can tell is that the peer has
//! read to the end and closed. So each delivery is a connection of its own: all its messages, then the end of our
//! side, then the wait for the end of the peer's, which comes once it has read everything. A connection that the peer
//! ends before, or resets, has delivered nothing, and all of it comes again.
//!
//! What the peer does with messages that it has read, nobody can know; and a connection that it ends in the moment
//! in which ours ends cannot be told from one that it has read.
//!
//! A process that is killed after its system took the bytes loses them, and its system closes the connection all the
//! same. Only TLS shows that, by the `close_notify` that is not there; but rsyslog's driver gtls, and others, never
//! send one (RFC 5425 4.4 demands it). So after an end without one, an empty connection tells whether that is usual.

mod config;
mod connection;
mod message;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use audit_exporter_core::plugin::{Batch, Context, Delivered, Finding, Rejected, Sink};
use audit_exporter_core::{Result, error::ResultExt as _};

use super::per_tenant::PerTenant;
use config::Settings;
use connection::{CloseNotify, End};

/// How much is encoded before it is written.
const PIECE_BYTES: usize = 256 << 10;

struct Syslog {
    servers: PerTenant<Settings>,
}

/// Builds a `syslog` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    let read = |options: &_, _: &str, _: &str| config::read(options);
    let servers = PerTenant::new(context.options, &context.tenants, read)?;
    Ok(Box::new(Syslog { servers }))
}

#[async_trait]
impl Sink for Syslog {
    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let mut delivered = Delivered::default();
        let Some(first) = batch.events.first() else {
            return Ok(delivered);
        };
        let origin = first.origin();
        let server = self.servers.of(&origin.tenant_name, &origin.tenant)?;
        let sent = async {
            let mut connection = server.peer.connect().await?;
            let mut piece = Vec::new();
            for (index, event) in batch.events.iter().enumerate() {
                if let Err(reason) = server.layout.write(event, &mut piece) {
                    delivered.rejected.push(Rejected { index, reason });
                }
                if piece.len() >= PIECE_BYTES {
                    connection.write(&piece).await?;
                    piece.clear();
                }
            }
            connection.write(&piece).await?;
            server.peer.confirm(connection).await
        };
        sent.await.context(&server.peer.address)?;
        Ok(delivered)
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for server in self.servers.all() {
            let tried = async { server.peer.connect().await?.end().await };
            let address = &server.peer.address;
            let ended = tried.await;
            let cut_off = matches!(ended, Ok(End::CutOff));
            let finding = match (ended, server.peer.close_notify) {
                (Ok(End::CutOff), CloseNotify::Required) => Finding::problem(format!(
                    "{address} ends connections without TLS's close_notify, so that no delivery counts; set \
                     close_notify = \"detect\", or change the server"
                )),
                (Ok(_), _) => Finding::ok(format!("{address} takes connections")),
                (Err(error), _) => Finding::problem(error.context(address).to_string()),
            };
            let unsure = cut_off && server.peer.close_notify == CloseNotify::Detect;
            let unsure = unsure.then(|| {
                Finding::warning(format!(
                    "{address} ends connections without TLS's close_notify: if it is killed, what it has read and not \
                     yet written may be lost unseen"
                ))
            });
            let clear = (!server.peer.is_private()).then(|| {
                Finding::warning(format!(
                    "{address}: without tls the events travel in clear text"
                ))
            });
            // Tenants may share a destination.
            for finding in [Some(finding), unsure, clear].into_iter().flatten() {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }
}
