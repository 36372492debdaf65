//! Microsoft: answers requests in the exporter's own process, as the reference describes them
//! (management-activity-api.md), in virtual time.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use audit_exporter_core::http::Peer;
use audit_exporter_core::{Error, Result};
use chrono::NaiveDateTime;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use reqwest::{Body, Method, Request, Response};

use super::history::{Blob, Call, DAY, HOUR, MINUTE, Millis, SECOND, Trouble, What};
use super::random::start;
use super::world::{Fetches, Listing, World, blob_id, tenant_id, time};

/// Where everything is.
pub(crate) const HOST: &str = "https://manage.model";
/// The path of the Management Activity API, as addresses that are handed out have it.
const NEXT_ROOT: &str = "api/v1";

/// Microsoft as it is in one world.
pub(crate) struct Microsoft(pub(crate) Arc<World>);

#[async_trait]
impl Peer for Microsoft {
    async fn answer(&self, request: Request) -> Result<Response> {
        let world = &self.0;
        let path: Vec<&str> = request.url().path().split('/').skip(1).collect();
        let (call, tenant, rest) = match path[..] {
            [tenant, "oauth2", "v2.0", "token"] => (Call::Token, tenant, ""),
            [
                "api",
                "v1.0" | "v1",
                tenant,
                "activity",
                "feed",
                ref rest @ ..,
            ] => match rest {
                ["subscriptions", "list"] => (Call::Subscriptions, tenant, ""),
                ["subscriptions", "start"] => (Call::Start, tenant, ""),
                ["subscriptions", "content"] => (Call::Page, tenant, ""),
                ["audit", id] => (Call::Fetch, tenant, *id),
                _ => return Ok(self.lost(&request)),
            },
            _ => return Ok(self.lost(&request)),
        };
        let Some(tenant) = (0..world.history.tenants.len()).find(|n| tenant_id(*n) == tenant)
        else {
            return Ok(self.lost(&request));
        };
        self.check(&request, call, tenant);
        let fault = world.call(call);
        let calls = world.calls();
        tokio::time::sleep(Duration::from_millis(world.chance(calls, 900))).await;
        if let Some(what) = fault {
            world.suffer(what);
            if let Some(refusal) = self.refuse(what, call, &request).await {
                return refusal;
            }
        }
        let broken = fault.filter(|what| matches!(what, What::CutOff | What::Truncated));
        Ok(match call {
            Call::Token => self.json(&format!(
                r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"token{tenant}"}}"#
            )),
            Call::Subscriptions => self.subscriptions(tenant),
            Call::Start => self.start(tenant, &request),
            Call::Page => self.page(tenant, &request, broken),
            Call::Fetch | Call::Deliver => self.fetch(tenant, rest, &request, broken),
        })
    }
}

impl Microsoft {
    fn lost(&self, request: &Request) -> Response {
        let url = request.url();
        self.0.offence(format!("a request to {url}"));
        self.error(404, "AF20001")
    }

    /// What every request must have.
    fn check(&self, request: &Request, call: Call, tenant: usize) {
        let headers = request.headers();
        let bearer = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let (wanted, method) = match call {
            Call::Token => (None, Method::POST),
            Call::Start => (Some(format!("Bearer token{tenant}")), Method::POST),
            _ => (Some(format!("Bearer token{tenant}")), Method::GET),
        };
        let mut parameters = request.url().query_pairs();
        let is_named = parameters.any(|(name, _)| name == "PublisherIdentifier");
        if bearer != wanted.as_deref().map(str::as_bytes)
            || *request.method() != method
            || is_named == (call == Call::Token)
        {
            let url = request.url();
            self.0.offence(format!("{} {url}", request.method()));
        }
    }

    /// The answer to a call that a fault keeps from being answered; none for a fault of its body.
    async fn refuse(&self, what: What, call: Call, request: &Request) -> Option<Result<Response>> {
        Some(Ok(match what {
            What::Unavailable => self.respond(503, &[], Vec::new()),
            What::Gateway => self.respond(502, &[], b"<html>bad gateway AF".to_vec()),
            What::Throttled403 => self.respond(
                403,
                &[],
                b"{'error':{'code':'AF429','message':'Too many requests. Method=GetBlob'}}"
                    .to_vec(),
            ),
            What::Throttled429(None) => self.error(429, "AF429"),
            What::Throttled429(Some(seconds)) => {
                let seconds = seconds.to_string();
                self.respond(429, &[("Retry-After", &seconds)], Vec::new())
            }
            What::Unauthorized => self.respond(401, &[], Vec::new()),
            What::Unreachable => return Some(Err(Error::unavailable("cannot be reached"))),
            What::Silence => {
                tokio::time::sleep(Duration::from_mins(10)).await;
                return Some(Err(Error::unavailable("timed out")));
            }
            What::StalePage
                if request
                    .url()
                    .query_pairs()
                    .any(|(name, _)| name == "nextPage") =>
            {
                self.error(400, "AF20031")
            }
            What::CutOff | What::Truncated if matches!(call, Call::Page | Call::Fetch) => {
                return None;
            }
            What::Internal | What::CutOff | What::Truncated | What::StalePage => {
                self.error(500, "AF50000")
            }
        }))
    }

