//! The mails of one tenant, or of all tenants in one: what is due, what is in it, and sending it.

use std::collections::BTreeSet;

use audit_exporter_core::journal::Changes;
use audit_exporter_core::plugin::Standing;
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};

use super::config::Settings;
use super::csv::Csv;
use super::message::{self, Mail};
use super::render::{Rendered, View};
use super::report::{Gathered, csv_heads};
use super::store::{Rows, Sending, Sent, State, stamp};
use super::tables::{Cut, Section, needs_days};
use super::transport::Transport;

/// How soon a mail that waits for collection is looked at again.
const RECHECK: TimeDelta = TimeDelta::minutes(1);

/// A tenant as a mail knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) id: String,
    pub(super) name: String,
}

/// One mail a period, to one list of recipients.
pub(super) struct Mailing {
    pub(super) sink: String,
    /// More than one only if the configuration wants them combined.
    pub(super) tenants: Vec<Name>,
    pub(super) settings: Settings,
    pub(super) transport: Transport,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nothing before this.
    Wait(DateTime<Utc>),
    /// Commit the changes, then ask again.
    Begin,
    /// Send this.
    Send(Vec<Share>),
}

/// One tenant's part of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) tenant: Name,
    pub(super) start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
    /// Late rows that came until then are in it.
    pub(super) late_until: Option<DateTime<Utc>>,
    pub(super) note: Option<String>,
}

/// A mail's texts, and what is in it.
pub(super) struct Composed {
    pub(super) texts: Rendered,
    /// The attachment's name and text.
    pub(super) csv: Option<(String, String)>,
    /// For each share: rows, late rows, and the marks of the latter.
    counts: Vec<(u64, Vec<String>)>,
}

impl Composed {
    /// Whether it says that there was nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.counts
            .iter()
            .all(|(rows, marks)| *rows == 0 && marks.is_empty())
    }
}

impl Mailing {
    /// How messages name it.
    pub(super) fn name(&self) -> String {
        let names: Vec<&str> = self
            .tenants
            .iter()
            .map(|tenant| tenant.name.as_str())
            .collect();
        names.join(", ")
    }

