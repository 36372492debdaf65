//! The source's options.

use std::ops::RangeInclusive;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret, Span};
use chrono::TimeDelta;
use serde::Deserialize;

use crate::sources::slices::Schedule;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// What Microsoft keeps of an audit log without further licences. One that keeps more is searched as far back as
/// `start` says.
const KEPT: Duration = Duration::from_hours(180 * 24);
/// A unit that breaks off is searched again as a whole.
const LONGEST: TimeDelta = TimeDelta::hours(6);

/// Times are searched in whole seconds.
const POLL: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
const SLICE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(6);
const SETTLE: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const AGAIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);
const START: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(3650 * 24);

/// The service's own limits (reference: search-unified-audit-log.md, A and C).
const EXCHANGE_PAGE: RangeInclusive<usize> = 1..=5_000;
const LEGACY_PAGE: RangeInclusive<usize> = 1..=400;
const REQUESTS: RangeInclusive<u32> = 1..=10_000;

/// The options as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourceOptions {
    transport: String,
    username: Option<String>,
    password: Option<Secret>,
    operations: Vec<String>,
    users: Vec<String>,
    high_completeness: bool,
    poll_interval: Span,
    slice: Span,
    settle: Span,
    search_again_after: Vec<Span>,
    start: Span,
    page_size: Option<usize>,
    requests_per_minute: u32,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            transport: "exchange_online".to_owned(),
            username: None,
            password: None,
            operations: Vec::new(),
            users: Vec::new(),
            high_completeness: false,
            poll_interval: Span(Duration::from_mins(1)),
            slice: Span(Duration::from_mins(10)),
            settle: Span(Duration::from_mins(5)),
            search_again_after: [HOUR, 6 * HOUR, DAY, 3 * DAY].map(Span).to_vec(),
            start: Span(7 * DAY),
            page_size: None,
            requests_per_minute: 120,
        }
    }
}

/// How the search is asked.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    /// Exchange Online's `InvokeCommand`, as an app.
    ExchangeOnline {
        /// Slower, and more complete by Microsoft's words.
        high_completeness: bool,
    },
    /// The older REST service, with an account's name and password.
    Rest {
        /// The account, as `name@domain`.
        username: String,
        /// Its password.
        password: Secret,
    },
}

/// The options, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How the search is asked.
    pub(super) transport: Transport,
    /// The operations to find; none is all.
    pub(super) operations: Vec<String>,
    /// The users to find; none is all.
    pub(super) users: Vec<String>,
    /// How often it is looked which times are due.
    pub(super) poll_interval: Duration,
    /// Which times are searched when.
    pub(super) schedule: Schedule,
    /// Rows that are asked for at once.
    pub(super) page_size: usize,
    /// The pace of requests.
    pub(super) requests_per_minute: u32,
}

impl Settings {
    /// Reads and checks the options that apply to a tenant.
    pub(super) fn of(options: &Options, tenant: &str) -> Result<Self> {
        let given: SourceOptions = options.parse_for(tenant)?;
        let transport = transport(options, &given)?;
        let within = |key: &str, span: Span, range: &RangeInclusive<Duration>| {
            let (least, most) = (Span(*range.start()), Span(*range.end()));
            if range.contains(&span.0) && span.0.subsec_nanos() == 0 {
                return Ok(TimeDelta::seconds(span.0.as_secs().cast_signed()));
            }
            let expected = format!("a time span of whole seconds from {least} to {most}");
            Err(options.invalid(key, &expected, &span.to_string()))
        };
        within("poll_interval", given.poll_interval, &POLL)?;
        let start = within("start", given.start, &START)?;
        let kept = TimeDelta::seconds(KEPT.as_secs().cast_signed());
        if !REQUESTS.contains(&given.requests_per_minute) {
            let found = given.requests_per_minute.to_string();
            let expected = format!("{} to {}", REQUESTS.start(), REQUESTS.end());
            return Err(options.invalid("requests_per_minute", &expected, &found));
        }
        Ok(Self {
            page_size: page_size(options, &transport, given.page_size)?,
            transport,
            operations: names(options, "operations", &given.operations)?,
            users: names(options, "users", &given.users)?,
            poll_interval: given.poll_interval.0,
            schedule: Schedule {
                slice: within("slice", given.slice, &SLICE)?,
                longest: LONGEST,
                settle: within("settle", given.settle, &SETTLE)?,
                again: options.rising_spans(
                    "search_again_after",
                    &given.search_again_after,
                    &AGAIN,
                )?,
                start,
                kept: kept.max(start),
            },
            requests_per_minute: given.requests_per_minute,
        })
    }
}

