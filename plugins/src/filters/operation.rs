//! `operation`: lets events pass by the name of their operation.
//!
//! ```toml
//! [filters.flows]
//! type = "operation"
//! include = ["*Flow", "PutConnection"]
//! exclude = ["DeleteFlow"]
//! ```
//!
//! Compares the header's operation where it lies in the record: no parse, no allocation, no change of case.

use audit_exporter_core::Result;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::{Context, Filter};
use serde::Deserialize;

use super::names::Names;
use super::values::Values;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    include: Option<Values<String>>,
    exclude: Option<Values<String>>,
}

struct Operation {
    include: Option<Names>,
    exclude: Option<Names>,
}

/// Builds an `operation` filter.
pub(crate) fn build(context: Context) -> Result<Box<dyn Filter>> {
    let Context { options, .. } = context;
    let config: Config = options.parse()?;
    if config.include.is_none() && config.exclude.is_none() {
        return Err(options.invalid("include", "`include`, `exclude` or both", "neither"));
    }
    let names = |key: &str, list: Option<Values<String>>| {
        list.map(|Values(list)| {
            Names::new(list.iter().map(String::as_str))
                .ok_or_else(|| options.invalid(key, "names of operations", "an empty list or name"))
        })
        .transpose()
    };
    Ok(Box::new(Operation {
        include: names("include", config.include)?,
        exclude: names("exclude", config.exclude)?,
    }))
}

impl Filter for Operation {
    fn apply(&self, event: AuditEvent) -> Option<AuditEvent> {
        let passes = match event.operation() {
            Some(operation) => {
                let included = |names: &Names| names.contains(&operation);
                self.include.as_ref().is_none_or(included)
                    && !self.exclude.as_ref().is_some_and(included)
            }
            None => self.include.is_none(),
        };
        passes.then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use audit_exporter_core::Kind;

    use super::*;
    use crate::testing::{context, event};

    fn passes(options: &str, record: &str) -> bool {
        let filter = build(context("filters.f", options)).unwrap();
        let event = event(record);
        let raw = event.raw().clone();
        let passed = filter.apply(event);
        if let Some(passed) = &passed {
            assert_eq!(passed.raw(), &raw, "a filter leaves the record as it is");
        }
        passed.is_some()
    }

    const CREATE: &str = r#"{"Operation":"CreateFlow"}"#;
    const DELETE: &str = r#"{"Operation":"DeleteFlow"}"#;

    #[test]
    fn include_passes_what_it_names_and_nothing_else() {
        let options = r#"include = ["createflow", "Put*"]"#;
        assert!(passes(options, CREATE));
        assert!(passes(options, r#"{"Operation":"PutConnection"}"#));
        assert!(!passes(options, DELETE));
    }

    #[test]
    fn exclude_drops_what_it_names_and_wins_over_include() {
        assert!(!passes(r#"exclude = "delete*""#, DELETE));
        assert!(passes(r#"exclude = "delete*""#, CREATE));
        let both = r#"
            include = ["*Flow"]
            exclude = ["DeleteFlow"]
        "#;
        assert!(passes(both, CREATE));
        assert!(!passes(both, DELETE));
    }

    #[test]
    fn an_event_without_an_operation_passes_no_include_but_every_exclude() {
        for record in [r"{}", r#"{"Operation":null}"#, r#"{"Operation":""}"#] {
            assert!(!passes(r#"include = ["*"]"#, record), "{record}");
            assert!(passes(r#"exclude = ["*"]"#, record), "{record}");
        }
    }

    #[test]
    fn an_escaped_operation_is_compared_by_its_meaning() {
        assert!(passes(
            r#"include = ["CreateFlow"]"#,
            r#"{"Operation":"Create\u0046low"}"#
        ));
    }

    #[test]
    fn options_that_say_nothing_are_refused() {
        for options in [
            "",
            "include = []",
            r#"exclude = [""]"#,
            r#"includes = ["a"]"#,
        ] {
            let error = build(context("filters.f", options)).err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{options}");
            assert!(error.to_string().contains("filters.f"), "{error}");
        }
    }
}
