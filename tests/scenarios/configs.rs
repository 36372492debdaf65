//! Each file of `config/` does what its comments say.

use std::process::{Command, Stdio};

use audit_exporter_simulator::{Config, HecConfig, HecToken, Simulator};

use crate::program::{
    SECRET, Setup, blobs, expected, files, hashes, lines, microsoft, raw_of, tenant, with,
};

pub(super) const CONTOSO: &str = "11111111-2222-4333-8444-555555555501";
pub(super) const FABRIKAM: &str = "11111111-2222-4333-8444-555555555502";
pub(super) const APP: &str = "11111111-2222-4333-8444-5555555555a1";
const FABRIKAM_APP: &str = "11111111-2222-4333-8444-5555555555a2";
pub(super) const GENERAL: &str = "Audit.General";

pub(super) async fn contoso() -> Simulator {
    microsoft(vec![tenant(CONTOSO, APP)]).await
}

/// What was collected of a tenant, after it has been compared with the simulator's own account.
pub(super) fn collected(
    setup: &Setup,
    microsoft: &Simulator,
    name: &str,
    id: &str,
    types: &[&str],
) -> Vec<String> {
    let everything = lines(&setup.path(&format!("everything/{name}.ndjson")));
    let wanted = expected(microsoft, |tenant, content_type| {
        tenant == id && (types.is_empty() || types.contains(&content_type))
    });
    assert!(hashes(&everything) == wanted, "{name} is not complete");
    everything
}

/// Two sets of records, whatever their order.
pub(super) fn assert_same<'a>(found: &[String], wanted: impl IntoIterator<Item = &'a String>) {
    let wanted: Vec<&String> = wanted.into_iter().collect();
    assert!(!wanted.is_empty(), "the tenant has nothing to test with");
    assert_eq!(found.len(), wanted.len());
    assert!(hashes(found) == hashes(wanted), "other records");
}

/// All lines of the files below a folder.
pub(super) fn by_name(setup: &Setup, folder: &str) -> Vec<String> {
    let folder = setup.path(folder);
    let names = files(&folder);
    names
        .iter()
        .flat_map(|name| lines(&folder.join(name)))
        .collect()
}

