//! The options of an `email_digest` sink, checked.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Size, Span};
use chrono::{TimeDelta, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds};
use lettre::message::Mailbox;
use serde::Deserialize;

use super::graph::GraphOptions;
use super::message::Addresses;
use super::period::{Calendar, Unit};
use super::render::Templates;
use super::report::Report;
use super::smtp::SmtpOptions;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    report: Report,
    title: Option<String>,
    subject: Option<String>,
    from: String,
    #[serde(default)]
    to: Vec<String>,
    #[serde(default)]
    cc: Vec<String>,
    reply_to: Option<String>,
    #[serde(default = "utc")]
    time_zone: String,
    #[serde(default = "each_morning")]
    schedule: String,
    #[serde(default)]
    period: Unit,
    #[serde(default = "settle")]
    settle: Span,
    #[serde(default = "longest_wait")]
    longest_wait: Span,
    #[serde(default = "catch_up")]
    catch_up: usize,
    #[serde(default = "yes")]
    send_empty: bool,
    #[serde(default = "max_rows")]
    max_rows: usize,
    #[serde(default = "attachment_size")]
    attachment_size: Size,
    #[serde(default = "keep")]
    keep: Span,
    html_template: Option<PathBuf>,
    text_template: Option<PathBuf>,
    #[serde(default)]
    combine_tenants: bool,
    smtp: Option<SmtpOptions>,
    graph: Option<GraphOptions>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn each_morning() -> String {
    "0 7 * * *".to_owned()
}

/// Most events are available after 60 to 90 minutes; this leaves room for slow days.
fn settle() -> Span {
    Span(Duration::from_hours(6))
}

fn longest_wait() -> Span {
    Span(Duration::from_hours(12))
}

/// A week of daily mails.
fn catch_up() -> usize {
    7
}

fn yes() -> bool {
    true
}

/// What people still read.
fn max_rows() -> usize {
    200
}

/// Below Graph's limit of 4 MB for a whole mail in base64 of base64.
fn attachment_size() -> Size {
    Size(1 << 20)
}

fn keep() -> Span {
    Span(Duration::from_hours(35 * 24))
}

/// How a mail goes out.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Smtp(SmtpOptions),
    Graph(GraphOptions),
}

/// How the mails of one tenant (or of all in one) are made.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) report: Report,
    pub(super) title: String,
    pub(super) addresses: Addresses,
    pub(super) calendar: Calendar,
    /// How long after it is due a mail waits for collection.
    pub(super) longest_wait: TimeDelta,
    /// Missed mails that are sent each for itself.
    pub(super) catch_up: usize,
    pub(super) send_empty: bool,
    pub(super) max_rows: usize,
    pub(super) attachment_bytes: usize,
    /// How long rows stay after their mail.
    pub(super) keep: TimeDelta,
    pub(super) templates: Templates,
    pub(super) way: Way,
}

/// Whether all tenants are in one mail.
pub(super) fn combines(options: &Options) -> Result<bool> {
    Ok(options.parse_base::<Config>()?.combine_tenants)
}

impl Settings {
    /// The settings of one tenant's mails, or without one of those that all share.
    pub(super) fn read(options: &Options, tenant: Option<&str>) -> Result<Self> {
        let options = match tenant {
            Some(tenant) => &options.for_tenant(tenant)?,
            None => options,
        };
        let config: Config = options.parse_base()?;
        let addresses = addresses(options, &config, tenant)?;
        let calendar = calendar(options, &config)?;
        let templates = Templates::new(
            options,
            config.subject.as_deref(),
            config.html_template.as_deref(),
            config.text_template.as_deref(),
        )?;
        if config.catch_up == 0 {
            return Err(options.invalid("catch_up", "at least 1", "0"));
        }
        let way = match (config.smtp, config.graph) {
            (Some(smtp), None) => Way::Smtp(smtp),
            (None, Some(graph)) => Way::Graph(graph),
            (None, None) => {
                return Err(options.problem(
                    "smtp",
                    "is missing: say how mails go out, by a table smtp or graph",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(options.problem(
                    "graph",
                    "mails go out one way: by smtp or by graph, not both",
                ));
            }
        };
        Ok(Self {
            report: config.report,
            title: config
                .title
                .unwrap_or_else(|| config.report.title().to_owned()),
            addresses,
            calendar,
            longest_wait: delta(options, "longest_wait", config.longest_wait)?,
            catch_up: config.catch_up,
            send_empty: config.send_empty,
            max_rows: config.max_rows,
            attachment_bytes: config.attachment_size.bytes(),
            keep: delta(options, "keep", config.keep)?,
            templates,
            way,
        })
    }
}

fn addresses(options: &Options, config: &Config, tenant: Option<&str>) -> Result<Addresses> {
    if config.to.is_empty() {
        let whose = tenant.map_or_else(String::new, |tenant| {
            format!(" for tenant {tenant} (to for all of the sink, or in per_tenant.{tenant})")
        });
        return Err(options.problem("to", &format!("is missing: who gets the mail{whose}")));
    }
    let mailbox = |key: &str, text: &String| {
        text.parse::<Mailbox>().map_err(|_| {
            let expected = "an address such as \"Audit <audit@contoso.com>\"";
            options.invalid(key, expected, &format!("{text:?}"))
        })
    };
    let list = |key: &str, texts: &[String]| {
        texts
            .iter()
            .map(|text| mailbox(key, text))
            .collect::<Result<Vec<_>>>()
    };
    Ok(Addresses {
        from: mailbox("from", &config.from)?,
        reply_to: config
            .reply_to
            .as_ref()
            .map(|text| mailbox("reply_to", text))
            .transpose()?,
        to: list("to", &config.to)?,
        cc: list("cc", &config.cc)?,
    })
}

fn calendar(options: &Options, config: &Config) -> Result<Calendar> {
    let zone = Tz::from_str(config.time_zone.trim()).map_err(|_| {
        let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        options.unknown_value(
            "time_zone",
            "an IANA zone such as \"Europe/Berlin\"",
            &config.time_zone,
            known,
        )
    })?;
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    let wrong = |error: &dyn std::fmt::Display| {
        let expected =
            "minute, hour, day, month and weekday as in cron, such as \"0 7 * * MON-FRI\"";
        options.invalid(
            "schedule",
            expected,
            &format!("{:?} ({error})", config.schedule),
        )
    };
    let schedule = parser
        .parse(&config.schedule)
        .map_err(|error| wrong(&error))?;
    // One that never comes, as the 30th of February.
    let now = Utc::now().with_timezone(&zone);
    schedule
        .find_next_occurrence(&now, false)
        .map_err(|error| wrong(&error))?;
    Ok(Calendar {
        zone,
        schedule,
        unit: config.period,
        settle: delta(options, "settle", config.settle)?,
    })
}

fn delta(options: &Options, key: &str, span: Span) -> Result<TimeDelta> {
    let most = Duration::from_hours(400 * 24);
    if span.0 > most {
        return Err(options.invalid(key, "at most 400 days", "more"));
    }
    TimeDelta::from_std(span.0).map_err(|_| options.invalid(key, "at most 400 days", "more"))
}
