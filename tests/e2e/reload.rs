//! A configuration that is read anew while it runs.

use std::net::SocketAddr;

use audit_exporter_simulator::{Config, Generated, Records, TenantConfig};
use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::exporter::{Home, wait_until};
use crate::microsoft::Microsoft;

const REST: &str = "[tenant_files]\nfolder = \"tenants.d\"\n[sources.activity]\ntype = \"management_activity\"\n\
                    poll_interval = \"1s\"\n[sinks.archive]\ntype = \"file\"\npath = \"archive/{tenant}.ndjson\"\n";

/// Two tenants with some events each.
fn microsoft() -> Microsoft {
    let tenants = (0..2).map(|number| TenantConfig {
        id: format!("7f3c9a52-1d0b-4c8e-9b61-00000000000{number}"),
        domain: format!("tenant{number}.onmicrosoft.com"),
        records: Records::Generated(Generated {
            events: 300,
            ..Generated::default()
        }),
        ..TenantConfig::default()
    });
    Microsoft::start(Config {
        tenants: tenants.collect(),
        ..Config::default()
    })
}

#[test]
fn a_tenant_is_added_and_taken_away_by_a_file_and_a_signal_or_a_command() {
    let microsoft = microsoft();
    let home = Home::new(REST);
    std::fs::create_dir(home.path("tenants.d")).unwrap();
    let file = |name: &str| home.path(&format!("tenants.d/{name}.toml"));
    // As it stands in the file of one tenant, without the head of its table.
    let tenant = |index, name: &str| {
        let table = microsoft.tenant(index, name, "");
        let (_, keys) = table.split_once('\n').unwrap();
        std::fs::write(file(name), keys).unwrap();
    };
    tenant(0, "contoso");
    let mut exporter = home.run();
    let arrived = |name: &str| {
        let archive = home.path(&format!("archive/{name}.ndjson"));
        std::fs::read(archive).is_ok_and(|text| text.split(|b| *b == b'\n').count() == 301)
    };
    wait_until("contoso has arrived", || arrived("contoso"));

    tenant(1, "fabrikam");
    exporter.signal("-HUP");
    exporter.await_log("started: activity of fabrikam");
    wait_until("fabrikam has arrived", || arrived("fabrikam"));

    std::fs::write(file("tailspin"), "id = \"nobody\"").unwrap();
    let refused = home.ask(&["reload"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(
        refused.stderr.contains("tenants.tailspin.id"),
        "{refused:?}"
    );
    exporter.signal("-HUP");
    exporter.await_log("the configuration stays as it was");
    std::fs::remove_file(file("tailspin")).unwrap();

    std::fs::remove_file(file("contoso")).unwrap();
    let reloaded = home.ask(&["reload"]);
    assert_eq!(reloaded.code, 0, "{reloaded:?}");
    assert_eq!(
        reloaded.stdout,
        "stopped: activity of contoso\nchanged: sink archive\n"
    );
    let again = home.ask(&["reload"]);
    assert_eq!(
        again.stdout,
        "no tenant, source, filter or sink has changed\n"
    );
    assert!(
        arrived("contoso") && arrived("fabrikam"),
        "nothing came twice"
    );
    exporter.stop();
}

#[test]
fn without_a_run_there_is_nothing_to_reload() {
    let microsoft = microsoft();
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!(
        "{tenant}{}",
        REST.split_once("[sources")
            .map(|(_, rest)| format!("[sources{rest}"))
            .unwrap()
    ));
    let ended = home.ask(&["reload"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended.stderr.contains("nothing runs with the journal in"),
        "{ended:?}"
    );
}

/// An intake that answers nobody before it is `open`. `asked` says whether somebody has.
fn intake(runtime: &Runtime, open: &watch::Sender<bool>, asked: watch::Sender<bool>) -> SocketAddr {
    let open = open.subscribe();
    let answer = move || {
        let mut open = open.clone();
        asked.send_replace(true);
        async move { open.wait_for(|open| *open).await.is_ok().to_string() }
    };
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let served = axum::serve(listener, Router::new().fallback(answer));
    runtime.spawn(async { served.await.unwrap() });
    address
}

#[test]
fn who_asks_to_stop_during_a_reload_is_heard() {
    let (microsoft, runtime) = (microsoft(), Runtime::new().unwrap());
    let (open, _) = watch::channel(false);
    let (asked, is_asked) = watch::channel(false);
    let intake = intake(&runtime, &open, asked);
    let source = "[sources.activity]\ntype = \"management_activity\"\n";
    let tenant = microsoft.tenant(0, "contoso", "");
    let slow = format!("[sinks.slow]\ntype = \"http\"\nurl = \"http://{intake}/\"\n");
    let home = Home::new(&format!("{tenant}{source}{slow}"));
    let mut exporter = home.run();
    wait_until("a delivery is under way", || *is_asked.borrow());

    // The reload waits for the delivery, which is the last that it does before it starts what is new.
    let more = "request_events = 500\n[sinks.new]\ntype = \"file\"\npath = \"new.ndjson\"\n";
    home.configure(&format!("{tenant}{source}{slow}{more}"));
    exporter.signal("-HUP");
    wait_until("the new sink has its place", || {
        home.status().unwrap().to_string().contains("\"new\"")
    });
    exporter.signal("-TERM");
    open.send_replace(true);
    let status = exporter.ended();
    assert!(status.success(), "{status}: {}", exporter.log());
    let log = exporter.log();
    assert!(log.contains("started: sink new"), "{log}");
}
