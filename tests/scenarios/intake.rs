//! The HTTP intake of some SIEM, which takes compressed JSON arrays.

use std::io::Read as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use serde_json::value::RawValue;

/// One request with events.
#[derive(Clone)]
pub(crate) struct Post {
    pub(crate) path: String,
    pub(crate) key: String,
    body: Bytes,
}

type Posted = Arc<Mutex<Vec<Post>>>;

pub(crate) struct Intake {
    pub(crate) url: String,
    posted: Posted,
}

/// Starts one on a free port; it ends with the test.
pub(crate) async fn start() -> Intake {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let posted = Posted::default();
    let routes = Router::new()
        .route("/{*path}", post(take))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(Arc::clone(&posted));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Intake { url, posted }
}

async fn take(State(posted): State<Posted>, uri: Uri, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["content-type"], "application/json");
    let key = headers["x-api-key"].to_str().unwrap().to_owned();
    let path = uri.path().to_owned();
    posted.lock().unwrap().push(Post { path, key, body });
}

impl Intake {
    /// All requests so far.
    pub(crate) fn posted(&self) -> Vec<Post> {
        self.posted.lock().unwrap().clone()
    }
}

impl Post {
    /// The events, each as it stands in the array.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut text = String::new();
        let mut plain = flate2::read::GzDecoder::new(&self.body[..]);
        plain.read_to_string(&mut text).unwrap();
        let events: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
        events.iter().map(|event| event.get().to_owned()).collect()
    }
}
