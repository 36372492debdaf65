//! Text with placeholders that an event fills: a file's path, a topic, a host.

use std::borrow::Cow;

use audit_exporter_core::Result;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};

use super::value::push_number;

/// Text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Placeholder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Tenant,
    TenantId,
    ContentType,
    Workload,
    Operation,
    RecordType,
    Date,
    Hour,
}

/// The placeholders by name.
const PLACEHOLDERS: [(&str, Placeholder); 8] = [
    ("tenant", Placeholder::Tenant),
    ("tenant_id", Placeholder::TenantId),
    ("content_type", Placeholder::ContentType),
    ("workload", Placeholder::Workload),
    ("operation", Placeholder::Operation),
    ("record_type", Placeholder::RecordType),
    ("date", Placeholder::Date),
    ("hour", Placeholder::Hour),
];

/// The part of an event's time that a name depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeKey(Option<(NaiveDate, u32)>);

impl Template {
    /// Reads `text`, the value of `key`.
    pub(super) fn parse(options: &Options, key: &str, text: &str) -> Result<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        let literal = |text: &str| (!text.is_empty()).then(|| Part::Literal(text.to_owned()));
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| options.invalid(key, "a } for every {", &format!("{text:?}")))?;
            let known = PLACEHOLDERS.iter().find(|(known, _)| *known == name);
            let (_, placeholder) = known.ok_or_else(|| {
                let names = PLACEHOLDERS.iter().map(|(name, _)| *name);
                options.unknown_value(key, "a placeholder", name, names)
            })?;
            parts.extend(literal(before));
            parts.push(Part::Value(*placeholder));
            rest = after;
        }
        parts.extend(literal(rest));
        Ok(Self(parts))
    }

    /// The same behind `start`, which stands there as it is.
    pub(super) fn behind(mut self, start: &str) -> Self {
        match self.0.first_mut() {
            Some(Part::Literal(first)) => first.insert_str(0, start),
            _ => self.0.insert(0, Part::Literal(start.to_owned())),
        }
        self
    }

    /// Whether it tells one tenant's events from another's.
    pub(super) fn names_tenant(&self) -> bool {
        self.uses(&[Placeholder::Tenant, Placeholder::TenantId])
    }

    /// Whether it depends on more than the event's origin and time.
    pub(super) fn reads_record(&self) -> bool {
        self.uses(&[
            Placeholder::Workload,
            Placeholder::Operation,
            Placeholder::RecordType,
        ])
    }

    /// What stands before the first placeholder.
    pub(super) fn start(&self) -> &str {
        match self.0.first() {
            Some(Part::Literal(first)) => first,
            _ => "",
        }
    }

    /// All text that stands between the placeholders.
    #[cfg(feature = "kafka")]
    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Value(_) => None,
        })
    }

    /// How many placeholders there are.
    #[cfg(feature = "kafka")]
    pub(super) fn placeholders(&self) -> usize {
        self.0.len() - self.literals().count()
    }

    /// Of an event at `time`, what the text depends on.
    pub(super) fn time_key(&self, time: DateTime<Utc>) -> TimeKey {
        let hour = self.uses(&[Placeholder::Hour]);
        TimeKey(
            (hour || self.uses(&[Placeholder::Date]))
                .then(|| (time.date_naive(), if hour { time.hour() } else { 0 })),
        )
    }

    /// The text for `event`, as it is; what the event lacks is empty.
    pub(super) fn text<'a>(&'a self, event: &'a AuditEvent) -> Cow<'a, str> {
        let of = |part: &'a Part| match part {
            Part::Literal(text) => Cow::Borrowed(text.as_str()),
            Part::Value(placeholder) => placeholder.of(event, || event.created()),
        };
        match &self.0[..] {
            [] => Cow::Borrowed(""),
            [only] => of(only),
            parts => Cow::Owned(parts.iter().map(of).collect()),
        }
    }

    /// Writes the name for `event` at `time` to `out`, which is cleared first. `push` writes a value as the
    /// destination's names allow it.
    pub(super) fn name(
        &self,
        event: &AuditEvent,
        time: DateTime<Utc>,
        push: fn(&str, &mut String),
        out: &mut String,
    ) {
        out.clear();
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(placeholder) => push(&placeholder.of(event, || Some(time)), out),
            }
        }
    }

    fn uses(&self, placeholders: &[Placeholder]) -> bool {
        let is_one =
            |part: &Part| matches!(part, Part::Value(value) if placeholders.contains(value));
        self.0.iter().any(is_one)
    }
}

