//! Starting, stopping, and sinks that come and go.

use audit_exporter_simulator::{Config, Faults, Generated, RecordFaults, Records, TenantConfig};
use serde_json::json;

use crate::exporter::{Home, wait_until};
use crate::microsoft::Microsoft;

const SOURCE: &str = "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n";

/// A file sink that writes below a folder of its own name.
fn sink(name: &str, more: &str) -> String {
    format!("[sinks.{name}]\ntype = \"file\"\npath = \"{name}/{{content_type}}.ndjson\"\n{more}\n")
}

fn microsoft(events: u64) -> Microsoft {
    let records = Records::Generated(Generated {
        events,
        ..Generated::default()
    });
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        ..Config::default()
    })
}

/// More events, which appear at once.
fn add_events(microsoft: &Microsoft, events: u64) {
    let generated = json!({"events": events, "days": 0.01});
    microsoft.control(
        "events",
        &json!({"tenant": microsoft.id(0), "generated": generated}),
    );
}

/// Stops a run in mid-work by `signal`; a second run must complete the work.
fn assert_stops_in_order(signal: &str) {
    let microsoft = microsoft(4_000);
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!("{tenant}{SOURCE}{}", sink("archive", "")));
    let mut exporter = home.run();
    wait_until("something is delivered", || {
        exporter.sum("events_delivered_total", &[]) > Some(0.0)
    });
    exporter.signal(signal);
    assert!(exporter.ended().success());
    let log = exporter.log();
    assert!(
        log.contains("\"message\":\"stopping: delivering what is journaled\""),
        "{log}"
    );
    assert!(
        log.contains("\"message\":\"stopped; nothing waits\""),
        "{log}"
    );
    let status = home.status().unwrap();
    assert_eq!(status["sinks"][0]["pending"], 0, "{status}");
    assert_ne!(status["sinks"][0]["delivered"], 0, "{status}");
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn ctrl_c_drains_and_tells() {
    assert_stops_in_order("-INT");
}

#[test]
fn sigterm_drains_and_tells() {
    assert_stops_in_order("-TERM");
}

