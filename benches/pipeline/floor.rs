//! The least that a client of the Management Activity API can do: list, download, inflate, cut, read two fields, write.
//!
//! Not a straw man: the HTTP and inflate libraries are the program's own, a blob is inflated at one go into memory that
//! is used again, each record is read in one pass by `serde_json` that also finds its end, nothing is parsed into a
//! tree, everything happens on one thread, and the disk is waited for once. What it leaves out is every promise: no
//! journal, no memory of what it has seen, no account, no bound to its memory, no retry.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, TimeDelta, Utc};
use flate2::bufread::MultiGzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Outcome, PARALLEL};

const CONTENT_TYPES: [&str; 5] = [
    "Audit.AzureActiveDirectory",
    "Audit.Exchange",
    "Audit.SharePoint",
    "Audit.General",
    "DLP.All",
];

/// What to collect and where to write it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) url: String,
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) out: PathBuf,
}

/// A record's fields.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "Id", borrow)]
    id: Option<&'a RawValue>,
    #[serde(rename = "Operation", borrow)]
    operation: Option<&'a RawValue>,
}

/// Collects everything that the tenant has.
pub(crate) async fn run(order: &Path) -> Outcome<()> {
    let order: Order = serde_json::from_slice(&std::fs::read(order)?)?;
    let client = Client::new(&order).await?;
    let uris = client.list().await?;
    let mut out = BufWriter::with_capacity(256 << 10, File::create(&order.out)?);
    let mut bodies = futures::stream::iter(&uris)
        .map(|uri| client.body(uri, Vec::new()))
        .buffer_unordered(PARALLEL);
    let mut raw = Vec::new();
    let mut named = 0_u64;
    while let Some(compressed) = bodies.try_next().await? {
        inflate(&compressed, &mut raw)?;
        named += write_records(&raw, &mut out)?;
    }
    out.flush()?;
    out.get_ref().sync_all()?;
    // Somebody must want to know, or the compiler would not read the fields.
    println!("{named} records have an Id and an Operation");
    Ok(())
}

/// Writes a blob's records as lines; says how many have both fields.
fn write_records(body: &[u8], out: &mut impl Write) -> Outcome<u64> {
    let mut named = 0;
    let mut rest = body.trim_ascii();
    rest = rest.strip_prefix(b"[").ok_or("a blob is not an array")?;
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            Some(b',') => rest = &rest[1..],
            Some(b']') | None => return Ok(named),
            Some(_) => {
                let (record, both) = split_record(rest)?;
                named += u64::from(both);
                out.write_all(record)?;
                out.write_all(b"\n")?;
                rest = &rest[record.len()..];
            }
        }
    }
}

/// The first record of `rest`, and whether it has both fields.
fn split_record(rest: &[u8]) -> Outcome<(&[u8], bool)> {
    let mut fields = serde_json::Deserializer::from_slice(rest).into_iter::<Fields<'_>>();
    if let Some(Ok(found)) = fields.next() {
        let both = found.id.is_some() && found.operation.is_some();
        return Ok((&rest[..fields.byte_offset()], both));
    }
    // Odd: not an object, or a field that comes twice.
    let record: &RawValue = serde_json::Deserializer::from_slice(rest)
        .into_iter()
        .next()
        .ok_or("a record is missing")??;
    Ok((record.get().as_bytes(), false))
}

fn inflate(compressed: &[u8], raw: &mut Vec<u8>) -> Outcome<()> {
    raw.clear();
    MultiGzDecoder::new(compressed).read_to_end(raw)?;
    Ok(())
}

/// A client with a token.
pub(crate) struct Client {
    http: reqwest::Client,
    root: String,
    publisher: String,
    bearer: String,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "contentUri")]
    uri: String,
}

impl Client {
    /// Gets a token.
    pub(crate) async fn new(order: &Order) -> Outcome<Self> {
        let http = audit_exporter_core::http::client()?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &order.client_id),
            ("client_secret", &order.client_secret),
            ("scope", "https://manage.office.com/.default"),
        ];
        let url = format!("{}/{}/oauth2/v2.0/token", order.url, order.tenant);
        let answer = http.post(url).form(&form).send().await?;
        let token: Token = serde_json::from_slice(&read(answer, Vec::new()).await?)?;
        Ok(Self {
            http,
            root: format!("{}/api/v1.0/{}/activity/feed", order.url, order.tenant),
            publisher: format!("PublisherIdentifier={}", order.tenant),
            bearer: format!("Bearer {}", token.access_token),
        })
    }

    /// The value of the header that authorises.
    pub(crate) fn bearer(&self) -> &str {
        &self.bearer
    }

    pub(crate) async fn get(&self, url: &str) -> Outcome<reqwest::Response> {
        let request = self.http.get(url).header(AUTHORIZATION, &self.bearer);
        let answer = request.header(ACCEPT_ENCODING, "gzip").send().await?;
        Ok(answer.error_for_status()?)
    }

    /// The addresses of all content of the last week.
    pub(crate) async fn list(&self) -> Outcome<Vec<String>> {
        let mut uris = Vec::new();
        let now = Utc::now();
        for content_type in CONTENT_TYPES {
            // Seven windows that together are a little shorter than the week that the service serves.
            for day in 0..7 {
                let from = now - TimeDelta::minutes(24 * 60 - 5) * (7 - day);
                let time = |at: chrono::DateTime<Utc>| {
                    let text = at.to_rfc3339_opts(SecondsFormat::Secs, true);
                    text.trim_end_matches('Z').to_owned()
                };
                let to = from + TimeDelta::minutes(24 * 60 - 5);
                let mut page = Some(format!(
                    "{}/subscriptions/content?contentType={content_type}&startTime={}&endTime={}&{}",
                    self.root,
                    time(from),
                    time(to),
                    self.publisher
                ));
                while let Some(url) = page {
                    let answer = self.get(&url).await?;
                    let next = answer.headers().get("nextpageuri");
                    page = next
                        .map(|uri| uri.to_str().map(str::to_owned))
                        .transpose()?;
                    let listed: Vec<Listed> =
                        serde_json::from_slice(&read(answer, Vec::new()).await?)?;
                    let add = |listed: Listed| format!("{}?{}", listed.uri, self.publisher);
                    uris.extend(listed.into_iter().map(add));
                }
            }
        }
        Ok(uris)
    }

    /// Downloads a blob into `compressed`.
    async fn body(&self, uri: &str, compressed: Vec<u8>) -> Outcome<Vec<u8>> {
        read(self.get(uri).await?, compressed).await
    }

    /// Downloads a blob and inflates it.
    pub(crate) async fn blob(
        &self,
        uri: &str,
        compressed: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Outcome<()> {
        *compressed = self.body(uri, std::mem::take(compressed)).await?;
        inflate(compressed, raw)
    }
}

async fn read(mut answer: reqwest::Response, mut body: Vec<u8>) -> Outcome<Vec<u8>> {
    body.clear();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
