//! Coverage for programs, and as metrics.

use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use serde::Deserialize;
use tokio::time::Instant;

use super::Admin;
use crate::coverage::silence::Mood;
use crate::coverage::{Question, State, TenantCoverage};
use crate::error::Result;

/// Coverage reads a month's hours: often enough for metrics.
const EVERY: Duration = Duration::from_mins(1);
/// With very many tenants that takes seconds: no more than this part of the time goes into it.
const SHARE: u32 = 50;

/// When the metrics of coverage were last made, and how long that took.
#[derive(Debug, Default)]
pub(super) struct Age(Option<(Instant, Duration)>);

impl Age {
    fn is_old(&self) -> bool {
        self.0
            .is_none_or(|(made, took)| made.elapsed() >= EVERY.max(took * SHARE))
    }
}

/// What to show; days and tenants as the command has them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    tenant: Option<String>,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    hours: bool,
}

/// `GET /api/coverage`: what `coverage --json` says.
pub(super) async fn show(Shared(admin): Shared<Admin>, Query(wanted): Query<Wanted>) -> Response {
    let tenant = match wanted.tenant {
        None => None,
        Some(tenant) => match admin.journal.tenant_named(&tenant) {
            Some(id) => Some(id.to_string()),
            None => return (StatusCode::NOT_FOUND, "there is no such tenant\n").into_response(),
        },
    };
    let question = Question {
        tenant,
        from: wanted.from,
        to: wanted.to,
        hours: wanted.hours,
        now: admin.clock.now(),
    };
    let answer = admin.journal.coverage(question).await;
    let answer = answer.map(|coverage| serde_json::to_string_pretty(&coverage));
    match answer {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// What the metrics say of one tenant.
struct Summary {
    name: String,
    hours: Vec<(State, i64)>,
    /// Source, content type, and when the first content that was not listed cannot be listed any more.
    expiries: Vec<(String, String, i64)>,
    silent: Vec<(String, bool)>,
    adds_up: bool,
}

impl Summary {
    fn of(tenant: TenantCoverage) -> Self {
        let hours = State::ALL.map(|state| {
            let rows = tenant.rows.iter().filter(|row| row.state == Some(state));
            (state, i64::try_from(rows.count()).unwrap_or(i64::MAX))
        });
        let expiries = tenant.passes.into_iter().filter_map(|passes| {
            let expiry = passes.listing_expiry_ms?;
            Some((passes.source, passes.content_type, expiry))
        });
        let workloads = tenant.workloads.into_iter();
        Self {
            name: tenant.name,
            hours: hours.to_vec(),
            expiries: expiries.collect(),
            silent: workloads
                .map(|workload| (workload.workload, workload.mood == Mood::Silent))
                .collect(),
            adds_up: tenant.unbalanced.is_empty(),
        }
    }
}

/// Makes the metrics of coverage anew, if they are old.
pub(super) async fn refresh(admin: &Admin, age: &mut Age) -> Result<()> {
    if !age.is_old() {
        return Ok(());
    }
    let began = Instant::now();
    let question = Question {
        hours: true,
        ..Question::usual(admin.clock.now())
    };
    let at_ms = question.now.timestamp_millis();
    let tenants = admin.journal.coverage_of_each(question, Summary::of);
    let tenants = tenants.await?;
    let metrics = &admin.metrics;
    metrics.coverage_hours.reset();
    metrics.listing_expiry.reset();
    metrics.silent.reset();
    metrics.account_balanced.reset();
    for tenant in &tenants {
        let name = tenant.name.as_str();
        for (state, hours) in &tenant.hours {
            let labels = [name, state.as_str()];
            metrics
                .coverage_hours
                .with_label_values(&labels)
                .set(*hours);
        }
        for (source, content_type, expiry) in &tenant.expiries {
            let left = (expiry - at_ms) as f64 / 1000.0;
            let labels = [name, source, content_type];
            metrics.listing_expiry.with_label_values(&labels).set(left);
        }
        for (workload, is_silent) in &tenant.silent {
            let labels = [name, workload];
            metrics
                .silent
                .with_label_values(&labels)
                .set(i64::from(*is_silent));
        }
        metrics
            .account_balanced
            .with_label_values(&[name])
            .set(i64::from(tenant.adds_up));
    }
    *age = Age(Some((Instant::now(), began.elapsed())));
    Ok(())
}
