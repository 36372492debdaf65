//! What became of the records that librdkafka has been given.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use audit_exporter_core::printable;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::Notify;

use super::oauth::Tokens;

/// Whoever waits for room in the queue is woken after so many reports.
const WAKE_EVERY: usize = 64;

/// The reports of one client's deliveries, and its troubles. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reports(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    tokens: Option<Tokens>,
}

#[derive(Default)]
struct State {
    /// Records without a report.
    open: usize,
    /// The records that were not delivered, by index.
    failed: Vec<(usize, RDKafkaErrorCode)>,
    trouble: Option<Trouble>,
}

/// What librdkafka says about its connections, apart from records.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) code: RDKafkaErrorCode,
    pub(super) reason: String,
}

impl Reports {
    /// Those of a client that shows tokens to the brokers.
    pub(super) fn with_tokens(tokens: Tokens) -> Self {
        Self(Arc::new(Shared {
            tokens: Some(tokens),
            ..Shared::default()
        }))
    }

    /// One more record is under way.
    pub(super) fn sent(&self) {
        self.state().open += 1;
    }

    /// It was not taken after all.
    pub(super) fn not_sent(&self) {
        self.state().open -= 1;
    }

    /// The last trouble.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.state().trouble.clone()
    }

    /// Forgets the troubles that are over.
    pub(super) fn works(&self) {
        self.state().trouble = None;
    }

    /// Waits until some report has come, or trouble that does not pass by itself.
    pub(super) async fn some(&self) {
        let before = self.state().open;
        // All of them may have come before it was asked.
        self.until(|state| state.open < before || state.open == 0)
            .await;
    }

    /// Waits until every record has its report, or for trouble that does not pass by itself. Gives those that were not
    /// delivered.
    pub(super) async fn all(&self) -> Vec<(usize, RDKafkaErrorCode)> {
        self.until(|state| state.open == 0).await;
        std::mem::take(&mut self.state().failed)
    }

    /// The same, but waits no longer once one was not delivered.
    pub(super) async fn all_or_failed(&self) -> Vec<(usize, RDKafkaErrorCode)> {
        self.until(|state| state.open == 0 || !state.failed.is_empty())
            .await;
        std::mem::take(&mut self.state().failed)
    }

    /// Whether there is a record that was not delivered.
    pub(super) fn some_failed(&self) -> bool {
        !self.state().failed.is_empty()
    }

    /// Whether every record has its report.
    pub(super) fn complete(&self) -> bool {
        self.state().open == 0
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            {
                let state = self.state();
                let refused = state.trouble.as_ref().is_some_and(Trouble::stays);
                if done(&state) || refused {
                    return;
                }
            }
            changed.await;
        }
    }

    fn report(&self, index: usize, failed: Option<RDKafkaErrorCode>) {
        let mut state = self.state();
        state.open = state.open.saturating_sub(1);
        state.failed.extend(failed.map(|code| (index, code)));
        if failed.is_some() || state.open.is_multiple_of(WAKE_EVERY) {
            drop(state);
            self.0.changed.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    /// Whether to wait longer is of no use: who is not let in now is not let in a minute later.
    pub(super) fn stays(&self) -> bool {
        matches!(
            self.code,
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed
        )
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> std::result::Result<OAuthToken, Box<dyn std::error::Error>> {
        match &self.0.tokens {
            Some(tokens) => Ok(tokens.get()?),
            None => Err("no token was asked for in the configuration".into()),
        }
    }

    /// The engine tells what matters, once. The rest is for those who look for it.
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{}", printable(message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        let mut state = self.state();
        // That none is reachable says less than why.
        if code == RDKafkaErrorCode::AllBrokersDown && state.trouble.is_some() {
            return;
        }
        state.trouble = Some(Trouble {
            code,
            reason: printable(reason).into_owned(),
        });
        drop(state);
        self.0.changed.notify_waiters();
    }
}

impl ConsumerContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let failed = result.as_ref().err().map(|(error, _)| {
            error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::Unknown)
        });
        self.report(index, failed);
    }
}
