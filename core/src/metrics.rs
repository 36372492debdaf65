//! Every metric series, declared once. Labels are configured names, never users or URLs.

mod families;
mod meter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    CounterVec, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder, core::Collector,
};

use crate::error::{Error, Result};
use families::{Families, counters, floats, gauges, histogram, int, ints};

pub use meter::Meter;

/// The series of one engine.
#[derive(Clone, Debug)]
pub struct Metrics {
    families: Arc<[Registry]>,
    /// The newest error of each component, by component, name and tenant.
    newest: Arc<Mutex<BTreeMap<[String; 3], String>>>,
    /// Events cut from fetched units.
    pub events_received: IntCounterVec,
    /// Bytes of these.
    pub received_bytes: IntCounterVec,
    /// Events dropped because they were journaled before.
    pub events_repeated: IntCounterVec,
    /// Bytes of these.
    pub repeated_bytes: IntCounterVec,
    /// Events whose identity was known with other bytes; they are delivered.
    pub events_variant: IntCounterVec,
    /// Records too large to be events, stored as dead letters.
    pub records_oversized: IntCounterVec,
    /// Units that a source has listed for the first time.
    pub units_listed: IntCounterVec,
    /// Units that were fetched completely.
    pub units_fetched: IntCounterVec,
    /// Units that expired or vanished before they could be fetched.
    pub units_lost: IntCounterVec,
    /// Time that a source could not list and never will.
    pub listing_gap: IntCounterVec,
    /// Units that showed up in a time that was listed before, by the pass that found them.
    pub stragglers: IntCounterVec,
    /// Events journaled from these, by the workload too.
    pub events_late: IntCounterVec,
    /// Hours of content or of events, of the last month, by their state.
    pub coverage_hours: IntGaugeVec,
    /// Time until the first content that was not listed yet cannot be listed any more.
    pub listing_expiry: GaugeVec,
    /// Whether a tenant's accounts add up, by hour and in sum.
    pub account_balanced: IntGaugeVec,
    /// Whether a workload, or all of them, is silent as it never was before.
    pub silent: IntGaugeVec,
    /// Events that a sink's filters dropped.
    pub events_filtered: IntCounterVec,
    /// Bytes of these.
    pub filtered_bytes: IntCounterVec,
    /// Events that a sink's far side has.
    pub events_delivered: IntCounterVec,
    /// Bytes of these.
    pub delivered_bytes: IntCounterVec,
    /// Events that a sink's far side refused for good.
    pub events_dead_lettered: IntCounterVec,
    /// Bytes of these.
    pub dead_lettered_bytes: IntCounterVec,
    /// Time from `CreationTime` to delivery.
    pub freshness: HistogramVec,
    /// Time of one delivery.
    pub delivery: HistogramVec,
    /// Requests to the webhook listener.
    pub webhook_requests: IntCounterVec,
    /// By how much notifications brought listings forward.
    pub webhook_lead: HistogramVec,
    /// Errors, by what the engine does about them.
    pub errors: IntCounterVec,
    /// Tries after a failure.
    pub retries: IntCounterVec,
    /// Requests to a peer.
    pub requests: IntCounterVec,
    /// Time spent waiting because a peer or our own rate limit asked for it.
    pub throttle_wait: CounterVec,
    /// When a source last listed everything, seconds since 1970.
    pub last_listing: GaugeVec,
    /// Time since a source last listed everything.
    pub listing_lag: GaugeVec,
    /// Whether a source or sink works.
    pub up: IntGaugeVec,
    /// Whether a tenant waits because the journal is full.
    pub tenant_paused: IntGaugeVec,
    /// Events that a sink has not dealt with.
    pub sink_pending: IntGaugeVec,
    /// Age of the oldest of these.
    pub sink_lag: GaugeVec,
    /// Events that a sink was moved past.
    pub sink_skipped: IntGaugeVec,
    /// Whether a sink's account balances.
    pub sink_balanced: IntGaugeVec,
    /// Units that wait to be fetched.
    pub units_pending: IntGaugeVec,
    /// Time until the first of these expires.
    pub units_expiry: GaugeVec,
    /// Bytes that the journal uses.
    pub journal_bytes: IntGauge,
    /// Bytes that it may use.
    pub journal_limit_bytes: IntGauge,
    /// Transactions that could not be written.
    pub journal_errors: IntCounter,
}

