//! `field`: lets events pass by conditions on their header fields and client address.
//!
//! ```toml
//! [filters.admins]
//! type = "field"
//! all = [
//!     { workload = ["PowerApps", "MicrosoftFlow"] },
//!     { not = { user = ["*@partner.example"] } },
//!     { client_ip = ["10.0.0.0/8"] },
//! ]
//! ```
//!
//! A field holds if the event has it and one of the listed values fits; everything in one table must hold. An event
//! that lacks the field satisfies no condition on it, and therefore every `not` of one.

use std::net::IpAddr;

use audit_exporter_core::Result;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::{AuditEvent, RecordType};
use audit_exporter_core::plugin::{Context, Filter};
use ipnet::IpNet;
use serde::Deserialize;

use super::names::Names;
use super::values::Values;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    all: Option<Vec<Config>>,
    any: Option<Vec<Config>>,
    not: Option<Box<Config>>,
    operation: Option<Values<String>>,
    workload: Option<Values<String>>,
    record_type: Option<Values<TypeValue>>,
    user: Option<Values<String>>,
    organization: Option<Values<String>>,
    client_ip: Option<Values<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a record type's number or name")]
enum TypeValue {
    Number(i64),
    Name(String),
}

/// One condition, ready to be tested.
enum Condition {
    Operation(Names),
    Workload(Names),
    RecordType(Vec<i64>),
    User(Names),
    Organization(Names),
    ClientIp(Vec<IpNet>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

struct Field(Condition);

/// Builds a `field` filter.
pub(crate) fn build(context: Context) -> Result<Box<dyn Filter>> {
    let Context { options, .. } = context;
    let condition = Compiler(&options).table("", options.parse()?)?;
    Ok(Box::new(Field(condition)))
}

impl Filter for Field {
    fn apply(&self, event: AuditEvent) -> Option<AuditEvent> {
        self.0.holds(&event).then_some(event)
    }
}

impl Condition {
    fn holds(&self, event: &AuditEvent) -> bool {
        let fits = |names: &Names, text: Option<std::borrow::Cow<'_, str>>| {
            text.is_some_and(|text| names.contains(&text))
        };
        match self {
            Self::Operation(names) => fits(names, event.operation()),
            Self::Workload(names) => fits(names, event.workload()),
            Self::RecordType(types) => event
                .record_type()
                .is_some_and(|found| types.contains(&found.0)),
            Self::User(names) => fits(names, event.user_id()),
            Self::Organization(names) => fits(names, event.organization_id()),
            Self::ClientIp(nets) => event
                .client()
                .is_some_and(|(address, _port)| nets.iter().any(|net| net.contains(&address))),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(event)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(event)),
            Self::Not(condition) => !condition.holds(event),
        }
    }
}

/// An address or a network; IPv4 in IPv6 clothes counts as IPv4, as it does in events. `None` also for such a network
/// with a prefix that is too short for it: no event could fit it.
fn network(text: &str) -> Option<IpNet> {
    let Ok(network) = text.parse::<IpNet>() else {
        let address = text.parse::<IpAddr>().ok()?;
        return Some(address.to_canonical().into());
    };
    match network.addr().to_canonical() {
        IpAddr::V4(address) if matches!(network, IpNet::V6(_)) => {
            let prefix = network.prefix_len().checked_sub(128 - 32)?;
            IpNet::new(address.into(), prefix).ok()
        }
        _ => Some(network),
    }
}

/// Turns tables into conditions. Keys in errors are paths, as `all[1].client_ip`.
struct Compiler<'a>(&'a Options);