#[test]
fn a_sink_that_is_down_holds_up_no_other_and_loses_nothing() {
    let microsoft = microsoft(1_000);
    let tenant = microsoft.tenant(0, "contoso", "");
    let sinks = sink("good", "") + &sink("bad", "");
    let home = Home::new(&format!("{tenant}{SOURCE}{sinks}"));
    std::fs::write(home.path("bad"), "a file where the folder should be").unwrap();
    let mut exporter = home.run();
    let expected = "delivering failed, will be retried";
    exporter.await_log(expected);
    wait_until("the good sink has everything that is journaled", || {
        let status = home.status().unwrap();
        let fetched: u64 = status["tenants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|unit| unit["fetched"].as_u64().unwrap())
            .sum();
        let good = &status["sinks"][1];
        assert_eq!(good["sink"], "good");
        fetched == microsoft.blobs() && good["pending"] == 0
    });
    microsoft.judge(&home.path("good"), None);
    let ready = exporter
        .address()
        .map(|address| crate::http::get(address, "/readyz"));
    let refusal = ready.unwrap().unwrap_err();
    assert!(
        refusal.contains("HTTP 503") && refusal.contains("sink bad does not work"),
        "{refusal}"
    );
    // It is still down after a restart.
    exporter.stop();
    let mut exporter = home.run();
    wait_until("the sink is tried again", || {
        exporter.log().matches(expected).count() == 2
    });
    std::fs::remove_file(home.path("bad")).unwrap();
    exporter.await_drained(microsoft.blobs());
    let log = exporter.stop();
    assert!(log.contains("delivering works again"), "{log}");
    microsoft.judge(&home.path("bad"), None);
    microsoft.judge(&home.path("good"), None);
}

#[test]
fn a_renamed_sink_goes_on_where_it_was() {
    let microsoft = microsoft(500);
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!("{tenant}{SOURCE}{}", sink("archive", "")));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    add_events(&microsoft, 300);
    let renamed =
        sink("archive", "renamed_from = \"archive\"").replace("sinks.archive", "sinks.vault");
    home.configure(&format!("{tenant}{SOURCE}{renamed}"));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    let log = exporter.stop();
    assert!(!log.contains("left the configuration"), "{log}");
    let status = home.status().unwrap();
    assert_eq!(status["sinks"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["sinks"][0]["sink"], "vault", "{status}");
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn a_sink_that_left_the_configuration_is_named_and_can_be_forgotten() {
    let microsoft = microsoft(200);
    let tenant = microsoft.tenant(0, "contoso", "");
    let both = sink("stays", "") + &sink("leaves", "");
    let home = Home::new(&format!("{tenant}{SOURCE}{both}"));
    // Down, so that its cursor holds data.
    std::fs::write(home.path("leaves"), "a file where the folder should be").unwrap();
    let mut exporter = home.run();
    exporter.await_log("delivering failed, will be retried");
    exporter.stop();
    home.configure(&format!("{tenant}{SOURCE}{}", sink("stays", "")));
    let mut exporter = home.run();
    exporter.await_log(
        "this sink left the configuration and its cursor holds data; `audit-exporter sinks forget leaves` frees it",
    );
    let shown = home.ask(&["sinks", "status"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let row = |sink: &str| shown.stdout.lines().find(|line| line.starts_with(sink));
    assert!(
        row("leaves").unwrap().ends_with("not configured any more"),
        "{}",
        shown.stdout
    );
    assert!(
        row("stays").unwrap().contains("contoso"),
        "{}",
        shown.stdout
    );

    let refused = home.ask(&["sinks", "forget", "stays"]);
    assert_eq!(
        (refused.code, &*refused.stderr),
        (
            78,
            "audit-exporter: sink stays is in the configuration; remove it there first\n"
        )
    );
    let unknown = home.ask(&["sinks", "forget", "never"]);
    assert_eq!(
        (unknown.code, &*unknown.stderr),
        (78, "audit-exporter: the journal knows no sink never\n")
    );
    // Through the process that runs.
    let forgotten = home.ask(&["sinks", "forget", "leaves"]);
    assert_eq!(
        (forgotten.code, &*forgotten.stdout),
        (0, "sink leaves is forgotten; what only it held is freed\n"),
        "{forgotten:?}"
    );
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    // Through the journal itself.
    let again = home.ask(&["sinks", "forget", "leaves"]);
    assert_eq!(
        (again.code, &*again.stderr),
        (78, "audit-exporter: the journal knows no sink leaves\n")
    );
    microsoft.judge(&home.path("stays"), None);
}

#[test]
fn no_secret_shows_in_the_most_talkative_log() {
    // With characters that change their look on the way into a form.
    let secret = "s3cr+t/of=the&app~7";
    let on_the_wire = "s3cr%2Bt%2Fof%3Dthe%26app%7E7";
    let microsoft = Microsoft::start(Config {
        tenants: vec![TenantConfig {
            client_secret: secret.to_owned(),
            records: Records::Generated(Generated {
                events: 200,
                days: 0.02,
                ..Generated::default()
            }),
            ..TenantConfig::default()
        }],
        // Failures are logged too.
        faults: Faults {
            retry_after_seconds: Some(0),
            records: RecordFaults::default(),
            ..Faults::all(5)
        },
        ..Config::default()
    });
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!(
        "{tenant}{SOURCE}start = \"1h\"\n{}",
        sink("archive", "")
    ));
    let mut exporter = home.run_with(|command| {
        command.env("RUST_LOG", "trace");
    });
    exporter.await_drained(microsoft.blobs());
    let control = std::fs::read_to_string(home.path("journal/control.token")).unwrap();
    let log = exporter.stop();
    assert!(
        log.contains("\"level\":\"TRACE\""),
        "the log is not talkative"
    );
    // Every token of the simulator begins like this: it is the same first claim.
    for hidden in [secret, on_the_wire, "eyJ0eXAiOiJKV1Qi", control.trim()] {
        let line = log.lines().find(|line| line.contains(hidden));
        assert_eq!(line, None, "{hidden}");
    }
}

#[test]
fn a_reader_that_has_ended_ends_the_program_and_what_is_left_waits() {
    let microsoft = microsoft(300);
    let tenant = microsoft.tenant(0, "contoso", "");
    let out = "[sinks.out]\ntype = \"stdout\"\n";
    let home = Home::new(&format!("{tenant}{SOURCE}{out}"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut exporter = home.run_with(|command| {
        command.stdout(writer);
    });
    assert_eq!(exporter.ended().code(), Some(1));
    let log = exporter.log();
    assert!(
        log.ends_with(
            "audit-exporter: sink out: delivering: standard output is closed: the program that read it has ended: \
             Broken pipe (os error 32)\n"
        ),
        "{log}"
    );
    let status = home.status().unwrap();
    assert_eq!(status["sinks"][0]["delivered"], 0, "{status}");
    assert_ne!(status["sinks"][0]["pending"], 0, "{status}");
}
