//! What a user is told when something is wrong: the exact words, in the right place, with the right exit code.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use audit_exporter_simulator::{Config, Generated, Records, TenantConfig};

use crate::exporter::Home;
use crate::microsoft::Microsoft;

const SOURCE: &str = "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n";
const SINK: &str = "[sinks.archive]\ntype = \"file\"\npath = \"archive/{content_type}.ndjson\"\n";

fn microsoft(tenant: TenantConfig) -> Microsoft {
    Microsoft::start(Config {
        tenants: vec![tenant],
        ..Config::default()
    })
}

/// A few events, quickly collected.
fn few() -> TenantConfig {
    TenantConfig {
        records: Records::Generated(Generated {
            events: 60,
            ..Generated::default()
        }),
        ..TenantConfig::default()
    }
}

/// Checks `tenant`'s configuration: it must fail for this reason, in these words.
fn assert_check_says(tenant: &str, problem: &str) {
    let home = Home::new(&format!("{tenant}{SOURCE}{SINK}"));
    let checked = home.ask(&["check"]);
    assert_eq!(checked.code, 78, "{checked:?}");
    let problem = format!("  PROBLEM  {problem}");
    assert!(
        checked.stdout.lines().any(|line| line == problem),
        "{problem}\nis not in\n{}",
        checked.stdout
    );
    assert!(
        checked.stdout.contains("\nIt will not work as it is"),
        "{checked:?}"
    );
}

#[test]
fn check_tells_that_the_secret_is_wrong() {
    let microsoft = microsoft(few());
    let tenant = microsoft.tenant(0, "contoso", "");
    let tenant = tenant.replace("simulator-secret", "not-the-secret");
    assert_check_says(
        &tenant,
        &format!(
            "no token: {} refused the token request: AADSTS7000215: the client secret is wrong; give the secret's \
             value, not the secret's ID (\"Invalid client secret provided\")",
            microsoft.host()
        ),
    );
}

#[test]
fn check_tells_that_the_tenant_is_unknown() {
    let microsoft = microsoft(few());
    let tenant = microsoft.tenant(0, "contoso", "");
    let nobody = "00000000-1111-4222-8333-444444444444";
    assert_check_says(
        &tenant.replace(microsoft.id(0), nobody),
        &format!(
            "no token: {} refused the token request: AADSTS90002: there is no such tenant; check the tenant's id and \
             that cloud names the national cloud it lives in (\"Tenant '{nobody}' not found\")",
            microsoft.host()
        ),
    );
}

#[test]
fn check_tells_that_the_permission_is_missing() {
    let microsoft = microsoft(TenantConfig {
        roles: Vec::new(),
        ..few()
    });
    assert_check_says(
        &microsoft.tenant(0, "contoso", ""),
        "the app lacks the application permission ActivityFeed.Read of the Office 365 Management APIs (AF10001); add \
         it in the app registration and grant admin consent",
    );
}

#[test]
fn check_tells_that_auditing_is_off() {
    let microsoft = microsoft(TenantConfig {
        audit: false,
        ..few()
    });
    assert_check_says(
        &microsoft.tenant(0, "contoso", ""),
        &format!(
            "{}: auditing is off for this tenant, or was switched on less than an hour ago, or the tenant has no plan \
             with unified auditing; switch it on in Microsoft Purview (Audit, \"Start recording user and admin \
             activity\") or by Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true",
            microsoft.host()
        ),
    );
}

#[test]
fn check_tells_that_the_cloud_is_wrong() {
    let microsoft = microsoft(TenantConfig {
        other_cloud: true,
        ..few()
    });
    assert_check_says(
        &microsoft.tenant(0, "contoso", ""),
        &format!(
            "no token: {} refused the token request: AADSTS900382: the app belongs to another national cloud; check \
             the tenant's id and that cloud names the national cloud it lives in (\"Confidential Client is not \
             supported in Cross Cloud request\")",
            microsoft.host()
        ),
    );
}

#[test]
fn check_tells_that_the_host_cannot_be_reached() {
    let microsoft = microsoft(few());
    let nobody = free_address();
    let tenant = microsoft.tenant(0, "contoso", "");
    assert_check_says(
        &tenant.replace(microsoft.url(), &format!("http://{nobody}")),
        &format!(
            "no token: {nobody}: cannot be reached: error sending request: client error (Connect): tcp connect error: \
             Connection refused (os error 111)"
        ),
    );
}

#[test]
fn bad_toml_is_told_with_its_place() {
    let home = Home::new("");
    home.configure_all("[journal]\npath = \"journal\n");
    for command in ["check", "run"] {
        let ended = home.ask(&[command]);
        assert_eq!(ended.code, 78);
        let file = home.path("config.toml");
        let said = format!(
            "{}: line 2, column 16: invalid basic string",
            file.display()
        );
        assert_eq!(ended.stderr, format!("audit-exporter: {said}\n"));
    }
}

