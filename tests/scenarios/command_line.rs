//! What a person meets: messages, exit codes, and output that can be piped.

use std::process::{Command, Output};

use crate::program::{SECRET, Setup, blobs, microsoft, tenant};

const CONTOSO: &str = "11111111-2222-4333-8444-555555555501";
const APP: &str = "11111111-2222-4333-8444-5555555555a1";

fn program(args: &[&str]) -> (Option<i32>, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_audit-exporter"));
    said(&program.args(args).output().unwrap())
}

fn said(done: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn wrong_arguments_are_told_from_a_wrong_configuration() {
    let (code, _, told) = program(&["run"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("--config <FILE>"), "{told}");
    for command in [&["run"][..], &["check"], &["sinks", "status"]] {
        let (code, _, told) = program(&[command, &["--config", "/no/such/file.toml"]].concat());
        assert_eq!(code, Some(78), "{told}");
        assert!(
            told.contains("there is no file /no/such/file.toml"),
            "{told}"
        );
    }
}

#[test]
fn the_demo_proves_itself_and_can_be_piped() {
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    let (code, out, log) = program(&[
        "demo",
        "--events",
        "1000",
        "--folder",
        demo.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0), "{out}{log}");
    assert!(log.is_empty(), "{log}");
    assert!(!out.contains('\x1b'), "{out}");
    assert!(
        out.starts_with("A simulated tenant has 1,000 events"),
        "{out}"
    );
    assert!(out.contains("\nComplete after "), "{out}");
    assert!(
        out.contains("1,000 in the files: 0 missing, 0 twice, 0 foreign"),
        "{out}"
    );
    let (code, _, told) = program(&["demo", "--folder", demo.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{told}");
    assert!(
        told.contains("name a folder that does not exist yet"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong_with_a_secret() {
    let microsoft = microsoft(vec![tenant(CONTOSO, APP)]).await;
    let setup = Setup::of("first-try.toml").at("contoso", &microsoft);
    for (secret, code, told) in [
        (SECRET, 0, "It will work; there is a warning."),
        ("not the secret", 78, "AADSTS7000215"),
        ("", 78, "M365_CLIENT_SECRET is empty"),
    ] {
        let (found, said) = setup.check_with("M365_CLIENT_SECRET", secret);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(told), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_sink_is_named_and_can_be_forgotten() {
    let microsoft = microsoft(vec![tenant(CONTOSO, APP)]).await;
    let setup = Setup::of("starter-kit-telemetry.toml")
        .at("contoso", &microsoft)
        .variable("M365_CLIENT_SECRET", SECRET);
    let sinks = |setup: &Setup, args: &[&str]| {
        said(
            &setup
                .command(&[&["sinks"], args].concat())
                .output()
                .unwrap(),
        )
    };
    let (code, _, told) = sinks(&setup, &["status"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("there is no journal"), "{told}");
    assert!(!setup.path("journal").exists(), "looking makes nothing");

    setup
        .run(blobs(&microsoft, |_, of| of == "Audit.General"))
        .await;
    let (code, out, told) = sinks(&setup, &["status"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(out.lines().count(), 3, "{out}");
    let (code, _, told) = sinks(&setup, &["forget", "everything"]);
    assert_eq!(code, Some(78), "{told}");

    // The environment alone had made it.
    let setup = setup.without("SINKS__EVERYTHING");
    let (code, said) = setup.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("sinks forget everything"), "{said}");
    let (code, out, told) = sinks(&setup, &["forget", "everything"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(out.contains("is forgotten"), "{out}");
    let (code, out, _) = sinks(&setup, &["status"]);
    assert!(code == Some(0) && !out.contains("everything"), "{out}");
    let (code, _, told) = sinks(&setup, &["forget", "everything"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("knows no sink everything"), "{told}");
}
