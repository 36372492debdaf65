//! `replay`: archives through a sink again.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use audit_exporter_simulator::{Config, Generated, Records, TenantConfig};

use crate::exporter::Home;
use crate::microsoft::Microsoft;

const REST: &str = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.plain]
type = "file"
path = "plain/{content_type}.ndjson"
[sinks.packed]
type = "file"
path = "packed/{content_type}.ndjson"
compression = "zstd"
format = "normalized"
rotate_size = "64KiB"
[sinks.gzip]
type = "file"
path = "gzip/{content_type}.ndjson"
compression = "gzip"
[filters.none]
type = "operation"
include = ["None"]
[sinks.copy]
type = "file"
path = "copy/{content_type}.ndjson"
filters = ["none"]
[sinks.strict]
type = "file"
path = "strict/all.ndjson"
filters = ["none"]
[sinks.out]
type = "stdout"
filters = ["none"]
"#;

fn collected() -> (Microsoft, Home) {
    let microsoft = Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records: Records::Generated(Generated {
                events: 1_000,
                ..Generated::default()
            }),
            ..TenantConfig::default()
        }],
        ..Config::default()
    });
    let home = Home::new(&format!("{}{REST}", microsoft.tenant(0, "contoso", "")));
    let once = home.ask(&["run", "--once"]);
    assert_eq!(once.code, 0, "{once:?}");
    (microsoft, home)
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<String> = entries
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

fn replay<'a>(files: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["replay"];
    words.extend(files.iter().map(String::as_str));
    words.extend_from_slice(more);
    words
}

#[test]
fn archives_of_every_form_arrive_whole_beside_a_run_and_in_files_of_their_own() {
    let (microsoft, home) = collected();
    let mut exporter = home.run();
    for form in ["plain", "gzip", "packed"] {
        let copy = home.path("copy");
        // The one before's.
        drop(std::fs::remove_dir_all(&copy));
        let archive = files(&home.path(form));
        let told = home.ask(&replay(
            &archive,
            &["--sink", "copy", "--tenant", "contoso", "--no-filters"],
        ));
        assert_eq!(told.code, 0, "{told:?}");
        assert!(
            told.stderr
                .ends_with(" delivered to copy, 0 filtered, 0 rejected, 0 bad\n"),
            "{told:?}"
        );
        for file in files(&copy) {
            assert!(
                file.contains(".replay-2") && file.ends_with("Z.ndjson"),
                "{file}"
            );
        }
        microsoft.judge(&copy, None);
    }
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    // The files that the run owns are as they were.
    microsoft.judge(&home.path("plain"), None);
    let status = home.status().unwrap();
    for sink in status["sinks"].as_array().unwrap() {
        assert_eq!(sink["pending"], 0, "{status}");
    }
}