#[test]
fn run_refuses_a_journal_folder_that_cannot_be_made() {
    let home = Home::new("");
    std::fs::write(home.path("file"), "").unwrap();
    let tenant = microsoft(few()).tenant(0, "contoso", "");
    home.configure_all(&format!(
        "[journal]\npath = \"file/journal\"\n{tenant}{SOURCE}{SINK}"
    ));
    let ended = home.ask(&["run"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert_eq!(
        ended.stderr,
        format!(
            "audit-exporter: journal {}: the folder cannot be created; give a folder that this user may write: Not a \
             directory (os error 20)\n",
            home.path("file/journal").display()
        )
    );
}

#[test]
fn check_tells_that_a_sinks_folder_cannot_be_made_and_run_goes_on_trying() {
    let microsoft = microsoft(few());
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!("{tenant}{SOURCE}{SINK}"));
    let folder = home.path("archive");
    std::fs::write(&folder, "a file where the folder should be").unwrap();
    let checked = home.ask(&["check"]);
    assert_eq!(checked.code, 78, "{checked:?}");
    let failure = format!(
        "cannot create folder {}: File exists (os error 17)",
        folder.display()
    );
    let said = format!(
        "sink archive\n  PROBLEM  {failure}; create it, or make it writable for this user\n"
    );
    assert!(checked.stdout.contains(&said), "{}", checked.stdout);

    let mut exporter = home.run();
    exporter.await_log(&format!("delivering failed, will be retried: {failure}"));
    std::fs::remove_file(&folder).unwrap();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    microsoft.judge(&folder, None);
}

#[test]
fn run_refuses_a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let tenant = microsoft(few()).tenant(0, "contoso", "");
    let home = Home::new("");
    home.configure_all(&format!(
        "[journal]\npath = \"journal\"\n[admin]\nlisten = \"{address}\"\n{tenant}{SOURCE}{SINK}"
    ));
    let ended = home.ask(&["run"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert_eq!(
        ended.stderr,
        format!(
            "audit-exporter: admin.listen: {address} cannot be used; is another audit-exporter running? choose another \
             port: Address already in use (os error 98)\n"
        )
    );
}

#[test]
fn a_second_run_on_the_same_journal_is_refused_and_the_first_goes_on() {
    let microsoft = microsoft(few());
    let home = Home::new(&format!(
        "{}{SOURCE}{SINK}",
        microsoft.tenant(0, "contoso", "")
    ));
    let mut first = home.run();
    first.await_log("collecting");
    let second = home.ask(&["run"]);
    assert_eq!(second.code, 78, "{second:?}");
    assert_eq!(
        second.stderr,
        format!(
            "audit-exporter: journal {}: another audit-exporter uses this journal; stop it first, or give this one its \
             own journal.path\n",
            home.path("journal").display()
        )
    );
    first.await_drained(microsoft.blobs());
    first.stop();
    microsoft.judge(&home.path("archive"), None);
}

/// A small file system in memory, as the disk of a folder. Needs root.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(folder: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let option = format!("size={size},mode=700");
        let words = ["-t", "tmpfs", "-o", &option, "tmpfs"];
        let mounted = Command::new("mount").args(words).arg(folder).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(folder));
        }
        crate::skipped("a full disk, for no small one can be mounted here");
        None
    }

    fn grow(&self, size: &str) {
        let option = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &option])
            .arg(self.0)
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a process that is killed with the test may still hold a file in it.
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

#[test]
fn a_full_disk_under_a_sink_is_told_and_nothing_is_lost() {
    let microsoft = microsoft(thousand());
    let home = Home::new(&format!(
        "{}{SOURCE}{SINK}",
        microsoft.tenant(0, "contoso", "")
    ));
    let folder = home.path("archive");
    let Some(disk) = SmallDisk::mount(&folder, "256k") else {
        return;
    };
    let mut exporter = home.run();
    exporter.await_log("No space left on device");
    assert_eq!(exporter.sum("up", &["name=\"archive\""]), Some(0.0));
    disk.grow("64m");
    exporter.await_drained(microsoft.blobs());
    let log = exporter.stop();
    assert!(log.contains("delivering works again"), "{log}");
    microsoft.judge(&folder, None);
}

#[test]
fn a_full_disk_under_the_journal_is_told_and_nothing_is_lost() {
    let microsoft = microsoft(thousand());
    let home = Home::new(&format!(
        "{}{SOURCE}{SINK}",
        microsoft.tenant(0, "contoso", "")
    ));
    let folder = home.path("journal");
    let Some(disk) = SmallDisk::mount(&folder, "512k") else {
        return;
    };
    let mut exporter = home.run();
    exporter.await_log(
        "the disk that holds the journal is full; free some space, collecting goes on by itself",
    );
    disk.grow("64m");
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}

fn thousand() -> TenantConfig {
    TenantConfig::default()
}

/// An address of this machine where nobody listens.
fn free_address() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
