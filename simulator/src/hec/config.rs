//! What the HTTP Event Collector accepts, and how it fails.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// The collector's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HecConfig {
    /// The tokens that it knows.
    pub tokens: Vec<HecToken>,
    /// Requests with more bytes get 413.
    pub max_content_length: usize,
    /// How long after a request its events are acknowledged.
    pub acknowledged_after_millis: u64,
    /// Events that hold this text are refused with code 6.
    pub refuses: Option<String>,
    /// Keep what was indexed, to be read back. Without it only the number is kept, for benchmarks.
    pub keep: bool,
}

impl Default for HecConfig {
    fn default() -> Self {
        Self {
            tokens: vec![HecToken::default()],
            max_content_length: 838_860_800,
            acknowledged_after_millis: 100,
            refuses: None,
            keep: true,
        }
    }
}

/// One token.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HecToken {
    /// The token itself.
    pub token: String,
    /// Whether it is disabled.
    pub disabled: bool,
    /// The indexes that it may write; the first is its own.
    pub indexes: Vec<String>,
    /// Whether the indexers acknowledge its requests.
    pub acknowledgement: bool,
}

impl Default for HecToken {
    fn default() -> Self {
        Self {
            token: "5a8e0c4d-9b61-4c8e-8a1d-7f3c9a521d0b".to_owned(),
            disabled: false,
            indexes: vec!["main".to_owned()],
            acknowledgement: false,
        }
    }
}

/// One way for a request with events to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HecFailure {
    /// 500, code 8.
    InternalError,
    /// 503, code 9.
    Busy,
    /// 503, code 23.
    ShuttingDown,
    /// 200, code 24: taken.
    NearlyFull,
    /// 429, code 26.
    Full,
    /// 429, code 27.
    AckChannelFull,
    /// 502 with a proxy's page.
    BadGateway,
    /// 200 with a proxy's page: nothing is taken.
    Welcome,
    /// 413 with a page.
    TooLarge,
    /// Everything is taken, and the connection reset before the answer is whole.
    LostAnswer,
    /// Taken, and never acknowledged.
    LostAcknowledgement,
}

/// Faults of requests with events, as probabilities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HecFaults {
    /// See [`HecFailure::InternalError`].
    pub internal_error: f64,
    /// See [`HecFailure::Busy`].
    pub busy: f64,
    /// See [`HecFailure::ShuttingDown`].
    pub shutting_down: f64,
    /// See [`HecFailure::NearlyFull`].
    pub nearly_full: f64,
    /// See [`HecFailure::Full`].
    pub full: f64,
    /// See [`HecFailure::AckChannelFull`].
    pub ack_channel_full: f64,
    /// See [`HecFailure::BadGateway`].
    pub bad_gateway: f64,
    /// See [`HecFailure::Welcome`].
    pub welcome: f64,
    /// See [`HecFailure::TooLarge`].
    pub too_large: f64,
    /// See [`HecFailure::LostAnswer`].
    pub lost_answer: f64,
    /// See [`HecFailure::LostAcknowledgement`].
    pub lost_acknowledgement: f64,
}

impl HecFaults {
    /// Faults that repeat events or make their sender wait, at a few percent each.
    #[must_use]
    pub fn all() -> Self {
        Self {
            internal_error: 0.03,
            busy: 0.03,
            shutting_down: 0.03,
            nearly_full: 0.01,
            full: 0.03,
            ack_channel_full: 0.03,
            bad_gateway: 0.03,
            welcome: 0.03,
            // It would refuse single events for good.
            too_large: 0.0,
            lost_answer: 0.03,
            // A client can only wait for it; ask for it where that is the test.
            lost_acknowledgement: 0.0,
        }
    }

    /// Draws how a request fails, if it does.
    pub(crate) fn draw(&self, chance: &mut Chance) -> Option<HecFailure> {
        let share = chance.unit();
        let mut reached = 0.0;
        let choices = [
            (self.internal_error, HecFailure::InternalError),
            (self.busy, HecFailure::Busy),
            (self.shutting_down, HecFailure::ShuttingDown),
            (self.nearly_full, HecFailure::NearlyFull),
            (self.full, HecFailure::Full),
            (self.ack_channel_full, HecFailure::AckChannelFull),
            (self.bad_gateway, HecFailure::BadGateway),
            (self.welcome, HecFailure::Welcome),
            (self.too_large, HecFailure::TooLarge),
            (self.lost_answer, HecFailure::LostAnswer),
            (self.lost_acknowledgement, HecFailure::LostAcknowledgement),
        ];
        choices.into_iter().find_map(|(probability, failure)| {
            reached += probability;
            (share < reached).then_some(failure)
        })
    }
}
