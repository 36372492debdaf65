//! A Microsoft 365 tenant, or many, on the loopback interface: behind the demo, the tests and the
//! benchmarks.
//!
//! One HTTP server plays Microsoft Entra's token endpoint (`/{tenant}/oauth2/token`,
//! `/{tenant}/oauth2/v2.0/token`), the Management Activity API
//! (`/api/v1.0/{tenant}/activity/feed/…`), Graph's `sendMail`
//! (`/v1.0/users/{mailbox}/sendMail`) and audit log queries
//! (`/v1.0/security/auditLog/queries/…`, `/beta/…`), Search-UnifiedAuditLog by Exchange Online
//! (`/adminapi/beta/{tenant}/InvokeCommand`) and by the older REST service
//! (`/psws/service.svc/UnifiedAuditLog`), the endpoints of managed identities
//! (`/metadata/identity/oauth2/token` and App Service's `/msi/token`), a key vault
//! (`/secrets/{name}`), and a Splunk HTTP Event Collector to deliver to
//! (`/services/collector/…`), to the letter of the protocol references, with whatever faults the
//! [`Config`] asks for. It knows the protocols and nothing of this product, so that the
//! two can be wrong independently.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use audit_exporter_simulator::{Config, Faults, Simulator};
//!
//! let simulator = Simulator::start(Config { faults: Faults::all(7), ..Config::default() }).await?;
//! println!("authority and API at {}", simulator.url());
//! let truth = simulator.ledger().count();
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - The records are a function of the seed and of `Config::anchor`; [`Ledger`] names every one of
//!   them, in every blob, with its hash, and is never derived from what was served.
//! - Memory holds the blobs' names and up to `cache_bytes` of compressed bodies, however many
//!   records there are.
//! - Faults are drawn for a resource and an attempt, so that a run can be repeated; see [`Faults`].
//!
//! # Controls over HTTP
//!
//! | request | does |
//! | --- | --- |
//! | `GET /ledger` | the ledger as NDJSON, one [`Entry`] a line |
//! | `GET /stats` | [`Stats`] as JSON |
//! | `GET /mails` | the messages that were sent, a list of [`SentMail`] |
//! | `GET /control/faults` | the faults |
//! | `POST /control/faults` | `Faults`: what is left out is off |
//! | `POST /control/blobs` | `{tenant, blob: ExplicitBlob}`: adds a blob now |
//! | `POST /control/events` | `{tenant, generated: Generated}`: makes up more events now |
//! | `POST /control/redeliver` | `{content_id}`: the blob again, under a new id |
//! | `POST /control/expire` | `{content_id}` |
//! | `POST /control/script` | `{content_id, script: {failure, times}}`, or without `script` |
//! | `POST /control/audit` | `{tenant, on}` |
//! | `POST /control/limit` | `{tenant, requests_per_minute}`: the tenant's limit, or without a number the configured one |
//! | `POST /control/disable` | `{tenant, content_type, by_service}`: disables the subscriptions |
//! | `POST /control/federated_token` | `{credential: FederatedCredential, life_seconds}`: what an issuer outside signs |
//! | `POST /control/secret` | `VaultSecret`: a new version in the key vault |
//! | `POST /control/clock` | `{advance_seconds}` |
//! | `GET /hec/events` | what the collector has indexed, as NDJSON, one [`HecEvent`] a line |
//! | `POST /control/hec` | `{failures: [HecFailure]}`: how its next requests fail |
//! | `POST /control/hec_restart` | `{}`: it forgets its channels, as a restart does |

#![forbid(unsafe_code)]

mod answer;
mod api;
mod assertion;
mod attempts;
mod blobs;
mod catalogue;
mod chance;
mod clock;
mod config;
mod connection;
mod content_type;
mod control;
mod faults;
mod folder;
mod generate;
mod graph_audit;
mod graph_mail;
mod hec;
mod identity;
mod jwt;
mod ledger;
mod listing;
mod names;
mod recipe;
mod search;
mod server;
mod state;
mod stats;
mod subscriptions;
mod token;
mod vault;
mod webhook;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

