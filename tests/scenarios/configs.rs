//! Each file of `config/` does what its comments say.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};

use audit_exporter_core::coverage::{Coverage, Question};
use audit_exporter_simulator::{
    Config, Generated, HecConfig, HecToken, Records, Simulator, TenantConfig,
};
use chrono::{TimeDelta, Utc};

use crate::program::{
    SECRET, Setup, blobs, expected, files, hashes, lines, microsoft, raw_of, tenant, with,
};

pub(super) const CONTOSO: &str = "11111111-2222-4333-8444-555555555501";
const FABRIKAM: &str = "11111111-2222-4333-8444-555555555502";
const TAILSPIN: &str = "11111111-2222-4333-8444-555555555503";
const AGENCY: &str = "11111111-2222-4333-8444-555555555504";
const APP: &str = "11111111-2222-4333-8444-5555555555a1";
const FABRIKAM_APP: &str = "11111111-2222-4333-8444-5555555555a2";
const TAILSPIN_APP: &str = "11111111-2222-4333-8444-5555555555a3";
const AGENCY_APP: &str = "11111111-2222-4333-8444-5555555555a4";
const GENERAL: &str = "Audit.General";

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

/// All lines of the files below a folder whose names are days, as the configuration says.
fn by_day(setup: &Setup, folder: &str) -> Vec<String> {
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

#[tokio::test(flavor = "multi_thread")]
async fn many_tenants_stay_in_their_folders() {
    let microsoft = microsoft(vec![
        tenant(CONTOSO, APP),
        tenant(FABRIKAM, APP),
        tenant(TAILSPIN, TAILSPIN_APP),
    ])
    .await;
    let setup = Setup::of("many-tenants.toml")
        .at("contoso", &microsoft)
        .at("fabrikam", &microsoft)
        .at("tailspin", &microsoft)
        .secret_file("secrets/contoso")
        .secret_file("secrets/tailspin");
    let few = ["Audit.AzureActiveDirectory", GENERAL];
    let wanted = |tenant: &str, of: &str| tenant != FABRIKAM || few.contains(&of);
    setup.run(blobs(&microsoft, wanted)).await;
    let contoso = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    let fabrikam = collected(&setup, &microsoft, "fabrikam", FABRIKAM, &few);
    let tailspin = collected(&setup, &microsoft, "tailspin", TAILSPIN, &[]);

    let archived = |name: &str| {
        let folder = setup.path(&format!("data/customers/{name}"));
        let mut all = Vec::new();
        for file in files(&folder) {
            assert!(file.ends_with(".ndjson.zst"), "{file}");
            let unpacked =
                zstd::decode_all(std::fs::File::open(folder.join(file)).unwrap()).unwrap();
            all.extend(
                String::from_utf8(unpacked)
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
        }
        all
    };
    assert_same(&archived("contoso"), &contoso);
    assert_same(&archived("fabrikam"), &fabrikam);
    assert!(!setup.path("data/customers/tailspin").exists());
    let agency = setup.path("data/agency");
    let own = files(&agency);
    assert_eq!(own.len(), 5, "a plain file for each content type: {own:?}");
    let own: Vec<String> = own
        .iter()
        .flat_map(|name| lines(&agency.join(name)))
        .collect();
    let whole: Vec<String> = own
        .into_iter()
        .filter(|line| line.contains("\"raw\":"))
        .collect();
    let valid = tailspin
        .iter()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert_same(&raw_of(&whole), valid);

    assert_eq!(
        files(&setup.path("data/analysts")),
        ["contoso.ndjson", "fabrikam.ndjson"]
    );
    for (name, all) in [("contoso", &contoso), ("fabrikam", &fabrikam)] {
        let changes = all.iter().filter(|line| {
            let Ok(record) = serde_json::from_str::<serde_json::Value>(line) else {
                return false;
            };
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_lowercase();
            text("Workload") == "microsoftflow"
                || (text("Workload") == "azureactivedirectory"
                    && !text("Operation").starts_with("userlog"))
        });
        assert_same(
            &raw_of(&lines(&setup.path(&format!("data/analysts/{name}.ndjson")))),
            changes,
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gcc_high_asks_for_tokens_of_its_own_cloud() {
    let microsoft = microsoft(vec![tenant(AGENCY, AGENCY_APP)]).await;
    let setup = Setup::of("gcc-high.toml")
        .at("agency", &microsoft)
        .secret_file("secrets/agency");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("cloud gcc_high"), "{said}");
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "agency", AGENCY, &[]);
    let folder = setup.path("data/agency");
    let archived: Vec<String> = files(&folder)
        .iter()
        .flat_map(|name| lines(&folder.join(name)))
        .collect();
    assert_same(&archived, &everything);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_takes_the_place_of_a_secret() {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let registered = std::fs::read_to_string(certificates.join("app.crt")).unwrap();
    let microsoft = microsoft(vec![TenantConfig {
        certificates: vec![registered],
        ..tenant(CONTOSO, APP)
    }])
    .await;
    let setup = Setup::of("certificate.toml").at("contoso", &microsoft);
    let (code, said) = setup.check();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("secrets/app.crt cannot be read"), "{said}");
    std::fs::create_dir(setup.path("secrets")).unwrap();
    for (from, to) in [("other.crt", "app.crt"), ("other.key", "app.key")] {
        std::fs::copy(certificates.join(from), setup.path("secrets").join(to)).unwrap();
    }
    let (code, said) = setup.check();
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("AADSTS700027: the certificate is not registered"),
        "{said}"
    );
    for name in ["app.crt", "app.key"] {
        std::fs::copy(certificates.join(name), setup.path("secrets").join(name)).unwrap();
    }
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("certificate CN=audit-exporter tests (thumbprint "),
        "{said}"
    );
    setup.run(blobs(&microsoft, |_, _| true)).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    let folder = setup.path("data/contoso");
    let archived: Vec<String> = files(&folder)
        .iter()
        .flat_map(|name| lines(&folder.join(name)))
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

/// Asks for each way in which `legacy-search.toml` can be read.
async fn legacy_search(change: impl Fn(Setup) -> Setup) -> (Simulator, Setup) {
    let microsoft = contoso().await;
    let setup = Setup::of("legacy-search.toml")
        .at("contoso", &microsoft)
        .with("TENANTS__CONTOSO__EXCHANGE_API", microsoft.url())
        .variable("M365_CLIENT_SECRET", SECRET)
        .with("SOURCES__SEARCH__REQUESTS_PER_MINUTE", "10000")
        .with("SOURCES__SEARCH__SETTLE", "0s")
        .with("SOURCES__SEARCH__SLICE", "1m");
    let setup = change(setup);
    let once = setup.command(&["run", "--once"]).output().unwrap();
    let said = String::from_utf8(once.stderr).unwrap();
    assert!(once.status.success(), "{said}");
    (microsoft, setup)
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_search_has_the_new_and_the_edited_flows() {
    let (microsoft, setup) = legacy_search(|setup| setup).await;
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Exchange.ManageAsApp"), "{said}");
    let flows = lines(&setup.path("everything/contoso.ndjson"));
    let wanted = expected(&microsoft, |_, _| true);
    assert!(!flows.is_empty() && hashes(&flows).iter().all(|flow| wanted.contains(flow)));
    let is_flow = |name: &str| ["createflow", "editflow"].contains(&name.to_lowercase().as_str());
    assert_eq!(with(&flows, "Operation", is_flow).len(), flows.len());
    assert_same(&raw_of(&by_day(&setup, "data/flows")), &flows);
    // The same by the older service, with an account in place of the app.
    let account = format!("auditor@{}.onmicrosoft.com", &CONTOSO[CONTOSO.len() - 4..]);
    let (_other, older) = legacy_search(|setup| {
        setup
            .with("SOURCES__SEARCH__TRANSPORT", "rest")
            .with("SOURCES__SEARCH__USERNAME", &account)
            .with("SOURCES__SEARCH__PASSWORD", "simulator-password")
    })
    .await;
    let (code, said) = older.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Microsoft has retired"), "{said}");
    let found = lines(&older.path("everything/contoso.ndjson"));
    assert_eq!(found.len(), flows.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_audit_brings_each_event_once_though_two_sources_have_it() {
    let records = Records::Generated(Generated {
        events: 2_000,
        // Only an Id says that two sources have the same event.
        oddities: 0.0,
        huge_records: 0.0,
        ..Generated::default()
    });
    let contoso = TenantConfig {
        records,
        ..tenant(CONTOSO, APP)
    };
    let microsoft = microsoft(vec![contoso]).await;
    let setup = Setup::of("graph-audit.toml")
        .at("contoso", &microsoft)
        .with("SOURCES__QUERIES__POLL_INTERVAL", "1s")
        .variable("M365_CLIENT_SECRET", SECRET);
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("audit log queries"), "{said}");
    let blobs = blobs(&microsoft, |_, _| true);
    let all = |setup: &Setup| {
        let queries = microsoft.stats().audit_queries as usize;
        has_searched(setup) && setup.is_settled(blobs + queries)
    };
    setup.run_until(all).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    assert_same(&by_name(&setup, "data/contoso"), &everything);
    let repeats: i64 = coverage(&setup).tenants[0]
        .rows
        .iter()
        .map(|row| row.events.repeats)
        .sum();
    // All but the oldest and the newest came by both.
    assert!(repeats > 1_000, "{repeats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_brings_what_is_new_long_before_the_next_poll() {
    let microsoft = contoso().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    let setup = Setup::of("webhook.toml")
        .at("contoso", &microsoft)
        .with("WEBHOOKS__LISTEN", &listen)
        .with("WEBHOOKS__PUBLIC_URL", &format!("http://{listen}/audit"))
        .variable("M365_CLIENT_SECRET", SECRET)
        .variable("WEBHOOK_AUTH_ID", "a-word-that-only-microsoft-knows");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("/audit/activity/contoso does not answer"),
        "{said}"
    );
    let first = blobs(&microsoft, |_, _| true);
    // Once the first poll is over, the next is a quarter of an hour away.
    let wanted = Cell::new(first);
    let has_all = |setup: &Setup| {
        if !setup.is_settled(wanted.get()) {
            return false;
        }
        if wanted.get() > first {
            return true;
        }
        let more = Generated {
            events: 200,
            days: 0.01,
            ..Generated::default()
        };
        let added = microsoft.control().add_events(CONTOSO, more);
        wanted.set(first + added.unwrap().len());
        false
    };
    setup.run_until(has_all).await;
    let everything = collected(&setup, &microsoft, "contoso", CONTOSO, &[]);
    assert_same(&by_name(&setup, "data/contoso"), &everything);
    assert!(microsoft.stats().notifications > 0);
}

/// All lines of the files below a folder.
fn by_name(setup: &Setup, folder: &str) -> Vec<String> {
    let folder = setup.path(folder);
    let names = files(&folder);
    names
        .iter()
        .flat_map(|name| lines(&folder.join(name)))
        .collect()
}

fn coverage(setup: &Setup) -> Coverage {
    let question = Question::usual(Utc::now());
    Coverage::read(&setup.path("journal"), &question, str::to_owned).unwrap()
}

/// Whether Graph has been searched up to the last slice that is due.
fn has_searched(setup: &Setup) -> bool {
    let question = Question::usual(Utc::now());
    let Ok(coverage) = Coverage::read(&setup.path("journal"), &question, str::to_owned) else {
        return false;
    };
    let due = (Utc::now() - TimeDelta::minutes(80)).timestamp_millis();
    let mut passes = coverage.tenants.iter().flat_map(|tenant| &tenant.passes);
    passes.any(|pass| {
        pass.source == "queries" && pass.listed_to_ms.get("poll").is_some_and(|to| *to > due)
    })
}

#[test]
fn no_configuration_is_left_untested() {
    let tested = concat!(include_str!("configs.rs"), include_str!("siem.rs"));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in files(&folder).iter().filter(|name| name.contains(".toml")) {
        assert!(
            tested.contains(&format!("Setup::of(\"{name}\")")),
            "{name} has no test"
        );
    }
}