fn transport(options: &Options, given: &SourceOptions) -> Result<Transport> {
    match given.transport.as_str() {
        "exchange_online" => {
            let stray = [
                ("username", given.username.is_some()),
                ("password", given.password.is_some()),
            ];
            if let Some((key, _)) = stray.into_iter().find(|(_, given)| *given) {
                let problem = "is for transport = \"rest\" alone: Exchange Online is asked as the tenant's app";
                return Err(options.problem(key, problem));
            }
            Ok(Transport::ExchangeOnline {
                high_completeness: given.high_completeness,
            })
        }
        "rest" => {
            let missing = |key: &str| {
                options.problem(
                    key,
                    "is required with transport = \"rest\": an account that reads the audit log",
                )
            };
            let username = given.username.as_deref().map(str::trim);
            let username = username.ok_or_else(|| missing("username"))?;
            let has_both = username
                .split_once('@')
                .is_some_and(|(name, domain)| !name.is_empty() && domain.contains('.'));
            // Basic authentication ends the name at the first colon.
            if !has_both || username.contains(':') {
                let expected = "an account such as auditor@contoso.com";
                return Err(options.invalid("username", expected, "something else"));
            }
            if given.high_completeness {
                let problem = "is for transport = \"exchange_online\" alone";
                return Err(options.problem("high_completeness", problem));
            }
            Ok(Transport::Rest {
                username: username.to_owned(),
                password: given.password.clone().ok_or_else(|| missing("password"))?,
            })
        }
        other => {
            let valid = ["exchange_online", "rest"].into_iter();
            Err(options.unknown_value("transport", "a transport", other, valid))
        }
    }
}

fn page_size(options: &Options, transport: &Transport, given: Option<usize>) -> Result<usize> {
    let (usual, range) = match transport {
        Transport::ExchangeOnline { .. } => (1_000, EXCHANGE_PAGE),
        Transport::Rest { .. } => (300, LEGACY_PAGE),
    };
    let size = given.unwrap_or(usual);
    if range.contains(&size) {
        return Ok(size);
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(options.invalid("page_size", &expected, &size.to_string()))
}

/// Names without spaces around them, each once; none may be empty, for that would find everything.
fn names(options: &Options, key: &str, given: &[String]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in given {
        let name = name.trim();
        // The older service takes a comma for the end of a name.
        if name.is_empty() || name.contains(',') {
            return Err(options.invalid(key, "a list of names", &format!("{name:?}")));
        }
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings> {
        Settings::of(&Options::from_toml("sources.search", text), "contoso")
    }

    const REST: &str = "transport = \"rest\"\nusername = \"a@b.example\"\npassword = \"hunter2\"\n";

    #[test]
    fn the_defaults_search_everything_as_an_app() {
        let settings = settings("").unwrap();
        assert!(matches!(
            settings.transport,
            Transport::ExchangeOnline { .. }
        ));
        assert!(settings.operations.is_empty() && settings.users.is_empty());
        assert_eq!(settings.page_size, 1_000);
        assert_eq!(settings.schedule.again, [3_600, 21_600, 86_400, 259_200]);
        assert_eq!(settings.schedule.kept, TimeDelta::days(180));
        // As docs/sources.md has it: first searches, and repeated ones.
        assert_eq!(settings.schedule.searches_a_day(), 144 + 36);
    }

    #[test]
    fn a_longer_start_means_that_the_log_is_kept_longer() {
        let settings = settings("start = \"365d\"").unwrap();
        assert_eq!(settings.schedule.kept, TimeDelta::days(365));
    }

    #[test]
    fn the_older_service_has_pages_of_its_own_and_an_account() {
        let given = settings(REST).unwrap();
        assert_eq!(given.page_size, 300);
        assert!(
            matches!(&given.transport, Transport::Rest { username, .. } if username == "a@b.example")
        );
        assert!(!format!("{given:?}").contains("hunter2"));
        assert!(settings(&format!("{REST}page_size = 401")).is_err());
    }

    #[test]
    fn names_are_trimmed_and_taken_once() {
        let settings = settings(r#"operations = [" CreateFlow", "createflow", "EditFlow"]"#);
        assert_eq!(settings.unwrap().operations, ["CreateFlow", "EditFlow"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("transport = \"exchange-online\"", "exchange_online"),
            ("transport = \"rest\"", "username"),
            (
                "transport = \"rest\"\nusername = \"a@b.example\"",
                "password",
            ),
            (
                "transport = \"rest\"\nusername = \"auditor\"\npassword = \"x\"",
                "username",
            ),
            ("password = \"hunter2\"", "password"),
            ("operations = [\"\"]", "operations"),
            ("operations = [\"A,B\"]", "operations"),
            ("slice = \"7h\"", "slice"),
            ("slice = \"1500ms\"", "whole seconds"),
            ("search_again_after = [\"2h\", \"1h\"]", "found 1h"),
            ("page_size = 0", "page_size"),
            ("requests_per_minute = 0", "requests_per_minute"),
            ("sessions = 3", "sessions"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(
                error.contains(named) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