impl Placeholder {
    /// What it stands for in an event at this time; nothing if the event lacks it.
    fn of(self, event: &AuditEvent, time: impl FnOnce() -> Option<DateTime<Utc>>) -> Cow<'_, str> {
        let origin = event.origin();
        match self {
            Self::Tenant => Cow::Borrowed(&*origin.tenant_name),
            Self::TenantId => Cow::Borrowed(&*origin.tenant),
            Self::ContentType => Cow::Borrowed(&*origin.content_type),
            Self::Workload => event.workload().unwrap_or_default(),
            Self::Operation => event.operation().unwrap_or_default(),
            Self::RecordType => event
                .record_type()
                .map_or(Cow::Borrowed(""), |number| Cow::Owned(number.0.to_string())),
            Self::Date => time().map_or(Cow::Borrowed(""), |time| Cow::Owned(date(time))),
            Self::Hour => time().map_or(Cow::Borrowed(""), |time| {
                let mut text = String::new();
                push_number(time.hour(), 2, &mut text);
                Cow::Owned(text)
            }),
        }
    }
}

fn date(time: DateTime<Utc>) -> String {
    let mut text = String::with_capacity(10);
    push_number(time.year().unsigned_abs(), 4, &mut text);
    for number in [time.month(), time.day()] {
        text.push('-');
        push_number(number, 2, &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TENANT_ID, event};

    fn parse(text: &str) -> Result<Template> {
        let options = Options::from_toml("sinks.splunk", &format!("host = {text:?}"));
        Template::parse(&options, "host", text)
    }

    #[test]
    fn an_event_fills_the_placeholders() {
        let event = event(
            r#"{"CreationTime":"2026-03-01T07:59:59","Operation":"Create\"Flow","RecordType":"30","Workload":"MicrosoftFlow"}"#,
        );
        for (text, filled) in [
            ("", ""),
            ("plain", "plain"),
            ("{tenant}", "contoso"),
            ("m365:{tenant_id}", &format!("m365:{TENANT_ID}")),
            ("{content_type}/{workload}", "Audit.General/MicrosoftFlow"),
            ("{operation} {record_type}!", "Create\"Flow 30!"),
            ("{date}T{hour}", "2026-03-01T07"),
        ] {
            assert_eq!(parse(text).unwrap().text(&event), filled);
        }
        let lacking = crate::testing::event("{}");
        let all = parse("<{operation}{record_type}{workload}{date}{hour}>").unwrap();
        assert_eq!(all.text(&lacking), "<>");
    }

    #[test]
    fn only_the_time_that_the_name_shows_makes_a_difference() {
        let early = DateTime::UNIX_EPOCH;
        let later = early + chrono::TimeDelta::hours(1);
        let next_day = early + chrono::TimeDelta::hours(24);
        for (text, hour, day) in [
            ("a", true, true),
            ("{date}", true, false),
            ("{date}{hour}", false, false),
        ] {
            let template = parse(text).unwrap();
            let same = |time| template.time_key(early) == template.time_key(time);
            assert_eq!((same(later), same(next_day)), (hour, day), "{text}");
        }
    }

    #[test]
    fn a_name_that_a_record_has_a_part_in_is_known_to_depend_on_it() {
        for (text, reads) in [
            ("{tenant}/{content_type}/{date}", false),
            ("{workload}", true),
            ("{operation}", true),
            ("{record_type}", true),
        ] {
            assert_eq!(parse(text).unwrap().reads_record(), reads, "{text}");
        }
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        for (text, problem) in [
            ("{tenent}", "did you mean \"tenant\"?"),
            ("{tenant", "expected a } for every {, found \"{tenant\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("sinks.splunk.host: "), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }
}
