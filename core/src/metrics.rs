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
use families::{Families, count, counters, floats, gauges, histogram, int, ints};

pub use meter::Meter;

const UNIT: &[&str] = &["tenant", "source", "content_type"];
const STREAM: &[&str] = &["tenant", "source"];
const SINK: &[&str] = &["sink", "tenant"];
const COMPONENT: &[&str] = &["component", "name", "tenant"];

const HOUR: f64 = 3600.0;
const FRESHNESS: &[f64] = &[
    1.0,
    5.0,
    30.0,
    60.0,
    300.0,
    900.0,
    HOUR,
    4.0 * HOUR,
    24.0 * HOUR,
    168.0 * HOUR,
];
const LEAD: &[f64] = &[1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, HOUR, 6.0 * HOUR];
const DELIVERY: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0];

/// Declares each series once: what documents the field is the help text too.
macro_rules! series {
    ($($(#[doc = $help:literal])+ $see:vis $field:ident: $type:ty = $make:ident($name:literal $(, $more:expr)*);)+) => {
        /// The series of one engine.
        #[derive(Clone, Debug)]
        #[allow(clippy::doc_markdown)] // Help texts have no markup.
        pub struct Metrics {
            families: Arc<[Registry]>,
            /// The newest error of each component, by component, name and tenant.
            newest: Arc<Mutex<BTreeMap<[String; 3], String>>>,
            $($(#[doc = $help])+ $see $field: $type,)+
        }

        impl Metrics {
            fn build() -> prometheus::Result<Self> {
                let families = Families::default();
                Ok(Self {
                    $($field: $make(&families, $name, concat!($($help),+).trim_start() $(, $more)*)?,)+
                    newest: Arc::default(),
                    families: families.into_registries().into(),
                })
            }
        }
    };
}

series! {
    /// The program's version, in a label.
    build_info: IntGaugeVec = ints("build_info", &["version"]);

    /// Events cut from fetched content.
    pub events_received: IntCounterVec = counters("events_received_total", UNIT);

    /// Bytes of the events received.
    pub received_bytes: IntCounterVec = counters("received_bytes_total", UNIT);

    /// Events dropped because they were received before.
    pub events_repeated: IntCounterVec = counters("events_repeated_total", UNIT);

    /// Bytes of the records dropped because they were journaled before.
    pub repeated_bytes: IntCounterVec = counters("repeated_bytes_total", UNIT);

    /// Events delivered although their identity was known, with other bytes.
    pub events_variant: IntCounterVec = counters("events_variant_total", UNIT);

    /// Records larger than limits.record_size, stored as dead letters.
    pub records_oversized: IntCounterVec = counters("records_oversized_total", UNIT);

    /// Content blobs (or pages) listed for the first time.
    pub units_listed: IntCounterVec = counters("units_listed_total", UNIT);

    /// Content blobs (or pages) fetched completely.
    pub units_fetched: IntCounterVec = counters("units_fetched_total", UNIT);

    /// Content blobs (or pages) that expired or vanished before they could be fetched.
    pub units_lost: IntCounterVec = counters("units_lost_total", UNIT);

    /// Time that could not be listed and never will be; nobody knows what was in it.
    pub listing_gap: IntCounterVec = counters("listing_gap_seconds_total", UNIT);

    /// Content blobs (or pages) that showed up in a time that was listed before.
    pub stragglers: IntCounterVec =
        counters("stragglers_total", &["tenant", "source", "content_type", "pass"]);

    /// Events of content that showed up late.
    pub events_late: IntCounterVec =
        counters("events_late_total", &["tenant", "source", "content_type", "pass", "workload"]);

    /// Hours of the last 30 days by what is known of their events.
    pub coverage_hours: IntGaugeVec = ints("coverage", &["tenant", "state"]);

    /// Time until the first content that was not listed yet cannot be listed any more.
    pub listing_expiry: GaugeVec = gauges("listing_expiry_seconds", UNIT);

    /// 1 if the tenant's accounts by hour add up to those of the sinks.
    pub account_balanced: IntGaugeVec = ints("account_balanced", &["tenant"]);

    /// 1 while less comes of a workload than ever in the weeks before.
    pub silent: IntGaugeVec = ints("silent", &["tenant", "workload"]);

    /// Events dropped by the sink's filters.
    pub events_filtered: IntCounterVec = counters("events_filtered_total", SINK);

    /// Bytes of the records dropped by the sink's filters.
    pub filtered_bytes: IntCounterVec = counters("filtered_bytes_total", SINK);

    /// Events that the destination has durably.
    pub events_delivered: IntCounterVec = counters("events_delivered_total", SINK);

    /// Bytes of the records delivered.
    pub delivered_bytes: IntCounterVec = counters("delivered_bytes_total", SINK);

    /// Events that the destination refused for good.
    pub events_dead_lettered: IntCounterVec = counters("events_dead_lettered_total", SINK);

    /// Bytes of the records that the destination refused for good.
    pub dead_lettered_bytes: IntCounterVec = counters("dead_lettered_bytes_total", SINK);

    /// Time from an event's CreationTime to its delivery.
    pub freshness: HistogramVec = histogram("freshness_seconds", FRESHNESS, &["sink"]);

    /// Time of one delivery.
    pub delivery: HistogramVec = histogram("delivery_seconds", DELIVERY, &["sink"]);

    /// Requests to the webhook listener by outcome.
    pub webhook_requests: IntCounterVec =
        counters("webhook_requests_total", &["tenant", "source", "outcome"]);

    /// Time by which a notification brought a listing forward.
    pub webhook_lead: HistogramVec = histogram("webhook_lead_seconds", LEAD, &["source"]);

    /// Errors by kind: what the engine does about them.
    pub errors: IntCounterVec = counters("errors_total", &["component", "name", "tenant", "kind"]);

    /// Tries after a failure.
    pub retries: IntCounterVec = counters("retries_total", COMPONENT);

    /// Requests to the source's service by outcome.
    pub requests: IntCounterVec =
        counters("requests_total", &["tenant", "source", "operation", "outcome"]);

    /// Time spent waiting for rate limits.
    pub throttle_wait: CounterVec = floats("throttle_wait_seconds_total", STREAM);

    /// When the source last listed everything.
    pub last_listing: GaugeVec = gauges("last_listing_timestamp_seconds", STREAM);

    /// Time since the source last listed everything.
    pub listing_lag: GaugeVec = gauges("listing_lag_seconds", STREAM);

    /// 1 if the source or sink works, 0 while it fails.
    pub up: IntGaugeVec = ints("up", COMPONENT);

    /// 1 while the journal is full and collecting the tenant waits.
    pub tenant_paused: IntGaugeVec = ints("tenant_paused", &["tenant"]);

    /// Events journaled that the sink has not dealt with.
    pub sink_pending: IntGaugeVec = ints("sink_pending_events", SINK);

    /// Age in the journal of the oldest event that the sink has not dealt with.
    pub sink_lag: GaugeVec = gauges("sink_lag_seconds", SINK);

    /// Events that the sink was moved past, for the journal was full or damaged.
    pub sink_skipped: IntGaugeVec = ints("sink_skipped_events", SINK);

    /// 1 if journaled = filtered + delivered + dead + skipped + pending.
    pub sink_balanced: IntGaugeVec = ints("sink_balanced", SINK);

    /// Content blobs (or pages) that wait to be fetched.
    pub units_pending: IntGaugeVec = ints("units_pending", UNIT);

    /// Time until the first unfetched content blob (or page) expires.
    pub units_expiry: GaugeVec = gauges("units_expiry_seconds", UNIT);

    /// Bytes of the journal in use.
    pub journal_bytes: IntGauge = int("journal_used_bytes");

    /// Bytes that the journal may use.
    pub journal_limit_bytes: IntGauge = int("journal_limit_bytes");

    /// Journal transactions that could not be written.
    pub journal_errors: IntCounter = count("journal_errors_total");
}

impl Metrics {
    /// The series, all at zero.
    pub fn new() -> Result<Self> {
        let metrics = Self::build()
            .map_err(|error| Error::bug("a metric is declared wrongly").with_cause(error))?;
        let version = metrics
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")]);
        version.set(1);
        Ok(metrics)
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