/// All lines of the files below a folder whose names are days, as the configuration says.
pub(super) fn by_day(setup: &Setup, folder: &str) -> Vec<String> {
    let folder = setup.path(folder);
    let mut all = Vec::new();
    for name in files(&folder) {
        let day = name.strip_suffix(".ndjson").unwrap();
        assert_eq!(
            day.len(),
            "2026-03-01".len(),
            "{name}: more than a file a day"
        );
        let found = lines(&folder.join(&name));
        for line in &found {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            // What has no readable time goes to the day of its delivery.
            assert!(
                event["time"]
                    .as_str()
                    .is_none_or(|time| time.starts_with(day)),
                "{name}: {line}"
            );
        }
        all.extend(found);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn first_try_shows_one_activity() {
    let microsoft = contoso().await;
    let setup = Setup::of("first-try.toml")
        .at("contoso", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET);
    let shown = setup.run(blobs(&microsoft, |_, of| of == GENERAL)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[GENERAL]);
    let flows = with(&everything, "Operation", |name| {
        name.eq_ignore_ascii_case("CreateFlow")
    });
    assert_same(&raw_of(&shown), flows);
}

#[tokio::test(flavor = "multi_thread")]
async fn starter_kit_telemetry_has_the_launches_of_both_schemas() {
    let microsoft = contoso().await;
    let setup = Setup::of("starter-kit-telemetry.toml")
        .at("contoso", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET);
    setup.run(blobs(&microsoft, |_, of| of == GENERAL)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[GENERAL]);
    let launches = raw_of(&by_day(&setup, "data/app-launches"));
    assert_same(
        &launches,
        with(&everything, "Operation", |name| {
            name.eq_ignore_ascii_case("LaunchPowerApp")
        }),
    );
    for schema in ["\"RecordType\":45", "\"RecordType\":256"] {
        assert!(
            launches.iter().any(|launch| launch.contains(schema)),
            "{schema}"
        );
    }
    // tenant, environment, app, name, launches, …
    let counted: usize = rows_of_digest(&setup, "app-usage")
        .iter()
        .map(|row| row.split("\",\"").nth(4).unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(counted, launches.len());
}

/// What a digest holds, whenever it was: a line an event, as `digest preview --csv` writes it.
fn rows_of_digest(setup: &Setup, sink: &str) -> Vec<String> {
    let all = [
        "digest",
        "preview",
        "--csv",
        "--period",
        "0001-01-01..9999-12-30",
    ];
    let mut command = setup.command(&all);
    let preview = command.args(["--sink", sink]).output().unwrap();
    let said = String::from_utf8(preview.stderr).unwrap();
    assert!(preview.status.success(), "{said}");
    let csv = String::from_utf8(preview.stdout).unwrap();
    csv.trim_end().lines().skip(1).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_digest_has_a_row_for_each_new_and_each_edited_flow() {
    let microsoft = contoso().await;
    let setup = Setup::of("flows-digest.toml")
        .at("contoso", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET);
    setup.run(blobs(&microsoft, |_, of| of == GENERAL)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[GENERAL]);
    for (sink, operation) in [("new-flows", "CreateFlow"), ("edited-flows", "EditFlow")] {
        let rows = rows_of_digest(&setup, sink);
        let flows = with(&everything, "Operation", |name| {
            name.eq_ignore_ascii_case(operation)
        });
        assert!(!flows.is_empty(), "the tenant has nothing to test with");
        assert_eq!(rows.len(), flows.len(), "{sink}");
        for flow in flows {
            let Ok(flow) = serde_json::from_str::<serde_json::Value>(flow) else {
                continue;
            };
            let link = flow["FlowDetailsUrl"].as_str().unwrap_or_default();
            assert!(rows.iter().any(|row| row.contains(link)), "{link}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn siem_archive_has_every_record_byte_for_byte() {
    let microsoft = contoso().await;
    let setup = Setup::of("siem-archive.toml").secret_file("secret");
    let archive = setup.path("archive/{tenant}/{content_type}/{date}.ndjson");
    let secret = format!("{{ file = {:?} }}", setup.path("secret"));
    // Small files, so that the rotation shows.
    let setup = setup
        .at("contoso", &microsoft)
        .with("TENANTS__CONTOSO__CLIENT_SECRET", &secret)
        .with("SINKS__ARCHIVE__PATH", archive.to_str().unwrap())
        .with("SINKS__ARCHIVE__ROTATE_SIZE", "8KiB");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    let folder = setup.path("archive/contoso");
    let names = files(&folder);
    assert!(
        names.iter().any(|name| name.ends_with("-2.ndjson.gz")),
        "{names:?}"
    );
    for feed in [
        "Audit.AzureActiveDirectory",
        "Audit.Exchange",
        "Audit.SharePoint",
        GENERAL,
        "DLP.All",
    ] {
        assert!(
            names.iter().any(|name| name.starts_with(feed)),
            "{feed}: {names:?}"
        );
    }
    // As anybody would read it.
    let unpacked = Command::new("gzip")
        .arg("-dc")
        .args(names.iter().map(|name| folder.join(name)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(unpacked.status.success());
    let archived: Vec<String> = String::from_utf8(unpacked.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_same(&archived, &everything);
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread")]
async fn kafka_has_every_record_in_the_topic_of_its_content_type() {
    let brokers = crate::kafka::Brokers::new(&["audit-exporter-positions"]);
    let microsoft = contoso().await;
    let setup = Setup::of("kafka.toml")
        .at("contoso", &microsoft)
        .with(
            "SINKS__EVENTS__BROKERS",
            &format!("[{:?}]", brokers.address()),
        )
        .variable("M365_CLIENT_SECRET", SECRET);
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 broker in the cluster"), "{said}");
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    let types = [
        "Audit.AzureActiveDirectory",
        "Audit.Exchange",
        "Audit.SharePoint",
        GENERAL,
        "DLP.All",
    ];
    let mut delivered = Vec::new();
    for content_type in types {
        let found = brokers.values(&format!("m365.contoso.{content_type}"));
        let wanted = expected(&microsoft, |_, of| of == content_type);
        assert!(hashes(&found) == wanted, "{content_type}");
        delivered.extend(found);
    }
    assert_same(&delivered, &everything);
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_has_each_customers_events_in_its_own_index() {
    let token = |name: &str| HecToken {
        token: format!("token-of-{name}"),
        indexes: vec![format!("{name}_audit")],
        ..HecToken::default()
    };
    let microsoft = Simulator::start(Config {
        tenants: vec![tenant(CONTOSO, APP), tenant(FABRIKAM, FABRIKAM_APP)],
        hec: HecConfig {
            tokens: vec![token("contoso"), token("fabrikam")],
            ..HecConfig::default()
        },
        ..Config::default()
    })
    .await
    .unwrap();
    let setup = Setup::of("splunk.toml")
        .at("contoso", &microsoft)
        .at("fabrikam", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET)
        .variable("SPLUNK_TOKEN", "token-of-contoso")
        .variable("SPLUNK_TOKEN_FABRIKAM", "token-of-fabrikam")
        .with("SINKS__SPLUNK__URLS", &format!("[\"{}\"]", microsoft.url()));
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("takes the token"), "{said}");
    setup.run(blobs(&microsoft, |_, _| true)).await;
    for (name, id) in [("contoso", CONTOSO), ("fabrikam", FABRIKAM)] {
        let everything = collected(&setup, &microsoft, name, id, &[]);
        let own = microsoft.hec_events().into_iter();
        let own = own.filter(|event| event.index == format!("{name}_audit"));
        let own: Vec<String> = own
            .inspect(|event| {
                assert_eq!(event.host.as_deref(), Some(name));
                assert_eq!(
                    event.sourcetype.as_deref(),
                    Some("o365:management:activity")
                );
            })
            .map(|event| {
                let record = event.event.get();
                // What is no JSON object travels as text.
                let text = serde_json::from_str(record).unwrap_or_else(|_| record.to_owned());
                text.replace(['\r', '\n'], " ")
            })
            .collect();
        assert_same(&own, &everything);
    }
}

#[test]
fn no_configuration_is_left_untested() {
    let tested = concat!(
        include_str!("configs.rs"),
        include_str!("siem.rs"),
        include_str!("sources.rs"),
        include_str!("tenants.rs")
    );
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in files(&folder).iter().filter(|name| name.contains(".toml")) {
        assert!(
            tested.contains(&format!("Setup::of(\"{name}\")")),
            "{name} has no test"
        );
    }
}