    fn subscriptions(&self, tenant: usize) -> Response {
        let mut list = Vec::new();
        for (subscribed, content_type) in &self.0.seen().subscribed {
            if *subscribed == tenant {
                list.push(format!(
                    r#"{{"contentType":"{content_type}","status":"enabled","webhook":null}}"#
                ));
            }
        }
        self.json(&format!("[{}]", list.join(",")))
    }

    fn start(&self, tenant: usize, request: &Request) -> Response {
        let Some(content_type) = self.content_type(tenant, request) else {
            return self.error(400, "AF20020");
        };
        if !self.0.seen().subscribed.insert((tenant, content_type)) {
            return self.error(400, "AF20024");
        }
        self.json("{}")
    }

    fn content_type(&self, tenant: usize, request: &Request) -> Option<&'static str> {
        let asked = parameter(request, "contentType")?;
        let types = &self.0.history.tenants[tenant];
        types.iter().copied().find(|known| *known == asked)
    }

    /// A page of the content that is visible now and was created in the window asked for.
    fn page(&self, tenant: usize, request: &Request, broken: Option<What>) -> Response {
        let world = &self.0;
        let Some(content_type) = self.content_type(tenant, request) else {
            return self.error(400, "AF20020");
        };
        if !world.seen().subscribed.contains(&(tenant, content_type)) {
            return self.error(400, "AF20022");
        }
        let edge = |name| parameter(request, name).as_deref().and_then(moment);
        let (Some(from), Some(to)) = (edge("startTime"), edge("endTime")) else {
            return self.error(400, "AF20001");
        };
        let now = world.now();
        if to <= from || to - from > DAY || from < now - 7 * DAY {
            return self.error(400, "AF20055");
        }
        let next = parameter(request, "nextPage");
        // Where the page begins, and when the first one was asked for.
        let next = next.as_deref().and_then(|next| next.split_once('.'));
        let at = |next: (&str, &str)| Some((next.0.parse().ok()?, next.1.parse().ok()?));
        let (first, asked): (usize, Millis) = next.and_then(at).unwrap_or((0, now));
        let blobs = &world.history.blobs;
        let mut listed: Vec<(usize, &Blob)> = blobs
            .iter()
            .enumerate()
            .filter(|(_, blob)| (blob.tenant, blob.content_type) == (tenant, content_type))
            .filter(|(_, blob)| (from..to).contains(&blob.created) && blob.visible <= asked)
            .collect();
        listed.sort_by_key(|(_, blob)| blob.visible);
        let mut entries: Vec<String> = Vec::new();
        for (number, blob) in listed {
            let copies = if blob.listed_twice { 2 } else { 1 };
            entries.extend((0..copies).map(|_| entry(tenant, number, blob)));
        }
        let end = entries.len().min(first + world.history.page);
        let body = format!("[{}]", entries[first.min(end)..end].join(","));
        if let Some(what) = broken {
            return self.body(body.as_bytes(), &[], Some(what), None);
        }
        if end < entries.len() {
            let query = request.url().query_pairs();
            let kept =
                query.filter(|(name, _)| name != "nextPage" && name != "PublisherIdentifier");
            let kept: Vec<String> = kept
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let next = format!(
                "{HOST}/{NEXT_ROOT}/{}/activity/feed/subscriptions/content?{}&nextPage={end}.{asked}",
                tenant_id(tenant),
                kept.join("&")
            );
            return self.respond(200, &[("NextPageUri", &next)], body.into_bytes());
        }
        let listing = Listing {
            tenant,
            content_type,
            from,
            to,
            at: asked,
        };
        world.seen().listings.push(listing);
        self.json(&body)
    }

    fn fetch(&self, tenant: usize, id: &str, request: &Request, broken: Option<What>) -> Response {
        let world = &self.0;
        let blobs = &world.history.blobs;
        let Some(number) = (0..blobs.len()).find(|n| blob_id(*n) == id) else {
            return self.lost(request);
        };
        let (blob, now) = (&blobs[number], world.now());
        if blob.tenant != tenant || blob.visible > now {
            return self.lost(request);
        }
        let nth = {
            let mut seen = world.seen();
            let fetches = seen.fetches.entry(number).or_default();
            fetches.asked += 1;
            if now >= blob.expires && blob.trouble != Trouble::ForEver {
                fetches.gone += 1;
                return self.error(404, "AF20051");
            }
            fetches.asked
        };
        let failing = match blob.trouble {
            Trouble::None => None,
            Trouble::Fails(times) => (nth <= times).then_some(nth),
            Trouble::UntilExpiry | Trouble::ForEver => Some(nth),
        };
        let broken = match (failing, broken) {
            // Days of failing would be thousands of tries.
            (Some(nth), _) if blob.is_doomed() && nth > 3 => return self.put_off(),
            (Some(nth), _) if !(nth as usize + number).is_multiple_of(3) => {
                let cut = (nth as usize).is_multiple_of(2);
                Some(if cut { What::CutOff } else { What::Truncated })
            }
            (Some(_), _) => return self.error(500, "AF50000"),
            (None, broken) => broken,
        };
        let records: Vec<&str> = blob.records.iter().map(|record| &*record.raw).collect();
        let body = format!("[{}]", records.join(",\r\n")).into_bytes();
        if !blob.gzip || !request.headers().contains_key(ACCEPT_ENCODING) {
            return self.body(&body, &[], broken, Some(number));
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).unwrap();
        let headers = [("Content-Encoding", "gzip")];
        self.body(&encoder.finish().unwrap(), &headers, broken, Some(number))
    }

    /// An answer that asks for hours of patience. Several together make the whole source wait.
    fn put_off(&self) -> Response {
        const HOURS: Millis = 5;
        let world = &self.0;
        let is_failing = |fetches: &&Fetches| fetches.whole + fetches.gone == 0;
        let failing = world.seen().fetches.values().filter(is_failing).count();
        if failing > 6 {
            let now = world.now();
            world.disrupt(now, now + HOURS * HOUR + MINUTE);
        }
        let seconds = (HOURS * HOUR / SECOND).to_string();
        self.respond(503, &[("Retry-After", &seconds)], Vec::new())
    }

    /// A body that comes in pieces, over some time. What became of it is noted for blob `number`.
    fn body(
        &self,
        body: &[u8],
        headers: &[(&str, &str)],
        broken: Option<What>,
        number: Option<usize>,
    ) -> Response {
        let world = Arc::clone(&self.0);
        let size = if broken.is_some() {
            body.len() * 2 / 3
        } else {
            body.len()
        };
        let pieces: Vec<Vec<u8>> = body[..size].chunks(700).map(<[u8]>::to_vec).collect();
        let pause = world.chance(world.calls(), 3) * 400;
        let stream = futures::stream::unfold(pieces.into_iter(), move |mut pieces| {
            let world = Arc::clone(&world);
            async move {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let note = |whole: u32| {
                    if let Some(number) = number {
                        let mut seen = world.seen();
                        let fetches = seen.fetches.entry(number).or_default();
                        fetches.whole += whole;
                        fetches.broken += 1 - whole;
                    }
                };
                if let Some(piece) = pieces.next() {
                    return Some((Ok(piece), pieces));
                }
                note(u32::from(broken.is_none()));
                (broken == Some(What::CutOff))
                    .then(|| (Err(std::io::Error::other("connection reset")), pieces))
            }
        });
        self.response(200, headers, Body::wrap_stream(stream))
    }

    fn json(&self, body: &str) -> Response {
        self.respond(200, &[], body.as_bytes().to_vec())
    }

    fn error(&self, status: u16, code: &str) -> Response {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"a message"}}}}"#);
        self.respond(status, &[], body.into_bytes())
    }

    fn respond(&self, status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Response {
        self.response(status, headers, body.into())
    }

    fn response(&self, status: u16, headers: &[(&str, &str)], body: Body) -> Response {
        let date = time(self.0.now()).format("%a, %d %b %Y %H:%M:%S GMT");
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response = response.header("Date", date.to_string());
        response.body(body).unwrap().into()
    }
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    let pairs: HashMap<_, _> = request.url().query_pairs().collect();
    pairs.get(name).map(ToString::to_string)
}

fn moment(text: &str) -> Option<Millis> {
    let at: NaiveDateTime = text.parse().ok()?;
    Some((at.and_utc() - start()).num_milliseconds())
}

fn entry(tenant: usize, number: usize, blob: &Blob) -> String {
    let (id, time) = (blob_id(number), |at| {
        time(at).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    });
    let mut entry = String::new();
    write!(
        entry,
        r#"{{"contentType":"{}","contentId":"{id}","contentUri":"{HOST}/api/v1.0/{}/activity/feed/audit/{id}","contentCreated":"{}","contentExpiration":"{}"}}"#,
        blob.content_type,
        tenant_id(tenant),
        time(blob.created),
        time(blob.expires)
    )
    .unwrap();
    entry
}
