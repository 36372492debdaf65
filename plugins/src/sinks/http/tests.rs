use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use audit_exporter_core::plugin::{Delivered, Severity};
use audit_exporter_core::{Kind, contract};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response as Answer};

use super::*;
use crate::testing::{TENANT_ID, batch, context, event, origin, tenant};

/// One request that came.
struct Came {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    /// It was answered as a success.
    taken: bool,
}

/// An intake that answers as a test wants it to.
#[derive(Clone)]
struct Siem {
    url: String,
    came: Arc<Mutex<Vec<Came>>>,
    answer: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
}

impl Siem {
    async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let siem = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            came: Arc::default(),
            answer: Arc::new(answer),
        };
        let routes = Router::new().fallback(take).with_state(siem.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        siem
    }

    fn came(&self) -> Vec<Came> {
        std::mem::take(&mut self.came.lock().unwrap())
    }

    fn bodies(&self) -> Vec<String> {
        let text = |came: Came| String::from_utf8(came.body.to_vec()).unwrap();
        let mut bodies: Vec<String> = self.came().into_iter().map(text).collect();
        bodies.sort_unstable();
        bodies
    }

    fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
}

async fn take(State(siem): State<Siem>, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let answer = (siem.answer)(&text);
    siem.came.lock().unwrap().push(Came {
        path: head.uri.to_string(),
        headers: head.headers,
        body,
        taken: answer.status().is_success(),
    });
    answer
}

fn ok(_: &str) -> Answer {
    StatusCode::ACCEPTED.into_response()
}

fn sink(options: &str) -> Box<dyn Sink> {
    let context = context("sinks.siem", options);
    let tenants = [tenant("contoso")].into();
    build(Context { tenants, ..context }).unwrap()
}

#[tokio::test]
async fn events_stand_in_requests_as_the_options_say() {
    let siem = Siem::start(ok).await;
    let records = || ["{\"Id\":\n1}", "not JSON", "[2]"].map(event);
    for (options, body, content_type) in [
        ("", "{\"Id\": 1}\nnot JSON\n[2]\n", "application/x-ndjson"),
        (
            "body = \"json_array\"",
            "[{\"Id\":\n1},\"not JSON\",[2]]",
            "application/json",
        ),
        (
            "headers = { content-type = \"text/plain\" }",
            "{\"Id\": 1}\nnot JSON\n[2]\n",
            "text/plain",
        ),
    ] {
        let sink = sink(&format!("url = \"{}/intake?x=1\"\n{options}", siem.url));
        assert_eq!(
            sink.deliver(&batch(records())).await.unwrap(),
            Delivered::default()
        );
        let came = siem.came();
        assert_eq!((came.len(), &*came[0].path), (1, "/intake?x=1"));
        assert_eq!(came[0].body, body);
        assert_eq!(came[0].headers[CONTENT_TYPE], content_type);
    }
    let normalized = format!(
        "url = \"{}\"\nbody = \"json_array\"\nformat = \"normalized\"",
        siem.url
    );
    sink(&normalized).deliver(&batch(records())).await.unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_str(&siem.bodies()[0]).unwrap();
    assert_eq!((all.len(), &all[1]["raw_text"]), (3, &"not JSON".into()));
}

#[tokio::test]
async fn requests_are_compressed_bounded_and_bear_the_secret_headers() {
    let siem = Siem::start(ok).await;
    let options = format!(
        "url = \"{}\"\ncompression = \"gzip\"\nrequest_events = 2\nheaders = {{ X-Key = {{ env = \"CARGO_PKG_NAME\" }} }}",
        siem.url
    );
    sink(&options)
        .deliver(&batch(["1", "2", "3"].map(event)))
        .await
        .unwrap();
    let came = siem.came();
    assert_eq!(came.len(), 2);
    let mut lines = 0;
    for came in came {
        assert_eq!(came.headers["x-key"], "audit-exporter-plugins");
        assert_eq!(came.headers[CONTENT_ENCODING], "gzip");
        let mut text = String::new();
        let mut plain = flate2::read::GzDecoder::new(&came.body[..]);
        std::io::Read::read_to_string(&mut plain, &mut text).unwrap();
        lines += text.lines().count();
    }
    assert_eq!(lines, 3);
}

