//! `email_digest`: what happened in a day (or week, or month) as a mail to the people who look after it.
//!
//! What it promises:
//!
//! - **Rows are durable as they arrive**: each event becomes a small row, stored in the transaction that moves the
//!   cursor ([`store`]). The journal does not wait for the mail.
//! - **Every event is in a mail, once**: in that of its period, by the time of the event; or, if it came after that
//!   mail was made, in the next one as late.
//! - **A repeat is the same mail**: it is written down before it is sent. If the server's answer is lost, or the
//!   process is killed between it and our commit, the same mail goes out again, under the same `Message-ID`.
//! - **A mail that is refused loses nothing**: its rows stay, it is an error, and it is tried again at a time
//!   of its own ([`retries`]); those of other tenants go out in time meanwhile.
//! - **No crossing**: a mail has the rows of its own tenant alone, unless the configuration combines them.
//! - **Text of others is text**: escaped in HTML, one line in plain text and headers, no formula in CSV.

mod command;
mod config;
mod csv;
mod graph;
mod mailing;
mod message;
mod period;
mod render;
mod report;
mod retries;
mod row;
mod smtp;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Tenant;
use audit_exporter_core::journal::Changes;
use audit_exporter_core::plugin::{
    Answer, Batch, Context, Delivered, Finding, Sink, Standing, Tick, Trouble,
};
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, Utc};

use config::Settings;
use mailing::{Mailing, Name, Plan, Share};
use retries::Retries;
use row::Row;
use store::{Rows, State};
use transport::Transport;

struct EmailDigest {
    clock: Clock,
    rows: Rows,
    mailings: Vec<Mailing>,
    retries: Retries,
}

/// Builds an `email_digest` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    if context.replay.is_some() {
        return Err(Error::config(format!(
            "sink {} keeps its rows in the journal of the process that collects, which a replay of an archive cannot \
             write; send an archive to another sink",
            context.name
        )));
    }
    let mailings = if config::combines(&context.options)? {
        if let Some(name) = context.options.overridden_tenants()?.first() {
            let key = format!("per_tenant.{name}");
            return Err(context
                .options
                .problem(&key, "has no effect where combine_tenants is true"));
        }
        vec![mailing(&context, None, &context.tenants)?]
    } else if context.tenants.is_empty() {
        // Nothing to send, but options to check.
        Settings::read(&context.options, None)?;
        Vec::new()
    } else {
        let tenants = context.tenants.iter();
        let each = |tenant| mailing(&context, Some(tenant), std::slice::from_ref(tenant));
        tenants.map(each).collect::<Result<_>>()?
    };
    Ok(Box::new(EmailDigest {
        clock: context.clock,
        rows: Rows::new(context.store),
        mailings,
        retries: Retries::default(),
    }))
}

fn mailing(context: &Context, tenant: Option<&Tenant>, tenants: &[Tenant]) -> Result<Mailing> {
    let settings = Settings::read(&context.options, tenant.map(|tenant| &*tenant.name))?;
    let transport = Transport::new(
        context,
        settings.way.clone(),
        tenant.or(match tenants {
            [only] => Some(only),
            _ => None,
        }),
    )?;
    let name = |tenant: &Tenant| Name {
        id: tenant.id.to_string(),
        name: tenant.name.to_string(),
    };
    Ok(Mailing {
        sink: context.name.to_string(),
        tenants: tenants.iter().map(name).collect(),
        settings,
        transport,
    })
}

