//! File paths with placeholders.

use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};

use super::value::{push_number, push_value};

/// A path with placeholders, without the extension.
#[derive(Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
    extension: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Tenant,
    TenantId,
    ContentType,
    Workload,
    Date,
    Hour,
}

#[derive(Debug, PartialEq, Eq)]
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
    /// The path names a folder.
    NoFile,
}

/// The part of an event's time that its path depends on.
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

    /// Reads `text`, which is below `folder` if there is one. `suffix` is what compression adds to the name.
    pub(super) fn parse(folder: Option<&str>, text: &str, suffix: &str) -> Result<Self, Wrong> {
        let file = text.rsplit('/').next().unwrap_or_default();
        if file.is_empty() || file == "." || file == ".." {
            return Err(Wrong::NoFile);
        }
        let body = text.strip_suffix(suffix).unwrap_or(text);
        let dot = file_extension(body);
        let (mut rest, extension) = body.split_at(dot);
        let mut parts = Vec::new();
        let mut literal = folder.map_or_else(String::new, |folder| format!("{folder}/"));
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
        Ok(Self {
            parts,
            extension: format!("{extension}{suffix}"),
        })
    }

    /// What every file's name ends with, from the dot on.
    pub(super) fn extension(&self) -> &str {
        &self.extension
    }

    /// Whether the path tells one tenant's files from another's.
    pub(super) fn names_tenant(&self) -> bool {
        self.uses(Placeholder::Tenant) || self.uses(Placeholder::TenantId)
    }

    /// Whether the path depends on more than the event's origin and time.
    pub(super) fn reads_record(&self) -> bool {
        self.uses(Placeholder::Workload)
    }

    /// The folder above the first placeholder.
    pub(super) fn root(&self) -> &str {
        let literal = match self.parts.first() {
            Some(Part::Literal(first)) => first.as_str(),
            _ => "",
        };
        match literal.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder,
            None => ".",
        }
    }

    /// Of an event at `time`, what the path depends on.
    pub(super) fn time_key(&self, time: DateTime<Utc>) -> TimeKey {
        let hour = self.uses(Placeholder::Hour);
        TimeKey(
            (hour || self.uses(Placeholder::Date))
                .then(|| (time.date_naive(), if hour { time.hour() } else { 0 })),
        )
    }

    /// Writes the event's path without extension to `out`, which is cleared first.
    pub(super) fn render(&self, event: &AuditEvent, time: DateTime<Utc>, out: &mut String) {
        out.clear();
        let origin = event.origin();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(Placeholder::Tenant) => push_value(&origin.tenant_name, out),
                Part::Value(Placeholder::TenantId) => push_value(&origin.tenant, out),
                Part::Value(Placeholder::ContentType) => push_value(&origin.content_type, out),
                Part::Value(Placeholder::Workload) => {
                    push_value(event.workload().as_deref().unwrap_or_default(), out);
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
        self.parts.contains(&Part::Value(placeholder))
    }
}

/// Where the extension of the file's name begins: at the last dot that is neither in a placeholder nor the name's
/// first character.
fn file_extension(text: &str) -> usize {
    let name = text.rfind('/').map_or(0, |slash| slash + 1);
    let literal = text.rfind('}').map_or(name, |brace| name.max(brace + 1));
    match text[literal..].rfind('.') {
        Some(dot) if literal + dot > name => literal + dot,
        _ => text.len(),
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
    use crate::testing::event;

    fn render(template: &str, record: &str) -> String {
        let template = Template::parse(Some("/base"), template, "").unwrap();
        let event = event(record);
        let time = event.created().unwrap_or_default();
        let mut out = String::from("old");
        template.render(&event, time, &mut out);
        out + template.extension()
    }

    #[test]
    fn every_placeholder_has_its_value() {
        let record =
            r#"{"CreationTime":"2026-03-01T07:59:59","Workload":"MicrosoftFlow","Operation":"x"}"#;
        assert_eq!(
            render(
                "{tenant}/{tenant_id}/{content_type}/{workload}/{date}T{hour}.log",
                record
            ),
            "/base/contoso/11111111-1111-1111-1111-111111111111/Audit.General/MicrosoftFlow/2026-03-01T07.log"
        );
        assert_eq!(render("{workload}", "{}"), "/base/unknown");
    }

    #[test]
    fn a_value_adds_no_folder() {
        for text in [
            "..",
            "../../etc/passwd",
            "/etc/passwd",
            ".hidden",
            "a\0b",
            "",
        ] {
            let escaped = serde_json::to_string(text).unwrap();
            let path = render(
                "{workload}/{workload}.ndjson",
                &format!(r#"{{"Workload":{escaped}}}"#),
            );
            assert_eq!(path.matches('/').count(), 3, "{path}");
            assert!(path.starts_with("/base/") && !path.contains("/."), "{path}");
        }
    }

    #[test]
    fn the_extension_is_the_literal_end_of_the_name() {
        for (text, suffix, extension) in [
            ("a/b.ndjson", "", ".ndjson"),
            ("a/b.ndjson", ".gz", ".ndjson.gz"),
            ("a/b.ndjson.gz", ".gz", ".ndjson.gz"),
            ("a.b/c", "", ""),
            ("a/{content_type}", "", ""),
            ("a/{content_type}.json", ".zst", ".json.zst"),
            ("a/.hidden", "", ""),
            ("a/{date}-x.y.z", "", ".z"),
        ] {
            let template = Template::parse(None, text, suffix).unwrap();
            assert_eq!(template.extension(), extension, "{text}");
        }
    }

    #[test]
    fn the_root_is_the_folder_above_the_first_placeholder() {
        for (folder, text, root) in [
            (
                None,
                "/var/log/audit/{tenant}/{date}.ndjson",
                "/var/log/audit",
            ),
            (None, "/var/log/audit/x-{tenant}.ndjson", "/var/log/audit"),
            (None, "/audit.ndjson", "/"),
            (Some("/etc/exporter"), "{tenant}.ndjson", "/etc/exporter"),
            (Some("/etc/exporter"), "out/a.ndjson", "/etc/exporter/out"),
        ] {
            assert_eq!(Template::parse(folder, text, "").unwrap().root(), root);
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, wrong) in [
            ("/a/{tennant}", Wrong::Placeholder("tennant".into())),
            ("/a/{tenant", Wrong::Unclosed),
            ("/a/", Wrong::NoFile),
            ("", Wrong::NoFile),
            ("/a/..", Wrong::NoFile),
        ] {
            assert_eq!(Template::parse(None, text, "").err(), Some(wrong), "{text}");
        }
    }

    #[test]
    fn only_the_time_that_the_path_shows_makes_a_difference() {
        let early = DateTime::UNIX_EPOCH;
        let later = early + chrono::TimeDelta::hours(1);
        let next_day = early + chrono::TimeDelta::hours(24);
        for (text, hour, day) in [
            ("a", true, true),
            ("{date}", true, false),
            ("{date}{hour}", false, false),
        ] {
            let template = Template::parse(None, text, "").unwrap();
            let same = |time| template.time_key(early) == template.time_key(time);
            assert_eq!((same(later), same(next_day)), (hour, day), "{text}");
        }
    }
}
