//! Names of destinations with placeholders: a file's path, a topic.

use audit_exporter_core::Error;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};

use super::value::push_number;

/// A name with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Tenant,
    TenantId,
    ContentType,
    Workload,
    Date,
    Hour,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Placeholder),
}

/// Why text is no template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is no such placeholder.
    Placeholder(String),
    /// A `{` is not closed.
    Unclosed,
}

impl Wrong {
    /// The error for the option `key`, which holds `text`.
    pub(super) fn to_error(&self, options: &Options, key: &str, text: &str) -> Error {
        match self {
            Self::Placeholder(name) => {
                let valid = Template::PLACEHOLDERS.iter().copied();
                options.unknown_value(key, "a placeholder", name, valid)
            }
            Self::Unclosed => options.invalid(key, "a } for every {", text),
        }
    }
}

/// The part of an event's time that a name depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeKey(Option<(NaiveDate, u32)>);

impl Template {
    /// The names of all placeholders.
    pub(super) const PLACEHOLDERS: [&str; 6] = [
        "tenant",
        "tenant_id",
        "content_type",
        "workload",
        "date",
        "hour",
    ];

    /// Reads `text`. Before it stands `start`, as it is.
    pub(super) fn parse(start: String, text: &str) -> Result<Self, Wrong> {
        let mut parts = Vec::new();
        let (mut literal, mut rest) = (start, text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(Wrong::Unclosed)?;
            literal.push_str(before);
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Value(placeholder(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Whether the name tells one tenant's events from another's.
    pub(super) fn names_tenant(&self) -> bool {
        self.uses(Placeholder::Tenant) || self.uses(Placeholder::TenantId)
    }

    /// Whether the name depends on more than the event's origin and time.
    pub(super) fn reads_record(&self) -> bool {
        self.uses(Placeholder::Workload)
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

    /// Of an event at `time`, what the name depends on.
    pub(super) fn time_key(&self, time: DateTime<Utc>) -> TimeKey {
        let hour = self.uses(Placeholder::Hour);
        TimeKey(
            (hour || self.uses(Placeholder::Date))
                .then(|| (time.date_naive(), if hour { time.hour() } else { 0 })),
        )
    }

    /// Writes the event's name to `out`, which is cleared first. `push` writes a value as the destination's names
    /// allow it.
    pub(super) fn render(
        &self,
        event: &AuditEvent,
        time: DateTime<Utc>,
        push: fn(&str, &mut String),
        out: &mut String,
    ) {
        out.clear();
        let origin = event.origin();
        for part in &self.0 {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(Placeholder::Tenant) => push(&origin.tenant_name, out),
                Part::Value(Placeholder::TenantId) => push(&origin.tenant, out),
                Part::Value(Placeholder::ContentType) => push(&origin.content_type, out),
                Part::Value(Placeholder::Workload) => {
                    push(event.workload().as_deref().unwrap_or_default(), out);
                }
                Part::Value(Placeholder::Date) => {
                    push_number(time.year().unsigned_abs(), 4, out);
                    out.push('-');
                    push_number(time.month(), 2, out);
                    out.push('-');
                    push_number(time.day(), 2, out);
                }
                Part::Value(Placeholder::Hour) => push_number(time.hour(), 2, out),
            }
        }
    }

    fn uses(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Part::Value(placeholder))
    }
}

fn placeholder(name: &str) -> Result<Placeholder, Wrong> {
    Ok(match name {
        "tenant" => Placeholder::Tenant,
        "tenant_id" => Placeholder::TenantId,
        "content_type" => Placeholder::ContentType,
        "workload" => Placeholder::Workload,
        "date" => Placeholder::Date,
        "hour" => Placeholder::Hour,
        _ => return Err(Wrong::Placeholder(name.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let template = Template::parse(String::new(), text).unwrap();
            let same = |time| template.time_key(early) == template.time_key(time);
            assert_eq!((same(later), same(next_day)), (hour, day), "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, wrong) in [
            ("a.{tennant}", Wrong::Placeholder("tennant".into())),
            ("a.{tenant", Wrong::Unclosed),
        ] {
            let found = Template::parse(String::new(), text).err();
            assert_eq!(found, Some(wrong), "{text}");
        }
    }
}