#[async_trait]
impl Sink for EmailDigest {
    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let now = self.clock.now();
        let mut changes = Changes::default();
        let mut known: BTreeMap<&str, State> = BTreeMap::new();
        for event in batch.events.iter() {
            let tenant = &*event.origin().tenant;
            if !known.contains_key(tenant) {
                let state = match self.rows.state(tenant).await? {
                    Some(state) => state,
                    None => self.first_state(tenant, now, &mut changes)?,
                };
                known.insert(tenant, state);
            }
            let row = Row::of(event, now);
            if let Some(state) = known.get(tenant) {
                self.rows
                    .add(&mut changes, (tenant, state), event.raw(), &row, now)
                    .await?;
            }
        }
        Ok(Delivered {
            changes,
            ..Delivered::default()
        })
    }

    async fn tick(&self, standing: &Standing) -> Result<Tick> {
        let now = self.clock.now();
        let mut tick = Tick::default();
        let mut ready = Vec::new();
        for (index, mailing) in self.mailings.iter().enumerate() {
            let plan = mailing
                .plan(&self.rows, standing, now, &mut tick.changes)
                .await?;
            match (plan, self.retries.at(index)) {
                (Plan::Wait(until), _) => ask_at(&mut tick, until),
                (Plan::Begin, _) => {}
                (Plan::Send(_), Some(until)) if until > now => ask_at(&mut tick, until),
                (Plan::Send(shares), _) => ready.push((index, shares)),
            }
        }
        if tick.changes.is_empty() {
            self.send_one(ready, now, &mut tick).await?;
        }
        if tick.changes.is_empty() {
            self.prune(&mut tick.changes).await?;
        }
        if matches!(tick.trouble, Trouble::None) && self.retries.any() {
            tick.trouble = Trouble::Waits;
        }
        if !tick.changes.is_empty() {
            tick.next = Some(now);
        }
        Ok(tick)
    }

    async fn command(&self, request: &str) -> Result<Answer> {
        command::answer(&self.mailings, &self.rows, request, self.clock.now()).await
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut recipients: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut told = BTreeSet::new();
        for mailing in &self.mailings {
            let finding = match mailing.transport.check().await {
                Ok(message) => Finding::ok(message),
                Err(error) => Finding::problem(format!("mails of {}: {error}", mailing.name())),
            };
            // Tenants that share a server share its line.
            if told.insert(finding.message.clone()) {
                findings.push(finding);
            }
            for to in &mailing.settings.addresses.to {
                recipients
                    .entry(to.email.to_string())
                    .or_default()
                    .insert(mailing.name());
            }
        }
        let shared = recipients.iter().filter(|(_, tenants)| tenants.len() > 1);
        findings.extend(shared.map(|(to, tenants)| {
            let count = tenants.len();
            Finding::warning(format!(
                "{to} gets the mails of {count} tenants, one each; per_tenant tells them apart"
            ))
        }));
        findings
    }
}

impl EmailDigest {
    /// The state of a tenant whose first event this is, or who left the configuration before its events did.
    fn first_state(
        &self,
        tenant: &str,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<State> {
        let of = |mailing: &&Mailing| mailing.tenants.iter().any(|known| known.id == tenant);
        let mailing = self.mailings.iter().find(of).or(self.mailings.first());
        let next = mailing.map_or(now, |mailing| mailing.settings.calendar.floor(now));
        let state = State {
            next,
            sending: None,
        };
        Rows::set_state(changes, tenant, &state)?;
        Ok(state)
    }

    /// Sends the first of these mails that is not refused. What is sent is committed before the next.
    async fn send_one(
        &self,
        ready: Vec<(usize, Vec<Share>)>,
        now: DateTime<Utc>,
        tick: &mut Tick,
    ) -> Result<()> {
        let mut bug = None;
        for (index, shares) in ready {
            match self.mailings[index].send(&self.rows, &shares).await {
                Ok(changes) => {
                    self.retries.sent(index);
                    tick.changes = changes;
                    return Ok(());
                }
                // It ends the sink, but not before the others' mails are out.
                Err(error) if error.kind() == Kind::Bug || error.is_fatal() => {
                    bug = bug.or(Some(error));
                }
                Err(error) => {
                    ask_at(tick, self.retries.refused(index, &error, now));
                    if matches!(tick.trouble, Trouble::None) {
                        tick.trouble = Trouble::Failed(error);
                    }
                }
            }
        }
        bug.map_or(Ok(()), Err)
    }

    /// Adds the removal of rows whose time is over.
    async fn prune(&self, changes: &mut Changes) -> Result<()> {
        for mailing in &self.mailings {
            let keep = mailing.settings.keep;
            for tenant in &mailing.tenants {
                if let Some(state) = self.rows.state(&tenant.id).await? {
                    let before = state.next - keep;
                    self.rows.prune(changes, &tenant.id, before).await?;
                }
            }
        }
        Ok(())
    }
}

/// Asks for a tick at this time, if not for an earlier one.
fn ask_at(tick: &mut Tick, at: DateTime<Utc>) {
    tick.next = Some(tick.next.map_or(at, |next| next.min(at)));
}
