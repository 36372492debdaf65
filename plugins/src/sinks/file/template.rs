//! File paths with placeholders.

use audit_exporter_core::Result;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Utc};

use crate::sinks::template::{Template, TimeKey};
use crate::sinks::value::push_file_value;

/// A path with placeholders, without the extension.
#[derive(Debug)]
pub(super) struct PathTemplate {
    stem: Template,
    extension: String,
}

impl PathTemplate {
    /// Reads `text`, the option `path`, which is below `folder` if there is one. `suffix` is what compression adds to
    /// the name.
    pub(super) fn parse(
        options: &Options,
        folder: Option<&str>,
        text: &str,
        suffix: &str,
    ) -> Result<Self> {
        let file = text.rsplit('/').next().unwrap_or_default();
        if file.is_empty() || file == "." || file == ".." {
            return Err(options.invalid("path", "a file's name at the end", &format!("{text:?}")));
        }
        let body = text.strip_suffix(suffix).unwrap_or(text);
        let (stem, extension) = body.split_at(file_extension(body));
        let stem = Template::parse(options, "path", stem)?;
        Ok(Self {
            stem: match folder {
                Some(folder) => stem.behind(&format!("{folder}/")),
                None => stem,
            },
            extension: format!("{extension}{suffix}"),
        })
    }

    /// What every file's name ends with, from the dot on.
    pub(super) fn extension(&self) -> &str {
        &self.extension
    }

    /// Whether the path tells one tenant's files from another's.
    pub(super) fn names_tenant(&self) -> bool {
        self.stem.names_tenant()
    }

    /// Whether the path depends on more than the event's origin and time.
    pub(super) fn reads_record(&self) -> bool {
        self.stem.reads_record()
    }

    /// The folder above the first placeholder.
    pub(super) fn root(&self) -> &str {
        match self.stem.start().rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder,
            None => ".",
        }
    }

    /// Of an event at `time`, what the path depends on.
    pub(super) fn time_key(&self, time: DateTime<Utc>) -> TimeKey {
        self.stem.time_key(time)
    }

    /// Writes the event's path without extension to `out`, which is cleared first.
    pub(super) fn render(&self, event: &AuditEvent, time: DateTime<Utc>, out: &mut String) {
        self.stem.name(event, time, push_file_value, out);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn parse(folder: Option<&str>, text: &str, suffix: &str) -> Result<PathTemplate> {
        let options = Options::from_toml("sinks.file", &format!("path = {text:?}"));
        PathTemplate::parse(&options, folder, text, suffix)
    }

    fn render(template: &str, record: &str) -> String {
        let template = parse(Some("/base"), template, "").unwrap();
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
            let template = parse(None, text, suffix).unwrap();
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
            assert_eq!(parse(folder, text, "").unwrap().root(), root);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (text, problem) in [
            (
                "/a/{tenant",
                "expected a } for every {, found \"/a/{tenant\"",
            ),
            ("/a/", "expected a file's name at the end, found \"/a/\""),
            ("", "expected a file's name at the end"),
            ("/a/..", "expected a file's name at the end"),
        ] {
            let error = parse(None, text, "").unwrap_err().to_string();
            assert!(error.starts_with("sinks.file.path: "), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }
}