const UNIT: &[&str] = &["tenant", "source", "content_type"];
const STREAM: &[&str] = &["tenant", "source"];
const SINK: &[&str] = &["sink", "tenant"];
const COMPONENT: &[&str] = &["component", "name", "tenant"];

impl Metrics {
    /// The series, all at zero.
    pub fn new() -> Result<Self> {
        Self::build().map_err(|error| Error::bug("a metric is declared wrongly").with_cause(error))
    }

    #[allow(clippy::too_many_lines)] // one line a series
    fn build() -> prometheus::Result<Self> {
        let families = Families::default();
        let r = &families;
        let freshness = &[
            1.0,
            5.0,
            30.0,
            60.0,
            300.0,
            900.0,
            3600.0,
            4.0 * 3600.0,
            86400.0,
            604_800.0,
        ];
        let lead = &[
            1.0,
            5.0,
            15.0,
            30.0,
            60.0,
            300.0,
            900.0,
            3600.0,
            6.0 * 3600.0,
        ];
        let delivery = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0];
        let info = ints(
            r,
            "build_info",
            "The program's version, in a label.",
            &["version"],
        )?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            events_received: counters(
                r,
                "events_received_total",
                "Events cut from fetched content.",
                UNIT,
            )?,
            received_bytes: counters(
                r,
                "received_bytes_total",
                "Bytes of the events received.",
                UNIT,
            )?,
            events_repeated: counters(
                r,
                "events_repeated_total",
                "Events dropped because they were received before.",
                UNIT,
            )?,
            repeated_bytes: counters(
                r,
                "repeated_bytes_total",
                "Bytes of the records dropped because they were journaled before.",
                UNIT,
            )?,
            events_variant: counters(
                r,
                "events_variant_total",
                "Events delivered although their identity was known, with other bytes.",
                UNIT,
            )?,
            records_oversized: counters(
                r,
                "records_oversized_total",
                "Records larger than limits.record_size, stored as dead letters.",
                UNIT,
            )?,
            units_listed: counters(
                r,
                "units_listed_total",
                "Content blobs (or pages) listed for the first time.",
                UNIT,
            )?,
            units_fetched: counters(
                r,
                "units_fetched_total",
                "Content blobs (or pages) fetched completely.",
                UNIT,
            )?,
            units_lost: counters(
                r,
                "units_lost_total",
                "Content blobs (or pages) that expired or vanished before they could be fetched.",
                UNIT,
            )?,
            listing_gap: counters(
                r,
                "listing_gap_seconds_total",
                "Time that could not be listed and never will be; nobody knows what was in it.",
                UNIT,
            )?,
            stragglers: counters(
                r,
                "stragglers_total",
                "Content blobs (or pages) that showed up in a time that was listed before.",
                &["tenant", "source", "content_type", "pass"],
            )?,
            events_late: counters(
                r,
                "events_late_total",
                "Events of content that showed up late.",
                &["tenant", "source", "content_type", "pass", "workload"],
            )?,
            coverage_hours: ints(
                r,
                "coverage",
                "Hours of the last 30 days by what is known of their events.",
                &["tenant", "state"],
            )?,
            listing_expiry: gauges(
                r,
                "listing_expiry_seconds",
                "Time until the first content that was not listed yet cannot be listed any more.",
                UNIT,
            )?,
            account_balanced: ints(
                r,
                "account_balanced",
                "1 if the tenant's accounts by hour add up to those of the sinks.",
                &["tenant"],
            )?,
            silent: ints(
                r,
                "silent",
                "1 while less comes of a workload than ever in the weeks before.",
                &["tenant", "workload"],
            )?,
            events_filtered: counters(
                r,
                "events_filtered_total",
                "Events dropped by the sink's filters.",
                SINK,
            )?,
            filtered_bytes: counters(
                r,
                "filtered_bytes_total",
                "Bytes of the records dropped by the sink's filters.",
                SINK,
            )?,
            events_delivered: counters(
                r,
                "events_delivered_total",
                "Events that the destination has durably.",
                SINK,
            )?,
            delivered_bytes: counters(
                r,
                "delivered_bytes_total",
                "Bytes of the records delivered.",
                SINK,
            )?,
            events_dead_lettered: counters(
                r,
                "events_dead_lettered_total",
                "Events that the destination refused for good.",
                SINK,
            )?,
            dead_lettered_bytes: counters(
                r,
                "dead_lettered_bytes_total",
                "Bytes of the records that the destination refused for good.",
                SINK,
            )?,
            freshness: histogram(
                r,
                "freshness_seconds",
                "Time from an event's CreationTime to its delivery.",
                freshness,
                &["sink"],
            )?,
            delivery: histogram(
                r,
                "delivery_seconds",
                "Time of one delivery.",
                delivery,
                &["sink"],
            )?,
            webhook_requests: counters(
                r,
                "webhook_requests_total",
                "Requests to the webhook listener by outcome.",
                &["tenant", "source", "outcome"],
            )?,
            webhook_lead: histogram(
                r,
                "webhook_lead_seconds",
                "Time by which a notification brought a listing forward.",
                lead,
                &["source"],
            )?,
            errors: counters(
                r,
                "errors_total",
                "Errors by kind: what the engine does about them.",
                &["component", "name", "tenant", "kind"],
            )?,
            retries: counters(r, "retries_total", "Tries after a failure.", COMPONENT)?,
            requests: counters(
                r,
                "requests_total",
                "Requests to the source's service by outcome.",
                &["tenant", "source", "operation", "outcome"],
            )?,
            throttle_wait: floats(
                r,
                "throttle_wait_seconds_total",
                "Time spent waiting for rate limits.",
                STREAM,
            )?,
            last_listing: gauges(
                r,
                "last_listing_timestamp_seconds",
                "When the source last listed everything.",
                STREAM,
            )?,
            listing_lag: gauges(
                r,
                "listing_lag_seconds",
                "Time since the source last listed everything.",
                STREAM,
            )?,
            up: ints(
                r,
                "up",
                "1 if the source or sink works, 0 while it fails.",
                COMPONENT,
            )?,
            tenant_paused: ints(
                r,
                "tenant_paused",
                "1 while the journal is full and collecting the tenant waits.",
                &["tenant"],
            )?,
            sink_pending: ints(
                r,
                "sink_pending_events",
                "Events journaled that the sink has not dealt with.",
                SINK,
            )?,
            sink_lag: gauges(
                r,
                "sink_lag_seconds",
                "Age in the journal of the oldest event that the sink has not dealt with.",
                SINK,
            )?,
            sink_skipped: ints(
                r,
                "sink_skipped_events",
                "Events that the sink was moved past, for the journal was full or damaged.",
                SINK,
            )?,
            sink_balanced: ints(
                r,
                "sink_balanced",
                "1 if journaled = filtered + delivered + dead + skipped + pending.",
                SINK,
            )?,
            units_pending: ints(
                r,
                "units_pending",
                "Content blobs (or pages) that wait to be fetched.",
                UNIT,
            )?,
            units_expiry: gauges(
                r,
                "units_expiry_seconds",
                "Time until the first unfetched content blob (or page) expires.",
                UNIT,
            )?,
            journal_bytes: int(r, "journal_used_bytes", "Bytes of the journal in use.")?,
            journal_limit_bytes: int(r, "journal_limit_bytes", "Bytes that the journal may use.")?,
            journal_errors: {
                let counter = IntCounter::new(
                    "journal_errors_total",
                    "Journal transactions that could not be written.",
                )?;
                r.register(counter.clone())?;
                counter
            },
            newest: Arc::default(),
            families: families.into_registries().into(),
        })
    }

    /// All series in Prometheus' text format.
    pub fn render(&self) -> Result<String> {
        let mut out = String::new();
        for family in &*self.families {
            TextEncoder::new()
                .encode_utf8(&family.gather(), &mut out)
                .map_err(|error| Error::bug("the metrics cannot be written").with_cause(error))?;
        }
        Ok(out)
    }

    /// Counts an error of a component, and remembers it as its newest.
    pub fn error(&self, component: &str, name: &str, tenant: &str, error: &Error) {
        self.errors
            .with_label_values(&[component, name, tenant, error.kind().as_str()])
            .inc();
        let component = [component, name, tenant].map(str::to_owned);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(component, error.to_string());
    }

    /// The newest error of each source and sink that does not work: `sink archive: …`.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let down = newest.iter().filter(|([component, name, tenant], _)| {
            self.up.with_label_values(&[component, name, tenant]).get() == 0
        });
        down.map(|(component, error)| format!("{}: {error}", component.join(" ").trim_end()))
            .collect()
    }

    /// Computes the lag of every source that has listed.
    pub(crate) fn refresh_listing_lag(&self, now_seconds: f64) {
        // Those of sources that have left must not stay.
        self.listing_lag.reset();
        for (labels, listed) in series(&self.last_listing) {
            let find = |wanted: &str| {
                labels
                    .iter()
                    .find(|(name, _)| name == wanted)
                    .map_or("", |(_, value)| value.as_str())
            };
            let lag = (now_seconds - listed).max(0.0);
            self.listing_lag
                .with_label_values(&[find("tenant"), find("source")])
                .set(lag);
        }
    }

    /// How many sources have listed everything.
    pub(crate) fn listed(&self) -> usize {
        series(&self.last_listing).len()
    }

    /// The sources and sinks that do not work.
    pub(crate) fn down(&self) -> Vec<String> {
        let down = series(&self.up).into_iter().filter(|(_, up)| *up == 0.0);
        let name = |labels: Vec<(String, String)>| {
            let words: Vec<String> = labels
                .into_iter()
                .map(|(_, value)| value)
                .filter(|v| !v.is_empty())
                .collect();
            words.join(" ")
        };
        down.map(|(labels, _)| name(labels)).collect()
    }

    /// Shows a source that has ended no more: it is neither up nor down.
    pub(crate) fn forget_source(&self, source: &str, tenant: &str) {
        // It may never have been shown.
        drop(self.up.remove_label_values(&["source", source, tenant]));
        drop(self.last_listing.remove_label_values(&[tenant, source]));
    }

    /// The same for a sink.
    pub(crate) fn forget_sink(&self, sink: &str) {
        drop(self.up.remove_label_values(&["sink", sink, ""]));
    }

    /// Says whether a tenant waits for room in the journal.
    pub(crate) fn paused(&self, tenant: &str, paused: bool) {
        self.tenant_paused
            .with_label_values(&[tenant])
            .set(i64::from(paused));
    }
}

/// The labels and value of each gauge of a family.
fn series(family: &impl Collector) -> Vec<(Vec<(String, String)>, f64)> {
    let families = family.collect();
    let metrics = families
        .iter()
        .flat_map(prometheus::proto::MetricFamily::get_metric);
    let label =
        |pair: &prometheus::proto::LabelPair| (pair.name().to_owned(), pair.value().to_owned());
    metrics
        .map(|metric| {
            (
                metric.get_label().iter().map(label).collect(),
                metric.get_gauge().get_value(),
            )
        })
        .collect()
}
