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
use crate::coverage::{Question, State};
use crate::error::Result;

/// Coverage reads a month's hours: often enough for metrics.
const EVERY: Duration = Duration::from_mins(1);

/// When the metrics of coverage were last made.
#[derive(Debug, Default)]
pub(super) struct Age(Option<Instant>);

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

/// Makes the metrics of coverage anew, if they are old.
pub(super) async fn refresh(admin: &Admin, age: &mut Age) -> Result<()> {
    if age.0.is_some_and(|made| made.elapsed() < EVERY) {
        return Ok(());
    }
    let question = Question {
        hours: true,
        ..Question::usual(admin.clock.now())
    };
    let coverage = admin.journal.coverage(question).await?;
    let metrics = &admin.metrics;
    metrics.coverage_hours.reset();
    metrics.listing_expiry.reset();
    metrics.silent.reset();
    metrics.account_balanced.reset();
    for tenant in &coverage.tenants {
        let name = tenant.name.as_str();
        for state in State::ALL {
            let rows = tenant.rows.iter().filter(|row| row.state == Some(state));
            let hours = i64::try_from(rows.count()).unwrap_or(i64::MAX);
            let labels = [name, state.as_str()];
            metrics.coverage_hours.with_label_values(&labels).set(hours);
        }
        for passes in &tenant.passes {
            if let Some(expiry) = passes.listing_expiry_ms {
                let labels = [name, &*passes.source, &*passes.content_type];
                let left = (expiry - coverage.at_ms) as f64 / 1000.0;
                metrics.listing_expiry.with_label_values(&labels).set(left);
            }
        }
        for workload in &tenant.workloads {
            let labels = [name, &*workload.workload];
            let is_silent = i64::from(workload.mood == Mood::Silent);
            metrics.silent.with_label_values(&labels).set(is_silent);
        }
        let adds_up = i64::from(tenant.unbalanced.is_empty());
        metrics
            .account_balanced
            .with_label_values(&[name])
            .set(adds_up);
    }
    age.0 = Some(Instant::now());
    Ok(())
}
