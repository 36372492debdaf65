//! The source's options.

use std::ops::RangeInclusive;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Span};
use audit_exporter_core::event::RecordType;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::sources::slices::Schedule;

/// A shorter slice would cost more queries than Microsoft grants; one longer than a day would not show in coverage.
const SLICE: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);
/// After a search at the latest.
const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// Whole seconds, and well within what ids are kept for.
const AGAIN: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
/// How long audit records are kept for searches by default (reference: graph-audit-queries.md §6).
const KEPT: Duration = Duration::from_hours(180 * 24);
/// Looking at a query more often than this helps nobody.
const POLL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(10);
/// More than Microsoft grants to anybody.
const MOST_QUERIES: u32 = 10_000;

/// The options as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourceOptions {
    slice: Span,
    longest_slice: Span,
    settle: Span,
    search_again_after: Vec<Span>,
    start: Span,
    daily_queries: u32,
    concurrent_queries: u32,
    poll_interval: Span,
    read_twice: bool,
    operations: Vec<String>,
    record_types: Vec<String>,
    services: Vec<String>,
    users: Vec<String>,
    ip_addresses: Vec<String>,
    objects: Vec<String>,
    administrative_units: Vec<String>,
    keyword: Option<String>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        let hours = |hours| Span(Duration::from_hours(hours));
        Self {
            slice: Span(Duration::from_mins(30)),
            longest_slice: hours(24),
            settle: Span(Duration::from_mins(15)),
            search_again_after: [2, 6, 24, 72, 7 * 24].map(hours).to_vec(),
            start: hours(7 * 24),
            daily_queries: 150,
            concurrent_queries: 10,
            poll_interval: Span(Duration::from_secs(10)),
            read_twice: true,
            operations: Vec::new(),
            record_types: Vec::new(),
            services: Vec::new(),
            users: Vec::new(),
            ip_addresses: Vec::new(),
            objects: Vec::new(),
            administrative_units: Vec::new(),
            keyword: None,
        }
    }
}

/// What Microsoft is asked to leave out, as a query says it (reference: §3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Filters {
    #[serde(rename = "recordTypeFilters", skip_serializing_if = "Vec::is_empty")]
    record_types: Vec<&'static str>,
    #[serde(rename = "keywordFilter", skip_serializing_if = "Option::is_none")]
    keyword: Option<String>,
    #[serde(rename = "serviceFilters", skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
    #[serde(rename = "operationFilters", skip_serializing_if = "Vec::is_empty")]
    operations: Vec<String>,
    #[serde(
        rename = "userPrincipalNameFilters",
        skip_serializing_if = "Vec::is_empty"
    )]
    users: Vec<String>,
    #[serde(rename = "ipAddressFilters", skip_serializing_if = "Vec::is_empty")]
    ip_addresses: Vec<String>,
    #[serde(rename = "objectIdFilters", skip_serializing_if = "Vec::is_empty")]
    objects: Vec<String>,
    #[serde(
        rename = "administrativeUnitIdFilters",
        skip_serializing_if = "Vec::is_empty"
    )]
    administrative_units: Vec<String>,
}

/// The options, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// What is searched when.
    pub(super) schedule: Schedule,
    /// Queries that are created in any 24 hours at most.
    pub(super) daily_queries: usize,
    /// Queries that wait or run at a time at most.
    pub(super) concurrent_queries: usize,
    /// How long after its creation a query is first looked at; the waits double from there.
    pub(super) poll_interval: Duration,
    /// Whether a query is read until a reading brings nothing new.
    pub(super) read_twice: bool,
    /// What Microsoft leaves out.
    pub(super) filters: Filters,
}