    /// What is to be done at `now`. What it begins is in `changes`, to be committed before it goes on.
    pub(super) async fn plan(
        &self,
        rows: &Rows,
        standing: &Standing,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<Plan> {
        let calendar = &self.settings.calendar;
        let mut states = Vec::new();
        let mut is_first = false;
        for tenant in &self.tenants {
            let state = if let Some(state) = rows.state(&tenant.id).await? {
                state
            } else {
                is_first = true;
                let next = calendar.floor(now);
                let state = State {
                    next,
                    sending: None,
                };
                Rows::set_state(changes, &tenant.id, &state)?;
                state
            };
            states.push(state);
        }
        let begun = self.shares(&states);
        if !begun.is_empty() {
            return Ok(Plan::Send(begun));
        }
        let start = states.iter().map(|state| state.next).min().unwrap_or(now);
        let Some(period) = calendar
            .due(start, now, self.settings.catch_up)?
            .first()
            .copied()
        else {
            return Ok(if is_first {
                Plan::Begin
            } else {
                Plan::Wait(calendar.next(start)?.due)
            });
        };
        let note = self.behind(standing, period.end + calendar.settle);
        let longest = period.due + self.settings.longest_wait;
        if note.is_some() && now < longest {
            return Ok(if is_first {
                Plan::Begin
            } else {
                Plan::Wait(longest.min(now + RECHECK))
            });
        }
        // Written down before it is sent: whatever happens, the same mail goes out, and what comes from now on is late.
        for (tenant, state) in self.tenants.iter().zip(&mut states) {
            if state.next < period.end {
                state.sending = Some(Sending {
                    end: period.end,
                    at: now,
                    note: note.clone(),
                });
                Rows::set_state(changes, &tenant.id, state)?;
            }
        }
        Ok(Plan::Begin)
    }

    /// What the mail that was begun holds of each tenant.
    pub(super) fn shares(&self, states: &[State]) -> Vec<Share> {
        let begun = self
            .tenants
            .iter()
            .zip(states)
            .filter_map(|(tenant, state)| {
                let sending = state.sending.clone()?;
                Some(Share {
                    tenant: tenant.clone(),
                    start: state.next,
                    end: sending.end,
                    late_until: Some(sending.at),
                    note: sending.note,
                })
            });
        begun.collect()
    }

    /// What a mail says if not everything has been collected that became available before `needed`.
    fn behind(&self, standing: &Standing, needed: DateTime<Utc>) -> Option<String> {
        let zone = self.settings.calendar.zone;
        let mut behind = self.tenants.iter().filter_map(|tenant| {
            let to = standing.complete_to(&tenant.id);
            to.is_none_or(|to| to < needed).then_some((tenant, to))
        });
        let (tenant, to) = behind.next()?;
        let known = to.map_or_else(
            || "it is not known how far it is".to_owned(),
            |to| {
                format!(
                    "it is complete up to {}",
                    to.with_timezone(&zone).format("%a %-d %b %Y, %H:%M %Z")
                )
            },
        );
        Some(format!(
            "Collection of {} was behind when this was sent: {known}. What is missing here comes in a later mail, as late.",
            tenant.name
        ))
    }

    /// Sends a mail that was begun, and says what is committed with that.
    pub(super) async fn send(&self, rows: &Rows, shares: &[Share]) -> Result<Changes> {
        let composed = self.compose(rows, shares).await?;
        let at = shares
            .iter()
            .filter_map(|share| share.late_until)
            .max()
            .unwrap_or_default();
        let message_id = if composed.is_empty() && !self.settings.send_empty {
            None
        } else {
            let message_id = self.hand_over(&composed, shares, at).await?;
            // Between the server's answer and our commit.
            fail::fail_point!("email_digest::sent");
            Some(message_id)
        };
        let mut changes = Changes::default();
        for (share, (count, marks)) in shares.iter().zip(&composed.counts) {
            let id = &share.tenant.id;
            Rows::set_state(
                &mut changes,
                id,
                &State {
                    next: share.end,
                    sending: None,
                },
            )?;
            let sent = Sent {
                end: share.end,
                at,
                rows: *count,
                late: marks.len() as u64,
                message_id: message_id.clone(),
            };
            Rows::set_sent(&mut changes, id, share.start, &sent)?;
            for mark in marks {
                changes.remove(mark.clone());
            }
        }
        Ok(changes)
    }

    /// Hands a mail to the transport; its `Message-ID`.
    pub(super) async fn hand_over(
        &self,
        composed: &Composed,
        shares: &[Share],
        at: DateTime<Utc>,
    ) -> Result<String> {
        let mut parts = vec![self.sink.clone(), stamp(at)];
        for share in shares {
            parts.extend([
                share.tenant.id.clone(),
                stamp(share.start),
                stamp(share.end),
            ]);
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let message_id = message::message_id(&parts, &self.settings.addresses);
        let mail = self.mail(composed, &message_id, at)?;
        let sent = self.transport.send(&mail).await;
        sent.map_err(|error| error.context(format!("the digest of {} is not sent", self.name())))?;
        Ok(message_id)
    }

    fn mail(&self, composed: &Composed, message_id: &str, at: DateTime<Utc>) -> Result<Mail> {
        let attachment = composed
            .csv
            .as_ref()
            .map(|(name, csv)| (name.as_str(), csv.clone()));
        message::build(
            &self.settings.addresses,
            message_id,
            at,
            composed.texts.clone(),
            attachment,
        )
    }

    /// Reads what a mail is to hold and writes its texts.
    pub(super) async fn compose(&self, rows: &Rows, shares: &[Share]) -> Result<Composed> {
        let settings = &self.settings;
        let bounds = (
            shares.iter().map(|share| share.start).min(),
            shares.iter().map(|share| share.end).max(),
        );
        let (Some(start), Some(end)) = bounds else {
            return Err(Error::bug("a mail of no tenant"));
        };
        let mut csv = Csv::new(csv_heads(settings.report), settings.attachment_bytes);
        let (mut sections, mut counts, mut not_held) = (Vec::new(), Vec::new(), 0);
        for share in shares {
            let (gathered, late, marks) = self.gather(rows, share).await?;
            let tenant = (self.tenants.len() > 1).then_some(share.tenant.name.as_str());
            for (gathered, is_late) in [(&gathered, false), (&late, true)] {
                let cut = Cut {
                    zone: settings.calendar.zone,
                    days: is_late || needs_days(start, end),
                    most: settings.max_rows,
                };
                sections.push(gathered.section(tenant, is_late, cut));
                gathered.csv(&share.tenant.name, is_late, &mut csv);
                not_held += gathered.not_held();
            }
            counts.push((gathered.count(), marks));
        }
        let (csv, left_out) = csv.finish();
        let is_cut = sections.iter().any(|section| section.more > 0);
        let csv = is_cut.then(|| (self.file_name(start), csv));
        let view = View {
            title: settings.title.clone(),
            tenant: self.name(),
            period: settings.calendar.describe(start, end),
            time_zone: settings.calendar.zone.name().to_owned(),
            count: total(&sections, false),
            late: total(&sections, true),
            note: shares.iter().find_map(|share| share.note.clone()),
            sections,
            attachment: csv.as_ref().map(|(name, _)| name.clone()),
            left_out: if is_cut { left_out + not_held } else { 0 },
            sink: self.sink.clone(),
        };
        Ok(Composed {
            texts: settings.templates.render(&view)?,
            csv,
            counts,
        })
    }

    async fn gather(
        &self,
        rows: &Rows,
        share: &Share,
    ) -> Result<(Gathered, Gathered, Vec<String>)> {
        let report = self.settings.report;
        self.gather_into(rows, share, Gathered::new(report), Gathered::new(report))
            .await
    }

    async fn gather_into(
        &self,
        rows: &Rows,
        share: &Share,
        mut gathered: Gathered,
        mut late: Gathered,
    ) -> Result<(Gathered, Gathered, Vec<String>)> {
        let id = &share.tenant.id;
        // What came after the mail was made is for the next one, whatever its time.
        let later = match share.late_until {
            Some(until) => rows.later(id, until).await?,
            None => BTreeSet::new(),
        };
        let add = |key: &str, row| {
            if !later.contains(key) {
                gathered.add(row);
            }
        };
        rows.between(id, share.start, share.end, add).await?;
        let mut marks = Vec::new();
        if let Some(until) = share.late_until {
            for (mark, row) in rows.late(id, until).await? {
                // One that this mail has in its place is not in it twice.
                if row.at < share.start || row.at >= share.end {
                    late.add(row);
                }
                marks.push(mark);
            }
        }
        Ok((gathered, late, marks))
    }

    /// All rows of a mail, however many.
    pub(super) async fn csv(&self, rows: &Rows, shares: &[Share]) -> Result<String> {
        let report = self.settings.report;
        let mut csv = Csv::new(csv_heads(report), usize::MAX);
        let all = || Gathered::holding(report, usize::MAX);
        for share in shares {
            let (gathered, late, _) = self.gather_into(rows, share, all(), all()).await?;
            gathered.csv(&share.tenant.name, false, &mut csv);
            late.csv(&share.tenant.name, true, &mut csv);
        }
        Ok(csv.finish().0)
    }

    fn file_name(&self, start: DateTime<Utc>) -> String {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        };
        let sink: String = self.sink.chars().map(safe).collect();
        let day = start
            .with_timezone(&self.settings.calendar.zone)
            .format("%Y-%m-%d");
        format!("{sink}-{day}.csv")
    }
}

fn total(sections: &[Section], late: bool) -> u64 {
    let parts = sections.iter().filter(|section| section.late == late);
    parts.map(|section| section.count).sum()
}