impl Compiler<'_> {
    /// Everything in one table must hold. The cheapest comes first: the client's address is not a header field.
    fn table(&self, path: &str, config: Config) -> Result<Condition> {
        let mut parts = Vec::new();
        if let Some(values) = config.record_type {
            parts.push(self.record_type(&key(path, "record_type"), values)?);
        }
        for (name, list, kind) in [
            (
                "operation",
                config.operation,
                Condition::Operation as fn(Names) -> Condition,
            ),
            ("workload", config.workload, Condition::Workload),
            ("user", config.user, Condition::User),
            ("organization", config.organization, Condition::Organization),
        ] {
            if let Some(list) = list {
                parts.push(kind(self.names(&key(path, name), &list)?));
            }
        }
        if let Some(not) = config.not {
            let condition = self.table(&key(path, "not"), *not)?;
            parts.push(Condition::Not(Box::new(condition)));
        }
        if let Some(list) = config.all {
            parts.push(Condition::All(self.list(&key(path, "all"), list)?));
        }
        if let Some(list) = config.any {
            parts.push(Condition::Any(self.list(&key(path, "any"), list)?));
        }
        if let Some(list) = config.client_ip {
            parts.push(self.client_ip(&key(path, "client_ip"), &list)?);
        }
        match parts.len() {
            0 => Err(self.0.invalid(
                if path.is_empty() { "all" } else { path },
                "at least one condition",
                "none",
            )),
            1 => Ok(parts.swap_remove(0)),
            _ => Ok(Condition::All(parts)),
        }
    }

    fn list(&self, path: &str, list: Vec<Config>) -> Result<Vec<Condition>> {
        if list.is_empty() {
            return Err(self.0.invalid(path, "a list of conditions", "an empty one"));
        }
        list.into_iter()
            .enumerate()
            .map(|(index, config)| self.table(&format!("{path}[{index}]"), config))
            .collect()
    }

    fn names(&self, path: &str, Values(list): &Values<String>) -> Result<Names> {
        Names::new(list.iter().map(String::as_str)).ok_or_else(|| {
            self.0
                .invalid(path, "a value or values", "an empty list or value")
        })
    }

    fn record_type(&self, path: &str, Values(list): Values<TypeValue>) -> Result<Condition> {
        if list.is_empty() {
            return Err(self.0.invalid(path, "record types", "an empty list"));
        }
        list.into_iter()
            .map(|value| match value {
                TypeValue::Number(number) => Ok(number),
                TypeValue::Name(name) => RecordType::from_name(&name)
                    .map(|found| found.0)
                    .ok_or_else(|| {
                        self.0
                            .invalid(path, "a record type's number or name", &name)
                    }),
            })
            .collect::<Result<_>>()
            .map(Condition::RecordType)
    }

    fn client_ip(&self, path: &str, Values(list): &Values<String>) -> Result<Condition> {
        if list.is_empty() {
            return Err(self
                .0
                .invalid(path, "addresses or networks", "an empty list"));
        }
        list.iter()
            .map(|text| {
                network(text).ok_or_else(|| {
                    self.0
                        .invalid(path, "an address or a network (10.0.0.0/8)", text)
                })
            })
            .collect::<Result<_>>()
            .map(Condition::ClientIp)
    }
}