#[test]
fn times_filters_standard_input_and_standard_output() {
    let (_microsoft, home) = collected();
    let record = |day: u32, operation: &str, workload: &str| {
        format!(
            r#"{{"CreationTime":"2026-01-0{day}T10:00:00","Operation":"{operation}","Workload":"{workload}"}}"#
        )
    };
    let lines = [
        record(1, "CreateFlow", "MicrosoftFlow"),
        record(2, "CreateFlow", "MicrosoftFlow"),
        record(2, "DeleteFlow", "Exchange"),
        record(3, "CreateFlow", "MicrosoftFlow"),
        r#"{"Operation":"CreateFlow","Workload":"MicrosoftFlow"}"#.to_owned(),
    ];
    let ask = |more: &[&str]| {
        let words = [
            &["replay", "-", "--sink", "out", "--tenant", "contoso"],
            more,
        ]
        .concat();
        let mut command = home.command(&words);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all((lines.join("\n") + "\n").as_bytes())
            .unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = ["--no-filters"];
    assert_eq!(ask(&[]), "", "the sink's own filter");
    assert_eq!(ask(&all).lines().count(), 5);
    let day = [
        "--no-filters",
        "--from",
        "2026-01-02",
        "--to",
        "2026-01-03T10:00:00Z",
    ];
    assert_eq!(ask(&day).lines().collect::<Vec<_>>(), lines[1..3]);
    let one = [
        &day[..],
        &["--operation", "create*", "--workload", "MicrosoftFlow"],
    ]
    .concat();
    assert_eq!(ask(&one).lines().collect::<Vec<_>>(), lines[1..2]);
    assert_eq!(ask(&["--no-filters", "--skip", "4"]).trim_end(), lines[4]);
}

#[test]
fn more_files_than_a_process_may_open_arrive_whole() {
    let (_microsoft, home) = collected();
    let folder = home.path("many");
    std::fs::create_dir(&folder).unwrap();
    let record = |n: u32| {
        format!(r#"{{"Id":"{n}","CreationTime":"2026-01-01T10:00:00","Operation":"CreateFlow"}}"#)
    };
    for n in 0..300 {
        std::fs::write(folder.join(format!("{n:03}.ndjson")), record(n) + "\n").unwrap();
    }
    let archive = files(&folder);
    let more = ["--sink", "out", "--tenant", "contoso", "--no-filters"];
    let command = home.command(&replay(&archive, &more));
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 128 && exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    let output = limited.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<String> = (0..300).map(record).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_no_event_is_named_and_the_rest_arrives() {
    let (_microsoft, home) = collected();
    let path = home.path("odd.ndjson");
    let good = r#"{"CreationTime":"2026-01-05T10:00:00","Id":"1","Operation":"A"}"#;
    std::fs::write(&path, format!("{good}\n\n{{\"Id\":\n[1]\n{good}")).unwrap();
    let odd = path.to_str().unwrap();
    let told = home.ask(&[
        "replay",
        odd,
        "--sink",
        "copy",
        "--tenant",
        "contoso",
        "--no-filters",
    ]);
    assert_eq!(told.code, 1, "{told:?}");
    let expected = format!(
        "{odd}:2: an empty line\n\
         {odd}:3: not JSON: EOF while parsing a value at line 1 column 6\n\
         {odd}:4: not a JSON object\n\
         5 lines read: 2 delivered to copy, 0 filtered, 0 rejected, 3 bad\n"
    );
    assert_eq!(told.stderr, expected);

    let torn = home.path("torn.ndjson.gz");
    let whole = std::fs::read(&files(&home.path("gzip"))[0]).unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let told = home.ask(&[
        "replay",
        torn.to_str().unwrap(),
        "--sink",
        "copy",
        "--tenant",
        "contoso",
    ]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stderr
            .contains(": the file breaks off after this line: "),
        "{told:?}"
    );

    let state = home.path("state");
    let state = state.to_str().unwrap();
    let with_state = |file: &str| {
        home.ask(&[
            "replay",
            file,
            "--sink",
            "copy",
            "--tenant",
            "contoso",
            "--no-filters",
            "--state",
            state,
        ])
    };
    assert_eq!(with_state(odd).code, 1);
    let again = with_state(odd);
    assert_eq!(
        (again.code, &*again.stderr),
        (
            0,
            "5 lines read: 5 passed over, 0 delivered to copy, 0 filtered, 0 rejected, 0 bad\n"
        )
    );
    let other = with_state("/dev/null");
    assert_eq!(other.code, 78);
    assert!(
        other.stderr.contains("belongs to another replay"),
        "{other:?}"
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let (_microsoft, home) = collected();
    for (words, told) in [
        (
            &["replay", "-", "--sink", "nope"][..],
            "the configuration has no sink nope; it has copy, gzip, out, packed, plain, strict\n",
        ),
        (
            &["replay", "/no/such/file", "--sink", "copy"],
            "/no/such/file: cannot be read; give a file that this user may read: No such file or directory (os error 2)\n",
        ),
        (
            &["replay", "/tmp", "--sink", "copy"],
            "/tmp: is a folder; give the files in it\n",
        ),
        (
            &["replay", "-", "--sink", "copy", "--tenant", "nobody"],
            "the configuration has no tenant nobody; it has contoso\n",
        ),
    ] {
        let refused = home.ask(words);
        assert_eq!(
            (refused.code, refused.stderr),
            (78, format!("audit-exporter: {told}")),
            "{words:?}"
        );
    }
    // A sink that does not take anything is given up, with the way on.
    let copy = home.path("copy");
    std::fs::write(&copy, "a file where the folder should be").unwrap();
    let archive = files(&home.path("plain"));
    let told = home.ask(&replay(
        &archive,
        &[
            "--sink",
            "copy",
            "--tenant",
            "contoso",
            "--no-filters",
            "--patience",
            "1",
        ],
    ));
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stderr
            .ends_with("go on with --skip 0; what was delivered after that comes again\n"),
        "{told:?}"
    );
}
