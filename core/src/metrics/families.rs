//! Families of series: made, and shown from then on.

use std::cell::RefCell;

use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result, core::Collector,
};

/// Those that were made so far.
#[derive(Default)]
pub(super) struct Families {
    /// Knows all names, so that none is declared twice.
    names: Registry,
    /// Each in a registry of its own: a registry copies all its series whenever it is looked at, and with a thousand
    /// tenants these are many.
    each: RefCell<Vec<Registry>>,
}

impl Families {
    pub(super) fn register(&self, family: impl Collector + Clone + 'static) -> Result<()> {
        let own = Registry::new_custom(Some("audit_exporter".to_owned()), None)?;
        self.names.register(Box::new(family.clone()))?;
        own.register(Box::new(family))?;
        self.each.borrow_mut().push(own);
        Ok(())
    }

    pub(super) fn into_registries(self) -> Vec<Registry> {
        self.each.into_inner()
    }
}

pub(super) fn counters(
    r: &Families,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec> {
    let series = IntCounterVec::new(Opts::new(name, help), labels)?;
    r.register(series.clone())?;
    Ok(series)
}

pub(super) fn floats(r: &Families, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
    let series = CounterVec::new(Opts::new(name, help), labels)?;
    r.register(series.clone())?;
    Ok(series)
}

pub(super) fn gauges(r: &Families, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    let series = GaugeVec::new(Opts::new(name, help), labels)?;
    r.register(series.clone())?;
    Ok(series)
}

pub(super) fn ints(r: &Families, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    let series = IntGaugeVec::new(Opts::new(name, help), labels)?;
    r.register(series.clone())?;
    Ok(series)
}

pub(super) fn int(r: &Families, name: &str, help: &str) -> Result<IntGauge> {
    let series = IntGauge::new(name, help)?;
    r.register(series.clone())?;
    Ok(series)
}

pub(super) fn count(r: &Families, name: &str, help: &str) -> Result<IntCounter> {
    let series = IntCounter::new(name, help)?;
    r.register(series.clone())?;
    Ok(series)
}

pub(super) fn histogram(
    r: &Families,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec> {
    let series = HistogramVec::new(
        HistogramOpts::new(name, help).buckets(buckets.to_vec()),
        labels,
    )?;
    r.register(series.clone())?;
    Ok(series)
}
