//! `run --once`: collects what is available now, delivers it, says what became of it, and ends.

use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::engine::Engine;
use audit_exporter_core::engine::once::Report;
use audit_exporter_core::plugin::Registry;

use crate::run::{self, Args};
use crate::terminal::{self, number};
use crate::{Outcome, asked_to_stop, exit};

pub(crate) async fn run(args: &Args, config: &Config, registry: &Registry) -> Outcome {
    // Events and the report on one output could not be told apart.
    let aside = config.sinks.iter().any(|sink| sink.kind == "stdout");
    let progress = terminal::log(args.log, "warn", !aside);
    let engine = Engine::start_once(config, registry, Clock::system()).await?;
    let patience = Duration::from_secs(args.give_up);
    let ended = tokio::select! {
        ended = engine.catch_up(patience) => ended.map(Some),
        () = run::watch(&engine, &progress) => Ok(None),
        () = asked_to_stop() => Ok(None),
        broken = engine.broken() => Err(broken),
    };
    progress.clear();
    let ended = ended?;
    let mut report = engine.report(config).await?;
    match ended {
        Some(true) => {}
        Some(false) => report.reasons.insert(
            0,
            format!(
                "given up: nothing got further for {} s (--give-up)",
                args.give_up
            ),
        ),
        None => report.reasons.insert(0, "broken off".to_owned()),
    }
    report.complete = report.reasons.is_empty();
    // Whatever waits, waits in the journal for the next run.
    engine.shutdown(Duration::ZERO).await?;
    if args.json {
        terminal::tell(aside, terminal::json(&report)?);
    } else {
        tell(aside, &report);
    }
    Ok(if report.complete {
        exit::OK
    } else {
        exit::FAILED
    })
}

fn tell(aside: bool, report: &Report) {
    for one in &report.tenants {
        let mut line = format!(
            "tenant {}, source {}: {} of {} new content blobs fetched, {} events, {} repeats",
            one.tenant,
            one.source,
            number(one.fetched),
            number(one.listed),
            number(one.received - one.repeats),
            number(one.repeats)
        );
        let pending = one.pending.try_into().unwrap_or_default();
        for (count, what) in [
            (pending, "pending"),
            (one.lost, "LOST"),
            (one.retries, "retries"),
        ] {
            if count > 0 {
                line = format!("{line}, {} {what}", number(count));
            }
        }
        terminal::tell(aside, line);
    }
    for one in &report.sinks {
        let mut line = format!(
            "sink {}, tenant {}: {} delivered, {} filtered",
            one.sink,
            one.tenant,
            number(one.delivered),
            number(one.filtered)
        );
        let pending = one.pending.try_into().unwrap_or_default();
        for (count, what) in [
            (one.dead, "dead letters"),
            (pending, "pending"),
            (one.retries, "retries"),
        ] {
            if count > 0 {
                line = format!("{line}, {} {what}", number(count));
            }
        }
        terminal::tell(aside, line);
    }
    if report.complete {
        terminal::tell(aside, "everything that was available is delivered");
    }
    for reason in &report.reasons {
        terminal::tell(aside, format!("NOT COMPLETE: {reason}"));
    }
}
