//! What an operator may ask of a digest: to see it, to list its mails, to send one. In JSON, from `audit-exporter digest`.

use audit_exporter_core::plugin::Answer;
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::mailing::{Mailing, Share};
use super::store::{Rows, Sent};

/// A request.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Every tenant's mails: sent, and to come.
    List,
    /// A mail as HTML, from what is stored.
    Preview(Which),
    /// All rows of a mail as CSV.
    Csv(Which),
    /// Send the mail of a period, whatever was sent before.
    Send(Which),
}

/// Which mail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    tenant: Option<String>,
    /// A day or days; the next mail, as it is at this moment, if absent.
    #[serde(default)]
    period: Option<String>,
}

/// One tenant's mails.
#[derive(Debug, Serialize)]
struct Listed {
    tenant: String,
    /// Where the next mail begins and ends, and when it is to be sent.
    next: Option<[DateTime<Utc>; 3]>,
    /// Whether it was begun, and is not sent yet.
    sending: bool,
    /// Rows for it.
    rows: u64,
    late: u64,
    sent: Vec<Past>,
}

#[derive(Debug, Serialize)]
struct Past {
    start: DateTime<Utc>,
    #[serde(flatten)]
    sent: Sent,
}

/// Answers a request.
pub(super) async fn answer(
    mailings: &[Mailing],
    rows: &Rows,
    request: &str,
    now: DateTime<Utc>,
) -> Result<Answer> {
    let request: Request = serde_json::from_str(request)
        .map_err(|error| Error::config("a digest does not know this request").with_cause(error))?;
    let text = match request {
        Request::List => list(mailings, rows, now).await?,
        Request::Preview(which) => {
            let mailing = one(mailings, which.tenant.as_deref())?;
            let shares = shares(mailing, rows, which.period.as_deref(), now).await?;
            mailing.compose(rows, &shares).await?.texts.html
        }
        Request::Csv(which) => {
            let mailing = one(mailings, which.tenant.as_deref())?;
            let shares = shares(mailing, rows, which.period.as_deref(), now).await?;
            mailing.csv(rows, &shares).await?
        }
        Request::Send(which) => send(mailings, rows, &which, now).await?,
    };
    Ok(Answer {
        text,
        ..Answer::default()
    })
}

async fn list(mailings: &[Mailing], rows: &Rows, now: DateTime<Utc>) -> Result<String> {
    let mut listed = Vec::new();
    for mailing in mailings {
        for tenant in &mailing.tenants {
            let state = rows.state(&tenant.id).await?;
            let next = match &state {
                Some(state) => {
                    let period = mailing.settings.calendar.next(state.next)?;
                    let end = state
                        .sending
                        .as_ref()
                        .map_or(period.end, |sending| sending.end);
                    Some([state.next, end, period.due])
                }
                None => None,
            };
            let mut waiting = 0;
            if let Some([start, end, _]) = next {
                rows.between(&tenant.id, start, end, |_, _| waiting += 1)
                    .await?;
            }
            let sent = rows.sent(&tenant.id).await?;
            listed.push(Listed {
                tenant: tenant.name.clone(),
                next,
                sending: state.is_some_and(|state| state.sending.is_some()),
                rows: waiting,
                late: rows.late(&tenant.id, now).await?.len() as u64,
                sent: sent
                    .into_iter()
                    .map(|(start, sent)| Past { start, sent })
                    .collect(),
            });
        }
    }
    // Rows of those who have left the configuration wait for their return.
    for tenant in rows.tenants().await? {
        let has_mails = |mailing: &Mailing| mailing.tenants.iter().any(|known| known.id == tenant);
        if !mailings.iter().any(has_mails) {
            let late = rows.late(&tenant, now).await?.len() as u64;
            listed.push(Listed {
                tenant,
                next: None,
                sending: false,
                rows: 0,
                late,
                sent: Vec::new(),
            });
        }
    }
    serde_json::to_string(&listed)
        .map_err(|error| Error::bug("the list cannot be written as JSON").with_cause(error))
}

async fn send(
    mailings: &[Mailing],
    rows: &Rows,
    which: &Which,
    now: DateTime<Utc>,
) -> Result<String> {
    let period = which.period.as_deref();
    if period.is_none() {
        return Err(Error::config(
            "say which period to send, such as 2026-11-20",
        ));
    }
    let chosen = match &which.tenant {
        Some(_) => vec![one(mailings, which.tenant.as_deref())?],
        None => mailings.iter().collect(),
    };
    let mut told = Vec::new();
    for mailing in chosen {
        let shares = shares(mailing, rows, period, now).await?;
        let composed = mailing.compose(rows, &shares).await?;
        let message_id = mailing.hand_over(&composed, &shares, now).await?;
        let to: Vec<String> = mailing
            .settings
            .addresses
            .to
            .iter()
            .map(ToString::to_string)
            .collect();
        told.push(format!(
            "{}: sent to {}, {message_id}",
            mailing.name(),
            to.join(", ")
        ));
    }
    Ok(told.join("\n"))
}

/// The mailing of a tenant, by name or id; the only one if none is named.
fn one<'a>(mailings: &'a [Mailing], tenant: Option<&str>) -> Result<&'a Mailing> {
    let names = || {
        let names: Vec<String> = mailings.iter().map(Mailing::name).collect();
        names.join(", ")
    };
    match (tenant, mailings) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Error::config(format!("say which tenant: {}", names()))),
        (Some(wanted), _) => {
            let known = |mailing: &&Mailing| {
                let mut tenants = mailing.tenants.iter();
                tenants
                    .any(|tenant| tenant.name == wanted || tenant.id.eq_ignore_ascii_case(wanted))
            };
            mailings.iter().find(known).ok_or_else(|| {
                Error::config(format!(
                    "this digest has no tenant {wanted}; it has {}",
                    names()
                ))
            })
        }
    }
}

/// What a mail of a period holds; without a period the next one, as far as it is.
async fn shares(
    mailing: &Mailing,
    rows: &Rows,
    period: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Vec<Share>> {
    let calendar = &mailing.settings.calendar;
    let mut shares = Vec::new();
    for tenant in &mailing.tenants {
        let (start, end, late_until) = match period {
            Some(period) => {
                let (start, end) = calendar.parse(period)?;
                (start, end, None)
            }
            None => match rows.state(&tenant.id).await? {
                Some(state) => match state.sending {
                    Some(sending) => (state.next, sending.end, Some(sending.at)),
                    None => (state.next, calendar.ceil(now), Some(now)),
                },
                None => (calendar.floor(now), calendar.ceil(now), Some(now)),
            },
        };
        let tenant = tenant.clone();
        shares.push(Share {
            tenant,
            start,
            end,
            late_until,
            note: None,
        });
    }
    Ok(shares)
}
