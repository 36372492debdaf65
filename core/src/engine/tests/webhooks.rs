//! The webhook listener of a running engine.

use axum::body::Body;
use axum::http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fakes::World;
use super::*;
use crate::config::Config;

const MINUTE: Duration = Duration::from_mins(1);
const PASSWORD: &str = "password: sesame\r\n";
/// A poll that no test waits for.
const RARELY: &str = "lists_every = 86400\n";

/// A configuration with a listener, and where that is.
fn config(world: &World, tenants: &[&str]) -> (Config, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    let mut config = world.config_of(tenants, &format!("{RARELY}[sinks]\na"));
    config.webhooks.listen = address;
    config.webhooks.public_url = Some(format!("http://{address}/x/").parse().unwrap());
    (config, address)
}

/// Sends a request and gives the whole answer; nothing if there is none.
async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A connection that is cut off is an answer too.
    drop(stream.read_to_string(&mut answer).await);
    answer
}

/// Posts, and gives the status.
async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    let answer = send(address, &request).await;
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn requests(engine: &Engine, tenant: &str, outcome: &str) -> u64 {
    let source = if tenant.is_empty() { "" } else { "activity" };
    let family = &engine.metrics().webhook_requests;
    family.with_label_values(&[tenant, source, outcome]).get()
}

/// Waits until each tenant was listed.
async fn listed(world: &World, times: usize) {
    while world.lists() < times {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_source_is_told_of_is_listed_long_before_the_next_poll() {
    let world = World::new();
    let (config, address) = config(&world, &["contoso", "fabrikam"]);
    let engine = world.start_with(&config).await;
    while !engine.listed() {
        tokio::task::yield_now().await;
    }
    world.show("contoso", "one", 3);
    world.show("fabrikam", "other", 3);
    assert_eq!(
        post(address, "/x/activity/contoso", PASSWORD, "news").await,
        "200"
    );
    // From here on nothing but the clock is waited for.
    tokio::time::pause();
    until(&engine, |status| has_all(status, "a", 3)).await;
    assert_eq!(
        world.has("a"),
        world.records(Some("contoso")),
        "nobody told fabrikam"
    );
    assert_eq!(world.lists(), 3);
    assert_eq!(requests(&engine, "contoso", "notified"), 1);
    let lead = engine
        .metrics()
        .webhook_lead
        .with_label_values(&["activity"]);
    assert_eq!(lead.get_sample_count(), 1);
    assert!(lead.get_sample_sum() > 80_000.0);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_listing_and_what_is_told_later_is_another() {
    let world = World::new();
    let config = world.config_of(&["contoso"], &format!("{RARELY}[sinks]\na"));
    let engine = world.start_with(&config).await;
    while !engine.listed() {
        tokio::task::yield_now().await;
    }
    let leads = engine
        .metrics()
        .webhook_lead
        .with_label_values(&["activity"]);
    for burst in 1..=2 {
        for _ in 0..3 {
            let request = Request::post("/activity/contoso").header("password", "sesame");
            let request = request.body(Body::from("news")).unwrap();
            let answer = engine.own.webhooks.answer(request, engine.metrics());
            assert_eq!(answer.await, 200);
        }
        let told = Instant::now();
        while leads.get_sample_count() < burst {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(told.elapsed().as_secs(), 5, "the burst has time to end");
        // A second listing would have come long before this.
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(leads.get_sample_count(), burst);
        assert_eq!(world.lists() as u64, 1 + burst);
    }
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn who_does_not_belong_here_learns_and_changes_nothing() {
    let world = World::new();
    let (config, address) = config(&world, &["contoso"]);
    let engine = world.start_with(&config).await;
    listed(&world, 1).await;
    let own = "/activity/contoso";
    for (path, headers, body, status) in [
        (own, "", "news", "404"),
        (own, "password: Sesame\r\n", "news", "404"),
        ("/activity/nobody", PASSWORD, "news", "404"),
        ("/contoso", PASSWORD, "news", "404"),
        ("/", PASSWORD, "news", "404"),
        (own, PASSWORD, "gibberish", "400"),
        (own, PASSWORD, "panic", ""),
        (own, PASSWORD, "hello", "200"),
    ] {
        let found = post(address, path, headers, body).await;
        assert_eq!(found, status, "{path} {headers} {}", &body[..4]);
    }
    // It says how large it is, so nobody waits for it.
    let request =
        format!("POST {own} HTTP/1.1\r\nHost: h\r\n{PASSWORD}Content-Length: 300000\r\n\r\n");
    let answer = send(address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    for path in [own, "/activity/nobody"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{PASSWORD}\r\n");
        let answer = send(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
    for (tenant, outcome, count) in [
        ("contoso", "refused", 2),
        ("contoso", "unreadable", 1),
        ("contoso", "cut_off", 1),
        ("contoso", "answered", 1),
        ("", "unknown", 3),
        ("", "wrong_method", 2),
    ] {
        assert_eq!(requests(&engine, tenant, outcome), count, "{outcome}");
    }
    assert_eq!(world.lists(), 1);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_strangers_body_is_not_waited_for_and_the_answer_is_that_of_no_path() {
    let world = World::new();
    let (config, address) = config(&world, &["contoso"]);
    let engine = world.start_with(&config).await;
    let mut answers = Vec::new();
    for path in ["/activity/contoso", "/activity/nobody"] {
        // The body never comes.
        let request = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
        let answer = send(address, &request).await;
        let without_date = answer.lines().filter(|line| !line.starts_with("date: "));
        answers.push(without_date.map(str::to_owned).collect::<Vec<_>>());
    }
    assert!(answers[0][0].starts_with("HTTP/1.1 404"), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn hooks_come_and_go_with_their_sources_and_the_address_waits_for_the_next_start() {
    let world = World::new();
    let (first, address) = config(&world, &["contoso"]);
    let mut engine = world.start_with(&first).await;
    assert_eq!(
        post(address, "/activity/contoso", PASSWORD, "hello").await,
        "200"
    );
    assert_eq!(
        post(address, "/activity/fabrikam", PASSWORD, "hello").await,
        "404"
    );
    let (second, elsewhere) = config(&world, &["fabrikam"]);
    let reloaded = engine.reload(second.clone()).await.unwrap();
    assert_eq!(reloaded.at_restart, ["webhooks"]);
    assert_eq!(
        post(address, "/activity/contoso", PASSWORD, "hello").await,
        "404"
    );
    assert_eq!(
        post(address, "/activity/fabrikam", PASSWORD, "hello").await,
        "200"
    );
    assert!(TcpStream::connect(elsewhere).await.is_err());
    let again = engine.reload(second).await.unwrap();
    assert_eq!(again.at_restart, ["webhooks"], "it still waits");
    engine.shutdown(MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new();
    let (mut config, _) = config(&world, &["contoso"]);
    config.webhooks.listen = taken.local_addr().unwrap();
    let error = world.try_start(&config).await.err().unwrap().to_string();
    assert!(error.starts_with("webhooks.listen: 127.0.0.1:"), "{error}");
    assert!(error.contains("choose another port"), "{error}");
}

#[tokio::test]
async fn silent_connections_do_not_hold_up_the_stop() {
    let world = World::new();
    let (config, address) = config(&world, &["contoso"]);
    let engine = world.start_with(&config).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let begun = std::time::Instant::now();
    engine.shutdown(MINUTE).await.unwrap();
    assert!(begun.elapsed() < SERVERS_DEADLINE, "it was broken off");
}
