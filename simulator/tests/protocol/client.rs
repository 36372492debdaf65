//! A light client: no retries, no opinions.

use audit_exporter_simulator::{
    AppConfig, Config, ContentType, ExplicitBlob, Generated, Records, Simulator, TenantConfig,
};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A simulator with a client, and a token for its first tenant.
pub(crate) struct Stage {
    pub(crate) simulator: Simulator,
    pub(crate) http: Client,
    pub(crate) tenant: TenantConfig,
    pub(crate) token: String,
}

/// A client that follows no redirects.
pub(crate) fn http() -> Client {
    // The library wants a provider even for plain HTTP; another test may have been faster.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// One tenant with these records and enabled subscriptions.
pub(crate) fn tenant(records: Records) -> TenantConfig {
    TenantConfig {
        subscribed: true,
        records,
        ..TenantConfig::default()
    }
}

/// A configuration of one tenant.
pub(crate) fn config(tenant: TenantConfig) -> Config {
    Config {
        tenants: vec![tenant],
        ..Config::default()
    }
}

/// A configuration of one tenant with these blobs.
pub(crate) fn blobs(blobs: Vec<ExplicitBlob>) -> Config {
    config(tenant(Records::Explicit(blobs)))
}

/// A configuration of one tenant with generated events.
pub(crate) fn generated(events: u64, events_per_blob: u32) -> Config {
    config(tenant(Records::Generated(Generated {
        events,
        events_per_blob,
        ..Generated::default()
    })))
}

/// A record with this Id.
pub(crate) fn record(id: &str) -> String {
    format!(
        r#"{{"CreationTime":"2026-06-01T10:00:00","Id":"{id}","Operation":"CreateFlow","RecordType":30}}"#
    )
}

impl Stage {
    /// Starts a simulator and gets a token.
    pub(crate) async fn new(config: Config) -> Self {
        let tenant = config.tenants[0].clone();
        let simulator = Simulator::start(config).await.unwrap();
        let mut stage = Self {
            simulator,
            http: http(),
            tenant,
            token: String::new(),
        };
        stage.token = stage.new_token().await;
        stage
    }

    /// A token for the first tenant's first application.
    pub(crate) async fn new_token(&self) -> String {
        let app = AppConfig {
            client_id: self.tenant.client_id.clone(),
            client_secret: self.tenant.client_secret.clone(),
            roles: Vec::new(),
        };
        self.token_of(&app).await
    }

    /// A token for an application of the first tenant.
    pub(crate) async fn token_of(&self, app: &AppConfig) -> String {
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            self.simulator.url(),
            self.tenant.id
        );
        let scope = format!("{}/.default", self.simulator.url());
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &app.client_id),
            ("client_secret", &app.client_secret),
            ("scope", &scope),
        ];
        let response = self.http.post(url).form(&form).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        body["access_token"]
            .as_str()
            .map(str::to_owned)
            .unwrap_or_default()
    }

    /// The address of an operation.
    pub(crate) fn url(&self, path: &str) -> String {
        format!(
            "{}/api/v1.0/{}/activity/feed/{path}",
            self.simulator.url(),
            self.tenant.id
        )
    }

    pub(crate) async fn get_url(&self, url: &str) -> Response {
        self.http
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.get_url(&self.url(path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Response {
        let request = self.http.post(self.url(path)).bearer_auth(&self.token);
        request
            .header("content-length", body.len())
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    /// The status and body of a GET.
    pub(crate) async fn json(&self, path: &str) -> (StatusCode, Value) {
        read(self.get(path).await).await
    }

    /// All entries of a listing, page by page, and the number of pages.
    pub(crate) async fn list(
        &self,
        content_type: ContentType,
        window: &str,
    ) -> (Vec<Value>, usize) {
        let content_type = content_type.name();
        let path = format!("subscriptions/content?contentType={content_type}{window}");
        let pages = self.pages(&path).await;
        let count = pages.len();
        (pages.into_iter().flatten().collect(), count)
    }

    /// The pages that begin at an operation's address.
    pub(crate) async fn pages(&self, path: &str) -> Vec<Vec<Value>> {
        let mut next = Some(self.url(path));
        let mut pages = Vec::new();
        while let Some(url) = next {
            let response = self.get_url(&url).await;
            assert_eq!(response.status(), 200);
            let header = response.headers().get("nextpageuri");
            next = header.map(|next| next.to_str().unwrap().to_owned());
            pages.push(response.json().await.unwrap());
        }
        pages
    }
}

/// The status and the body as JSON.
pub(crate) async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// The code of an API error with its status.
pub(crate) fn code((status, body): &(StatusCode, Value)) -> (u16, String) {
    (
        status.as_u16(),
        body["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    )
}

/// SHA-256 in hexadecimal, as in the ledger.
pub(crate) fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
