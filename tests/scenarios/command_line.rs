//! What a person meets: messages, exit codes, and output that can be piped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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
fn a_code_is_explained_and_an_unknown_one_is_a_wrong_argument() {
    for code in [&["AADSTS7000215"][..], &["7000215"]] {
        let (status, out, _) = program(&[&["explain"], code].concat());
        assert_eq!(status, Some(0));
        assert_eq!(
            out,
            "AADSTS7000215, Microsoft Entra, which issues tokens\n  meaning     the client secret is wrong\n  what to do  \
             give the secret's value, not the secret's ID\n  data lost   not yet: collecting waits, and goes on by itself \
             when this is mended. The Management Activity API lists the last 7 days and no more; Graph audit queries and \
             Search-UnifiedAuditLog reach as far back as the tenant keeps its audit log\n  Microsoft   \
             https://login.microsoftonline.com/error?code=7000215\n"
        );
    }
    let (status, out, _) = program(&["explain", "HTTP", "403"]);
    assert_eq!(status, Some(0));
    assert!(
        out.contains("HTTP 403, the Office 365 Management Activity API\n"),
        "{out}"
    );
    assert!(out.contains("\n\nHTTP 403, Exchange Online"), "{out}");
    let (status, out, told) = program(&["explain", "AF20O22"]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert_eq!(
        told,
        "audit-exporter: the code \"AF20O22\" is not known here; did you mean AF20022?\n"
    );
    let (status, _, told) = program(&["explain"]);
    assert_eq!(status, Some(2), "{told}");
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

#[test]
fn a_demo_behind_a_proxy_ends() {
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_audit-exporter"))
        .args(["demo", "--events", "200", "--folder"])
        .arg(folder.path().join("demo"))
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("NO_PROXY", "")
        .output()
        .unwrap();
    let (code, out, log) = said(&done);
    assert_eq!(code, Some(0), "{out}{log}");
    assert!(out.contains("\nComplete after "), "{out}");
}

#[test]
fn a_demo_that_is_broken_off_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_audit-exporter"))
        .args(["demo", "--folder"])
        .arg(folder.path().join("demo"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("Metrics: ") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended");
    }
    // Another process: there is nothing to wait for but time.
    std::thread::sleep(Duration::from_millis(50));
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let (code, _, log) = said(&demo.wait_with_output().unwrap());
    assert_eq!((code, log.as_str()), (Some(0), ""), "{rest}");
    assert!(rest.contains("Broken off after "), "{rest}");
    assert!(!rest.contains("COMPLETE"), "{rest}");
}

/// A journal as a process leaves it that was killed, and whoever listens where it listened.
struct Abandoned {
    setup: Setup,
    listener: TcpListener,
}

impl Abandoned {
    async fn new() -> Self {
        let microsoft = microsoft(vec![tenant(CONTOSO, APP)]).await;
        let setup = Setup::of("starter-kit-telemetry.toml")
            .at("contoso", &microsoft)
            .variable("M365_CLIENT_SECRET", SECRET);
        setup
            .run(blobs(&microsoft, |_, of| of == "Audit.General"))
            .await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::fs::write(setup.path("journal/control.address"), address).unwrap();
        let setup = setup.without("SINKS__EVERYTHING");
        Self { setup, listener }
    }

    fn forget(&self, name: &str) -> Command {
        self.setup.command(&["sinks", "forget", name])
    }

    fn hold(&self) -> std::fs::File {
        let lock = std::fs::File::open(self.setup.path("journal/lock")).unwrap();
        lock.lock().unwrap();
        lock
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_not_sent_to_whoever_listens_where_a_killed_process_did() {
    let left = Abandoned::new().await;
    let (code, out, told) = said(&left.forget("everything").output().unwrap());
    assert_eq!(code, Some(0), "{out}{told}");
    left.listener.set_nonblocking(true).unwrap();
    assert!(left.listener.accept().is_err(), "it was asked");
    assert!(!left.setup.path("journal/control.address").exists());

    let _held = left.hold();
    let (code, _, told) = said(&left.forget("everything").output().unwrap());
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("admin listener is not to be found"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_not_sent_to_a_proxy() {
    let left = Abandoned::new().await;
    let _held = left.hold();
    let forget = left
        .forget("a b/../c")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = left.listener.accept().unwrap();
    let mut request = [0; 4096];
    let length = stream.read(&mut request).unwrap();
    let request = String::from_utf8_lossy(&request[..length]);
    assert!(
        request.starts_with("POST /-/sinks/a%20b%2F..%2Fc/forget HTTP/1.1\r\n"),
        "{request}"
    );
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let (code, out, told) = said(&forget.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{out}{told}");
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
    assert_eq!(out.lines().count(), 4, "{out}");
    let (code, _, told) = sinks(&setup, &["forget", "everything"]);
    assert_eq!(code, Some(78), "{told}");
    let letters = |args: &[&str]| {
        let command = [&["dead-letters"], args].concat();
        said(&setup.command(&command).output().unwrap())
    };
    let (code, out, told) = letters(&["list"]);
    assert!(
        code == Some(0) && out.starts_with("LETTER  "),
        "{out}{told}"
    );
    assert_eq!(letters(&["list", "--json"]).1, "[]\n");
    let (code, _, told) = letters(&["show", "7"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("has no dead letter 7"), "{told}");

    // The environment alone had made it.
    let setup = setup.without("SINKS__EVERYTHING");
    let (code, said) = setup.check();
    assert_eq!(code, Some(78), "{said}");
    let problems: Vec<_> = said.lines().filter(|l| l.contains("PROBLEM")).collect();
    assert!(
        problems.len() == 1 && problems[0].contains("smtp.contoso.com"),
        "the mail server alone is not there: {said}"
    );
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