#[tokio::test]
async fn a_refused_event_is_found_and_the_others_are_taken_once() {
    let siem = Siem::start(|body| {
        if body.contains("666") {
            (StatusCode::BAD_REQUEST, "line 1: evil").into_response()
        } else {
            StatusCode::OK.into_response()
        }
    })
    .await;
    let events = (660..670).map(|number| event(&number.to_string()));
    let sink = sink(&format!("url = \"{}\"", siem.url));
    let delivered = sink.deliver(&batch(events)).await.unwrap();
    let rejected: Vec<_> = delivered
        .rejected
        .iter()
        .map(|r| (r.index, &*r.reason))
        .collect();
    assert_eq!(rejected, [(6, "HTTP 400: line 1: evil")]);
    let taken = siem
        .bodies()
        .into_iter()
        .filter(|body| !body.contains("666"));
    let mut taken: Vec<String> = taken
        .flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    taken.sort_unstable();
    let all = (660..670).filter(|n| *n != 666).map(|n| n.to_string());
    assert_eq!(taken, all.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_an_error_that_names_the_host() {
    let siem = Siem::start(|_| {
        (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], "x").into_response()
    })
    .await;
    let sink = sink(&format!("url = \"{}/secret-path\"", siem.url));
    let error = sink.deliver(&batch(["1"].map(event))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let said = format!("{}: it answers to slow down (HTTP 429)", siem.host());
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn each_tenants_events_go_to_its_own_address() {
    let siem = Siem::start(ok).await;
    let options = format!(
        "url = \"{0}/{{tenant}}/{{tenant_id}}\"\nheaders = {{ key = \"a\" }}\n\
         [per_tenant.fabrikam]\nurl = \"{0}/own\"\nheaders = {{ key = \"b\" }}",
        siem.url
    );
    let sink = build(Context {
        tenants: [tenant("contoso"), tenant("fabrikam")].into(),
        ..context("sinks.siem", &options)
    })
    .unwrap();
    for name in ["contoso", "fabrikam"] {
        let event = AuditEvent::new("{}".into(), origin(name, "Audit.General"));
        sink.deliver(&batch([event])).await.unwrap();
    }
    let came = siem.came();
    let found: Vec<_> = came
        .iter()
        .map(|came| (&*came.path, came.headers["key"].to_str().unwrap()))
        .collect();
    let first = format!("/contoso/{TENANT_ID}");
    assert_eq!(found, [(&*first, "a"), ("/own", "b")]);
}

#[tokio::test]
async fn a_check_reaches_the_host_and_sends_no_event() {
    let siem = Siem::start(ok).await;
    let found = sink(&format!("url = \"{}\"", siem.url)).check().await;
    assert_eq!((found.len(), found[0].severity), (1, Severity::Ok));
    assert!(siem.came().iter().all(|came| came.body.is_empty()));
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("url = \"http://{}\"", port.local_addr().unwrap());
    drop(port);
    let found = sink(&gone).check().await;
    assert_eq!(found[0].severity, Severity::Problem);
    assert!(found[0].message.contains("cannot be reached"), "{found:?}");
}

#[test]
fn options_are_checked() {
    for (options, problem) in [
        ("", "sinks.siem.url: "),
        (
            "url = \"ftp://x\"",
            "sinks.siem.url: expected an address such as",
        ),
        (
            "url = \"http://x/{date}\"",
            "sinks.siem.url: expected no placeholders but {tenant} and {tenant_id}",
        ),
        (
            "url = \"http://x\"\nheaders = { \"a b\" = \"1\" }",
            "sinks.siem.headers.\"a b\": expected the name of an HTTP header",
        ),
        (
            "url = \"http://x\"\nrequest_events = 0",
            "sinks.siem.request_events: expected more than nothing",
        ),
        ("url = \"http://x\"\nbody = \"xml\"", "sinks.siem.body: "),
    ] {
        let error = build(context("sinks.siem", options)).err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().starts_with(problem), "{error}");
    }
}

struct Intake(Siem, Arc<AtomicBool>);

#[async_trait(?Send)]
impl contract::Subject for Intake {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(sink(&format!("url = {:?}", self.0.url)))
    }

    async fn contents(&self) -> Result<Vec<bytes::Bytes>> {
        let came = self.0.came.lock().unwrap();
        let lines = came.iter().filter(|came| came.taken).flat_map(|came| {
            let end = came.body.strip_suffix(b"\n").unwrap();
            end.split(|byte| *byte == b'\n')
                .map(bytes::Bytes::copy_from_slice)
        });
        Ok(lines.collect())
    }

    async fn set_down(&self, down: bool) -> Result<bool> {
        self.1.store(down, Ordering::Relaxed);
        Ok(true)
    }

    fn exactly_once(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_http_sink_keeps_the_promises_of_every_sink() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let siem = Siem::start(move |_| {
        let down = is_down.load(Ordering::Relaxed);
        let answers = [StatusCode::ACCEPTED, StatusCode::SERVICE_UNAVAILABLE];
        answers[usize::from(down)].into_response()
    });
    let subject = Intake(siem.await, down);
    contract::check(&subject).await.unwrap();
}
