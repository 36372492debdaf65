//! Families of series: made, and shown from then on.

use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, Result,
};

pub(super) fn counters(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec> {
    let series = IntCounterVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(series.clone()))?;
    Ok(series)
}

pub(super) fn floats(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
    let series = CounterVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(series.clone()))?;
    Ok(series)
}

pub(super) fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    let series = GaugeVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(series.clone()))?;
    Ok(series)
}

pub(super) fn ints(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
    let series = IntGaugeVec::new(Opts::new(name, help), labels)?;
    r.register(Box::new(series.clone()))?;
    Ok(series)
}

pub(super) fn int(r: &Registry, name: &str, help: &str) -> Result<IntGauge> {
    let series = IntGauge::new(name, help)?;
    r.register(Box::new(series.clone()))?;
    Ok(series)
}

pub(super) fn histogram(
    r: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> Result<HistogramVec> {
    let series = HistogramVec::new(
        HistogramOpts::new(name, help).buckets(buckets.to_vec()),
        labels,
    )?;
    r.register(Box::new(series.clone()))?;
    Ok(series)
}