fn key(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use audit_exporter_core::Kind;

    use super::*;
    use crate::testing::{context, event};

    const EVENT: &str = r#"{"Id":"1","CreationTime":"2026-03-01T10:00:00","Operation":"CreateFlow",
        "RecordType":30,"Workload":"MicrosoftFlow","UserId":"Ann@corp.example",
        "OrganizationId":"11111111-2222-3333-4444-555555555555","ClientIP":"10.1.2.3:443"}"#;

    fn passes(options: &str, record: &str) -> bool {
        let filter = build(context("filters.f", options)).unwrap();
        filter.apply(event(record)).is_some()
    }

    #[test]
    fn each_field_holds_for_a_value_that_fits_and_for_no_other() {
        for (fits, other) in [
            (r#"operation = "createflow""#, r#"operation = "Delete*""#),
            (
                r#"workload = ["X", "Microsoft*"]"#,
                r#"workload = "PowerApps""#,
            ),
            ("record_type = 30", "record_type = [31, 32]"),
            (
                r#"record_type = "microsoftflow""#,
                r#"record_type = "PowerAppsApp""#,
            ),
            (r#"user = "ann@*""#, r#"user = "bob@*""#),
            (
                r#"organization = "11111111-2222-3333-4444-555555555555""#,
                r#"organization = "other""#,
            ),
            (r#"client_ip = "10.0.0.0/8""#, r#"client_ip = "11.0.0.0/8""#),
            (r#"client_ip = "10.1.2.3""#, r#"client_ip = "10.1.2.4""#),
        ] {
            assert!(passes(fits, EVENT), "{fits}");
            assert!(!passes(other, EVENT), "{other}");
        }
    }

    #[test]
    fn fields_of_one_table_must_all_hold() {
        assert!(passes("workload = \"*Flow\"\nrecord_type = 30", EVENT));
        assert!(!passes("workload = \"*Flow\"\nrecord_type = 31", EVENT));
        assert!(!passes("workload = \"Other\"\nrecord_type = 30", EVENT));
    }

    #[test]
    fn conditions_nest() {
        let options = r#"
            all = [
                { workload = ["PowerApps", "MicrosoftFlow"] },
                { not = { user = ["*@partner.example"] } },
                { any = [ { client_ip = ["192.168.0.0/16"] }, { client_ip = ["10.0.0.0/8"] } ] },
            ]
        "#;
        assert!(passes(options, EVENT));
        assert!(!passes(
            options,
            &EVENT.replace("corp.example", "partner.example")
        ));
        assert!(!passes(options, &EVENT.replace("10.1.2.3", "172.16.0.1")));
        assert!(!passes(
            options,
            &EVENT.replace("MicrosoftFlow", "Exchange")
        ));
    }

    #[test]
    fn an_absent_field_satisfies_no_condition_but_its_negation() {
        for condition in [
            r#"operation = "*""#,
            r#"workload = "*""#,
            "record_type = 30",
            r#"user = "*""#,
            r#"organization = "*""#,
            r#"client_ip = ["0.0.0.0/0", "::/0"]"#,
        ] {
            assert!(!passes(condition, "{}"), "{condition}");
            assert!(
                passes(&format!("not = {{ {condition} }}"), "{}"),
                "{condition}"
            );
        }
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let ten = r#"client_ip = "10.0.0.0/8""#;
        for found in ["10.9.8.7", "10.9.8.7:50000", "::ffff:10.9.8.7"] {
            assert!(
                passes(ten, &format!(r#"{{"ClientIP":"{found}"}}"#)),
                "{found}"
            );
        }
        for (written, fits) in [
            ("::ffff:10.0.0.0/104", true),
            ("::ffff:10.9.8.7", true),
            ("::ffff:11.0.0.0/104", false),
            ("::/0", false),
        ] {
            let option = format!(r#"client_ip = "{written}""#);
            assert_eq!(
                passes(&option, r#"{"ClientIP":"10.9.8.7"}"#),
                fits,
                "{written}"
            );
        }
        assert!(passes(
            r#"client_ip = "2001:db8::/32""#,
            r#"{"ClientIP":"[2001:db8::1]:443"}"#
        ));
        assert!(!passes(ten, r#"{"ClientIP":"10.9.8.7.example"}"#));
    }

    #[test]
    fn the_client_is_the_one_that_the_normalized_event_has() {
        for first in ["<null>", "", "0.0.0.0", "client.example"] {
            let record = format!(r#"{{"ClientIP":"{first}","ClientIPAddress":"10.1.2.3"}}"#);
            assert!(passes(r#"client_ip = "10.0.0.0/8""#, &record), "{first}");
            let mut line = Vec::new();
            audit_exporter_core::event::normalized::write(&event(&record), &mut line);
            let line = String::from_utf8(line).unwrap();
            assert!(line.contains(r#""client_ip":"10.1.2.3""#), "{line}");
        }
    }

    #[test]
    fn an_error_names_the_place() {
        for (options, place) in [
            ("", "filters.f.all"),
            ("all = []", "filters.f.all"),
            ("any = [{ user = \"a\" }, {}]", "filters.f.any[1]"),
            (
                "all = [{ not = { client_ip = \"10/8\" } }]",
                "filters.f.all[0].not.client_ip",
            ),
            ("record_type = \"NoSuchType\"", "filters.f.record_type"),
            ("user = []", "filters.f.user"),
            ("client_ip = []", "filters.f.client_ip"),
            ("client_ip = \"::ffff:10.0.0.0/8\"", "filters.f.client_ip"),
            ("record_type = []", "filters.f.record_type"),
            ("all = [{ usr = \"a\" }]", "filters.f"),
        ] {
            let error = build(context("filters.f", options)).err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{options}");
            assert!(error.to_string().contains(place), "{options}: {error}");
        }
    }
}