pub use crate::{
    assertion::FederatedCredential,
    config::{
        AppConfig, Config, ExplicitBlob, Folder, Generated, HeaderCase, LongWindow, Records,
        TenantConfig,
    },
    content_type::ContentType,
    control::Control,
    faults::{AnswerFaults, Failure, Faults, PageFaults, RecordFaults, Script, TokenFaults},
    graph_audit::{GraphAuditConfig, GraphAuditFaults},
    graph_mail::SentMail,
    hec::{HecConfig, HecEvent, HecFailure, HecFaults, HecToken},
    identity::ManagedIdentity,
    ledger::{Entry, Ledger, Position},
    search::{AfterTheEnd, AuditReader, ResultCount, SearchConfig, SearchFaults},
    stats::Stats,
    vault::{VaultConfig, VaultSecret},
};
use crate::{
    connection::{Line, Lines},
    state::State,
};

/// How long [`Simulator::stop`] lets answers in flight finish.
const GRACE: Duration = Duration::from_millis(500);

/// A running simulator. It stops when dropped, or in good order with [`Simulator::stop`].
pub struct Simulator {
    state: Arc<State>,
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Simulator {
    /// Makes the tenants and starts to serve them.
    ///
    /// Fails if the address is taken, a tenant's id is not a GUID, or a folder cannot be read.
    pub async fn start(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let foreign = TcpListener::bind((config.listen.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}");
        // Another name for the same machine: a client that compares only host names must see it.
        let foreign_url = format!("http://localhost:{}", foreign.local_addr()?.port());
        let next_page = config.next_page_header;
        let prepare = config.prepare;
        let state = tokio::task::spawn_blocking(move || {
            let state = State::new(config, url, foreign_url)?;
            if prepare {
                state::prepare(&state);
            }
            Ok::<_, io::Error>(Arc::new(state))
        })
        .await
        .map_err(io::Error::other)??;
        let (stopping, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let routes = server::routes(Arc::clone(&state));
        let lines = Lines {
            listener,
            next_page,
        };
        let service = routes.into_make_service_with_connect_info::<Line>();
        let ended = stopped(stop.clone());
        tasks.spawn(async move {
            log(axum::serve(lines, service)
                .with_graceful_shutdown(ended)
                .await);
        });
        let routes = server::foreign_routes(Arc::clone(&state));
        let ended = stopped(stop.clone());
        tasks.spawn(async move {
            log(axum::serve(foreign, routes)
                .with_graceful_shutdown(ended)
                .await);
        });
        let notifier = webhook::notify(Arc::clone(&state));
        tasks.spawn(async move {
            tokio::select! {
                () = notifier => {}
                () = stopped(stop) => {}
            }
        });
        tracing::info!(%address, "the simulator is ready");
        Ok(Self {
            state,
            address,
            stopping,
            tasks,
        })
    }

    /// Address of the token endpoint, the API and the controls, such as `http://127.0.0.1:40123`.
    /// It is also an audience that the API accepts.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The foreign host, for redirects and poisoned `contentUri`s.
    #[must_use]
    pub fn foreign_url(&self) -> &str {
        &self.state.foreign_url
    }

    /// Every record in every blob.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Ledger::new(&self.state)
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats::take(&self.state)
    }

    /// The messages that were sent by Graph, in their order.
    #[must_use]
    pub fn mails(&self) -> Vec<SentMail> {
        state::lock(&self.state.mails).clone()
    }

    /// What the HTTP Event Collector has indexed so far.
    #[must_use]
    pub fn hec_events(&self) -> Vec<HecEvent> {
        self.state.hec.events()
    }

    /// A handle for changing things.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.state))
    }

    /// Stops listening at once, lets answers in flight finish for half a second, and returns.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(GRACE, rest).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the simulator is gone, which is a stop as well.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the simulator was dropped");
    }
}

fn log(result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "the server ended");
    }
}