impl Settings {
    /// Reads and checks the options that apply to a tenant.
    pub(super) fn of(options: &Options, tenant: &str) -> Result<Self> {
        let given: SourceOptions = options.parse_for(tenant)?;
        let schedule = schedule(options, &given)?;
        let within = |key: &str, value: u32| {
            let expected = format!("1 to {MOST_QUERIES}");
            let good = (1..=MOST_QUERIES).contains(&value);
            let wrong = || options.invalid(key, &expected, &value.to_string());
            good.then_some(value as usize).ok_or_else(wrong)
        };
        let daily_queries = within("daily_queries", given.daily_queries)?;
        let needed = schedule.searches_a_day();
        if needed > i64::from(given.daily_queries) {
            let expected = format!(
                "at least the {needed} queries a day that slice and search_again_after take"
            );
            return Err(options.invalid("daily_queries", &expected, &daily_queries.to_string()));
        }
        Ok(Self {
            schedule,
            daily_queries,
            concurrent_queries: within("concurrent_queries", given.concurrent_queries)?,
            poll_interval: span(options, "poll_interval", given.poll_interval, &POLL)?,
            read_twice: given.read_twice,
            filters: filters(options, given)?,
        })
    }
}

fn filters(options: &Options, given: SourceOptions) -> Result<Filters> {
    let name = |given: &String| {
        let known = RecordType::parse(given).and_then(RecordType::name);
        let expected = "a record type, as MicrosoftFlow or 30";
        known.ok_or_else(|| options.invalid("record_types", expected, &format!("{given:?}")))
    };
    Ok(Filters {
        record_types: given.record_types.iter().map(name).collect::<Result<_>>()?,
        keyword: given.keyword,
        services: given.services,
        operations: given.operations,
        users: given.users,
        ip_addresses: given.ip_addresses,
        objects: given.objects,
        administrative_units: given.administrative_units,
    })
}

fn schedule(options: &Options, given: &SourceOptions) -> Result<Schedule> {
    let delta = |span: Duration| TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    let slice = span(options, "slice", given.slice, &SLICE)?;
    let longest = slice..=*SLICE.end();
    let start = Duration::ZERO..=KEPT;
    Ok(Schedule {
        slice: delta(slice),
        longest: delta(span(
            options,
            "longest_slice",
            given.longest_slice,
            &longest,
        )?),
        settle: delta(span(options, "settle", given.settle, &SETTLE)?),
        again: options.rising_spans("search_again_after", &given.search_again_after, &AGAIN)?,
        start: delta(span(options, "start", given.start, &start)?),
        kept: delta(KEPT),
    })
}

fn span(
    options: &Options,
    key: &str,
    given: Span,
    range: &RangeInclusive<Duration>,
) -> Result<Duration> {
    if range.contains(&given.0) {
        return Ok(given.0);
    }
    let (least, most) = (Span(*range.start()), Span(*range.end()));
    let expected = format!("a time span from {least} to {most}");
    Err(options.invalid(key, &expected, &given.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings> {
        Settings::of(&Options::from_toml("sources.graph", text), "contoso")
    }

    #[test]
    fn the_defaults_stay_well_within_what_microsoft_grants() {
        let settings = settings("").unwrap();
        assert_eq!(settings.schedule.searches_a_day(), 48 + 12 + 4 + 1 + 1 + 1);
        assert_eq!(
            (settings.daily_queries, settings.concurrent_queries),
            (150, 10)
        );
        assert_eq!(settings.filters, Filters::default());
        assert!(settings.read_twice);
    }

    #[test]
    fn filters_are_said_in_microsofts_words() {
        let text = "record_types = [\"microsoftflow\", \"15\"]\noperations = [\"CreateFlow\"]\nusers = [\"ada@contoso.com\"]";
        let filters = serde_json::to_value(settings(text).unwrap().filters).unwrap();
        assert_eq!(
            filters,
            serde_json::json!({
                "recordTypeFilters": ["MicrosoftFlow", "AzureActiveDirectoryStsLogon"],
                "operationFilters": ["CreateFlow"],
                "userPrincipalNameFilters": ["ada@contoso.com"],
            })
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("slice = \"10s\"", "slice"),
            ("slice = \"2d\"", "slice"),
            ("slice = \"1h\"\nlongest_slice = \"30m\"", "longest_slice"),
            ("slice = \"5m\"", "at least the 307 queries a day"),
            ("daily_queries = 0", "daily_queries"),
            ("concurrent_queries = 0", "concurrent_queries"),
            ("start = \"200d\"", "start"),
            (r#"search_again_after = ["6h", "2h"]"#, "found 2h"),
            (r#"record_types = ["MicrosoftFlo"]"#, "record_types"),
            ("interval = \"5s\"", "interval"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
