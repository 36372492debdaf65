//! Every occurrence that repeats no other is in the file exactly once, bytes identical to what was served, and nothing
//! else.

use std::path::PathBuf;

use audit_exporter_simulator::{
    Config, Faults, Folder, Generated, Records, TenantConfig, TokenFaults,
};

use serde_json::json;

use crate::exporter::{Home, wait_until};
use crate::microsoft::Microsoft;

const SOURCE: &str = "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n";
const SINKS: &str = r#"
[sinks.plain]
type = "file"
path = "plain/{content_type}.ndjson"

[sinks.gzip]
type = "file"
path = "gzip/{tenant}/{date}/{workload}.ndjson"
compression = "gzip"
rotate_size = "256KiB"
"#;

/// Everything that can go wrong at once. The service's answers ask for no waiting, so that a test needs none.
fn all_faults(seed: u64) -> Faults {
    let all = Faults::all(seed);
    Faults {
        retry_after_seconds: Some(0),
        tokens: TokenFaults {
            retry_after_seconds: Some(0),
            // Tokens outlive the day that `collect` lets pass at once.
            lifetime_seconds: 172_800,
            ..all.tokens.clone()
        },
        ..all
    }
}

/// One tenant with these records, collected into a plain and a compressed sink until all is there, and compared.
fn collect(seed: u64, days: f64, records: Records, faults: Faults) {
    let shows_up_late = faults.records.late_blob > 0.0;
    let microsoft = Microsoft::start(Config {
        seed,
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        faults,
        ..Config::default()
    });
    let tenant = microsoft.tenant(0, "contoso", "requests_per_minute = 100000");
    // A content type may be listed for the first time only after the day that passes below.
    let hours = ((days + 1.0) * 24.0).ceil().min(168.0);
    let home = Home::new(&format!("{tenant}{SOURCE}start = \"{hours}h\"\n{SINKS}"));
    let mut exporter = home.run_with(|command| {
        // For when it fails.
        command.env(
            "RUST_LOG",
            "info,audit_exporter_core=debug,audit_exporter_plugins=debug",
        );
    });
    if shows_up_late {
        wait_until("something was listed", || {
            exporter.sum("units_listed_total", &[]) > Some(0.0)
        });
        // What shows up in hours that were listed before is found when they are listed again, at the latest a day on.
        microsoft.control("clock", &json!({"advance_seconds": 86_400}));
    }
    exporter.await_drained(microsoft.blobs());
    let log = exporter.stop();
    assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    for sink in ["plain", "gzip"] {
        microsoft.judge(&home.path(sink), None);
    }
    // What was thrown at it must not have made it send a token anywhere else.
    assert_eq!(microsoft.stats()["foreign_tokens"], 0);
}

/// The folder of real records, or a word that there is none.
fn real_records() -> Option<PathBuf> {
    let folder = std::env::var_os("AUDIT_EXPORTER_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        crate::skipped("AUDIT_EXPORTER_TEST_DATA names no folder of real records");
    }
    folder
}

#[test]
fn every_real_record_arrives_once() {
    if let Some(folder) = real_records() {
        collect(1, 6.5, real(folder, 6.5), Faults::default());
    }
}

#[test]
fn every_real_record_arrives_once_under_all_faults() {
    if let Some(folder) = real_records() {
        let faults = all_faults(2);
        collect(2, 0.9, real(folder, 0.9), faults);
    }
}

/// Every record of the folder, spread over so many days.
fn real(path: PathBuf, days: f64) -> Records {
    Records::Folder(Folder {
        path,
        records_per_blob: 3,
        days,
    })
}

/// Events of the last day, odd ones three times as often as in published records, under all faults.
fn generated_under_all_faults(events: u64, seed: u64) {
    let generated = Generated {
        events,
        events_per_blob: 100,
        days: 0.9,
        oddities: 3.0,
        ..Generated::default()
    };
    collect(seed, 0.9, Records::Generated(generated), all_faults(seed));
}

#[test]
fn twenty_thousand_events_arrive_once_under_all_faults() {
    generated_under_all_faults(20_000, 3);
}

#[test]
#[ignore = "takes minutes without optimization; tests/scale/run runs it"]
fn two_hundred_thousand_events_arrive_once_under_all_faults() {
    generated_under_all_faults(200_000, 4);
}
