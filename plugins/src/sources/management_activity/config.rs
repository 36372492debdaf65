//! The source's options.

use std::ops::RangeInclusive;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret, Span};
use serde::Deserialize;

use super::window::Schedule;

/// Every content type that the API has (reference: management-activity-api.md §2).
pub(super) const CONTENT_TYPES: [&str; 5] = [
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
    "DLP.All",
];

/// Listing more often than this would only cost quota: content appears minutes after the event at best.
const SHORTEST_POLL: Duration = Duration::from_secs(1);
/// Clocks are compared in whole seconds, and content may be listed a little after it was made. At most so much that
/// the overlap and the newest hours fit one window.
const OVERLAP: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(12);

/// How long after an hour it is listed again, unless the options say otherwise. The last comes twelve hours before the
/// API stops listing the hour.
const RELIST_AFTER: [Duration; 5] = [
    Duration::from_hours(1),
    Duration::from_hours(6),
    Duration::from_hours(24),
    Duration::from_hours(72),
    Duration::from_hours(6 * 24 + 12),
];
/// Times are listed in whole seconds, and an hour before the API stops listing them at the latest.
const RELIST_WITHIN: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(6 * 24 + 23);

/// The options as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourceOptions {
    content_types: Vec<String>,
    poll_interval: Span,
    overlap: Span,
    relist_after: Vec<Span>,
    start: Span,
    start_subscriptions: bool,
    webhook: bool,
    webhook_auth_id: Option<Secret>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            content_types: CONTENT_TYPES.map(str::to_owned).to_vec(),
            poll_interval: Span(Duration::from_mins(1)),
            overlap: Span(Duration::from_mins(30)),
            relist_after: RELIST_AFTER.map(Span).to_vec(),
            start: Span(Duration::from_hours(7 * 24)),
            start_subscriptions: true,
            webhook: false,
            webhook_auth_id: None,
        }
    }
}

/// The options, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Microsoft's spelling, each once.
    pub(super) content_types: Vec<&'static str>,
    /// How often the newest content is listed.
    pub(super) poll_interval: Duration,
    /// What is listed when.
    pub(super) schedule: Schedule,
    /// Whether missing subscriptions are started.
    pub(super) start_subscriptions: bool,
    /// The word that notifications must bring, if Microsoft is to send them.
    pub(super) webhook_auth_id: Option<Secret>,
}

impl Settings {
    /// Reads and checks the options that apply to a tenant.
    pub(super) fn of(options: &Options, tenant: &str) -> Result<Self> {
        let given: SourceOptions = options.parse_for(tenant)?;
        let mut content_types = Vec::new();
        for name in &given.content_types {
            let known = known(name).ok_or_else(|| {
                let valid = CONTENT_TYPES.into_iter();
                options.unknown_value("content_types", "a content type", name, valid)
            })?;
            if !content_types.contains(&known) {
                content_types.push(known);
            }
        }
        if content_types.is_empty() {
            return Err(options.invalid("content_types", "at least one content type", "none"));
        }
        if given.relist_after.is_empty() {
            return Err(options.invalid("relist_after", "at least one time span", "none"));
        }
        if given.poll_interval.0 < SHORTEST_POLL {
            let found = given.poll_interval.to_string();
            return Err(options.invalid("poll_interval", "a time span of at least 1s", &found));
        }
        if !OVERLAP.contains(&given.overlap.0) {
            let found = given.overlap.to_string();
            return Err(options.invalid("overlap", "a time span from 1m to 12h", &found));
        }
        Ok(Self {
            content_types,
            poll_interval: given.poll_interval.0,
            schedule: Schedule {
                overlap: given.overlap.0,
                start: given.start.0,
                relist_after: options.rising_spans(
                    "relist_after",
                    &given.relist_after,
                    &RELIST_WITHIN,
                )?,
            },
            webhook_auth_id: webhook(options, &given)?,
            start_subscriptions: given.start_subscriptions,
        })
    }
}

/// What the webhook needs, if there is to be one.
fn webhook(options: &Options, given: &SourceOptions) -> Result<Option<Secret>> {
    if !given.webhook {
        return Ok(None);
    }
    if !given.start_subscriptions {
        let problem =
            "a webhook is set by starting the subscription: it needs start_subscriptions = true";
        return Err(options.problem("webhook", problem));
    }
    if given.webhook_auth_id.is_none() {
        let problem = "required with webhook = true: 16 to 128 characters, made at random, that Microsoft will send along";
        return Err(options.problem("webhook_auth_id", problem));
    }
    Ok(given.webhook_auth_id.clone())
}

/// The content type that `name` means, in Microsoft's spelling.
pub(super) fn known(name: &str) -> Option<&'static str> {
    let name = name.trim();
    CONTENT_TYPES
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings> {
        Settings::of(&Options::from_toml("sources.audit", text), "contoso")
    }

    #[test]
    fn the_defaults_collect_everything() {
        let settings = settings("").unwrap();
        assert_eq!(settings.content_types, CONTENT_TYPES);
        assert_eq!(settings.poll_interval, Duration::from_mins(1));
        assert_eq!(settings.schedule.overlap, Duration::from_mins(30));
        assert_eq!(settings.schedule.start, Duration::from_hours(168));
        let hours = settings.schedule.relist_after.iter().map(|lag| lag / 3600);
        assert_eq!(hours.collect::<Vec<_>>(), [1, 6, 24, 72, 156]);
        assert!(settings.start_subscriptions);
    }

    #[test]
    fn content_types_are_taken_in_any_case_and_once() {
        let settings = settings(r#"content_types = ["audit.general", "DLP.ALL", "Audit.General"]"#);
        assert_eq!(
            settings.unwrap().content_types,
            ["Audit.General", "DLP.All"]
        );
    }

    #[test]
    fn passes_are_spans_of_seconds_to_days() {
        let settings = settings(r#"relist_after = ["20s", "3m", "6d 23h"]"#).unwrap();
        assert_eq!(settings.schedule.relist_after, [20, 180, 167 * 3600]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            (
                r#"content_types = ["Audit.Sharepiont"]"#,
                "Audit.SharePoint",
            ),
            ("content_types = []", "at least one"),
            ("interval = \"5s\"", "interval"),
            ("poll_interval = \"10ms\"", "poll_interval"),
            ("overlap = \"13h\"", "overlap"),
            ("overlap = \"1s\"", "overlap"),
            ("relist_after = []", "at least one time span, found none"),
            (r#"relist_after = ["1h", "10ms"]"#, "found 10ms"),
            (r#"relist_after = ["1h", "1h"]"#, "rising"),
            (r#"relist_after = ["6h", "1h"]"#, "found 1h"),
            (r#"relist_after = ["1h", "7d"]"#, "6days 23h"),
            (r#"relist_after = ["1500ms"]"#, "whole seconds"),
            ("webhook = true", "webhook_auth_id"),
            (
                "webhook = true\nwebhook_auth_id = \"x\"\nstart_subscriptions = false",
                "start_subscriptions = true",
            ),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
