//! The source's options.

use std::ops::RangeInclusive;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Span};
use serde::Deserialize;

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

/// The options as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourceOptions {
    content_types: Vec<String>,
    poll_interval: Span,
    overlap: Span,
    start: Span,
    start_subscriptions: bool,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            content_types: CONTENT_TYPES.map(str::to_owned).to_vec(),
            poll_interval: Span(Duration::from_mins(1)),
            overlap: Span(Duration::from_mins(30)),
            start: Span(Duration::from_hours(7 * 24)),
            start_subscriptions: true,
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
    /// How far back each listing begins before the end of the last.
    pub(super) overlap: Duration,
    /// How far back the first listing begins.
    pub(super) start: Duration,
    /// Whether missing subscriptions are started.
    pub(super) start_subscriptions: bool,
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
            overlap: given.overlap.0,
            start: given.start.0,
            start_subscriptions: given.start_subscriptions,
        })
    }
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
        assert_eq!(settings.overlap, Duration::from_mins(30));
        assert_eq!(settings.start, Duration::from_hours(168));
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
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
