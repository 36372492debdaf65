//! Fetches everything that a simulator lists, as fast as it goes:
//! `cargo run --release --example fetch -- URL [CONNECTIONS] [ROUNDS]`.
//!
//! For measuring the simulator itself: it must be faster than whatever is measured against it.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use audit_exporter_simulator::{ContentType, TenantConfig};
use chrono::{TimeDelta, Utc};
use flate2::read::GzDecoder;
use reqwest::Client;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("which URL?")?;
    let connections = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = Client::new();
    let token = token(&http, &url).await?;
    let blobs = Arc::new(list(&http, &url, &token).await?);
    let mut plain = 0;
    for uri in blobs.iter() {
        let body = fetch(&http, uri, &token).await?;
        plain += std::io::copy(
            &mut GzDecoder::new(&body[..]).take(u64::MAX),
            &mut std::io::sink(),
        )?;
    }
    let (next, wire) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (http, token, blobs) = (http.clone(), token.clone(), Arc::clone(&blobs));
        let (next, wire) = (Arc::clone(&next), Arc::clone(&wire));
        tasks.spawn(async move {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= blobs.len() * rounds {
                    return Ok::<_, reqwest::Error>(());
                }
                let body = fetch(&http, &blobs[place % blobs.len()], &token).await?;
                wire.fetch_add(body.len() as u64, Ordering::Relaxed);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = (plain * rounds as u64) as f64 / 1e6;
    writeln!(
        std::io::stdout(),
        "{} blobs, {rounds} rounds, {megabytes:.0} MB plain ({:.0} MB compressed) in {seconds:.2} s: {:.0} MB/s plain",
        blobs.len(),
        wire.load(Ordering::Relaxed) as f64 / 1e6,
        megabytes / seconds,
    )?;
    Ok(())
}

async fn token(http: &Client, url: &str) -> Result<String> {
    let tenant = TenantConfig::default();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &tenant.client_id),
        ("client_secret", &tenant.client_secret),
        ("scope", "https://manage.office.com/.default"),
    ];
    let request = http
        .post(format!("{url}/{}/oauth2/v2.0/token", tenant.id))
        .form(&form);
    let body: Value = serde_json::from_slice(&whole(request).await?)?;
    Ok(body["access_token"].as_str().ok_or("no token")?.to_owned())
}

async fn list(http: &Client, url: &str, token: &str) -> Result<Vec<String>> {
    let mut blobs = Vec::new();
    let now = Utc::now();
    for content_type in ContentType::ALL {
        for window in 0..7 {
            let end = now - TimeDelta::hours(23 * window);
            let mut next = Some(format!(
                "{url}/api/v1.0/{}/activity/feed/subscriptions/content?contentType={}&startTime={}&endTime={}",
                TenantConfig::default().id,
                content_type.name(),
                (end - TimeDelta::hours(23)).format("%Y-%m-%dT%H:%M:%S"),
                end.format("%Y-%m-%dT%H:%M:%S"),
            ));
            while let Some(page) = next.take() {
                let response = http
                    .get(page)
                    .bearer_auth(token)
                    .send()
                    .await?
                    .error_for_status()?;
                let header = response.headers().get("nextpageuri");
                next = header
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned);
                let entries: Vec<Value> = serde_json::from_slice(&read(response).await?)?;
                blobs.extend(
                    entries
                        .iter()
                        .filter_map(|it| it["contentUri"].as_str().map(str::to_owned)),
                );
            }
        }
    }
    Ok(blobs)
}

async fn fetch(http: &Client, uri: &str, token: &str) -> reqwest::Result<Vec<u8>> {
    whole(
        http.get(uri)
            .bearer_auth(token)
            .header("accept-encoding", "gzip"),
    )
    .await
}

async fn whole(request: reqwest::RequestBuilder) -> reqwest::Result<Vec<u8>> {
    read(request.send().await?.error_for_status()?).await
}

async fn read(mut response: reqwest::Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
