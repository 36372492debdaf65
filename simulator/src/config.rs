//! What to simulate. The binary reads this from a file; tests build it in code.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    assertion::FederatedCredential,
    content_type::ContentType,
    faults::{Faults, Script},
    graph_audit::GraphAuditConfig,
    hec::HecConfig,
    identity::ManagedIdentity,
    search::{AuditReader, SearchConfig},
    vault::VaultConfig,
};

/// The simulator's configuration. The default serves one tenant with a thousand events, without
/// faults, on a free port of the loopback interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // independent switches, each with a name
pub struct Config {
    /// Where to listen; loopback and a free port by default.
    pub listen: SocketAddr,
    /// Everything that is made up or drawn follows from this number and from `anchor`.
    pub seed: u64,
    /// What generated content takes as "now"; the moment of the start when absent. Set it to get
    /// the same bytes again in another run.
    pub anchor: Option<DateTime<Utc>>,
    /// The tenants.
    pub tenants: Vec<TenantConfig>,
    /// What goes wrong.
    pub faults: Faults,
    /// Entries on a page of a listing. The service does not document its own.
    pub page_size: usize,
    /// Audiences that the API accepts in tokens, next to its own address.
    pub audiences: Vec<String>,
    /// How `NextPageUri` is spelled on the wire.
    pub next_page_header: HeaderCase,
    /// What a window longer than 24 hours gets.
    pub over_24_hours: LongWindow,
    /// Refuse windows of exactly 24 hours, as some tenants were reported to.
    pub reject_exactly_24_hours: bool,
    /// Days from `contentCreated` to `contentExpiration`; 20 were measured, 7 are documented.
    pub expiration_days: u32,
    /// Minimum time between two starts of one subscription; 900 are documented, 0 turns it off.
    pub start_cool_down_seconds: u64,
    /// How far before its first start a subscription shows content; 22 were measured. Absent =
    /// everything there is.
    pub backfill_hours: Option<u32>,
    /// Leave `status` out of the subscriptions without webhook, as in the reference's sample.
    pub omit_status: bool,
    /// Hard limit of API requests per tenant and minute; 2,000 is the documented baseline.
    pub requests_per_minute: Option<u32>,
    /// HTTP statuses that differ from this simulator's choice, by error code. Microsoft documents
    /// hardly any.
    pub statuses: BTreeMap<String, u16>,
    /// Refuse a POST without `Content-Length` with 411, as IIS does.
    pub require_content_length: bool,
    /// Accept webhook addresses that begin with `http://`: there is no TLS on loopback.
    pub webhooks_over_http: bool,
    /// A webhook is disabled after so many failed notifications in a row.
    pub webhook_failures: u32,
    /// Memory for compressed blobs; those beyond it are made anew for every request.
    pub cache_bytes: usize,
    /// Compress all blobs before the first request, for benchmarks.
    pub prepare: bool,
    /// The HTTP Event Collector.
    pub hec: HecConfig,
    /// Search-UnifiedAuditLog.
    pub search: SearchConfig,
    /// Audit log queries of Microsoft Graph.
    pub graph_audit: GraphAuditConfig,
    /// The key vault.
    pub vault: VaultConfig,
    /// What App Service wants to see in `X-IDENTITY-HEADER`.
    pub identity_header: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 1,
            anchor: None,
            tenants: vec![TenantConfig::default()],
            faults: Faults::default(),
            page_size: 200,
            audiences: vec![
                "https://manage.office.com".to_owned(),
                "https://graph.microsoft.com".to_owned(),
                "https://outlook.office365.com".to_owned(),
            ],
            next_page_header: HeaderCase::default(),
            over_24_hours: LongWindow::default(),
            reject_exactly_24_hours: false,
            expiration_days: 20,
            start_cool_down_seconds: 0,
            backfill_hours: None,
            omit_status: false,
            requests_per_minute: None,
            statuses: BTreeMap::new(),
            require_content_length: true,
            webhooks_over_http: true,
            webhook_failures: 5,
            cache_bytes: 1 << 30,
            prepare: false,
            hec: HecConfig::default(),
            search: SearchConfig::default(),
            graph_audit: GraphAuditConfig::default(),
            vault: VaultConfig::default(),
            identity_header: "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a".to_owned(),
        }
    }
}

/// Spelling of the `NextPageUri` header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderCase {
    /// `NextPageUri`, as documented.
    #[default]
    Documented,
    /// `Nextpageuri`.
    Title,
    /// `nextpageuri`, as over HTTP/2.
    Lower,
}

/// What a window longer than 24 hours gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongWindow {
    /// `AF20055`, as measured.
    #[default]
    Reject,
    /// The first 24 hours only, without a word: the "partial results" that the reference warns of.
    Partial,
}

/// One tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // independent switches, each with a name
pub struct TenantConfig {
    /// Tenant id, a GUID.
    pub id: String,
    /// Verified domain: the token endpoint takes it in place of the id, and users belong to it.
    pub domain: String,
    /// Application (client) id.
    pub client_id: String,
    /// The application's secret.
    pub client_secret: String,
    /// Application permissions in its tokens.
    pub roles: Vec<String>,
    /// More applications of the tenant; each has subscriptions of its own.
    pub other_apps: Vec<AppConfig>,
    /// Whether subscriptions are enabled from the start.
    pub subscribed: bool,
    /// Whether unified auditing is on.
    pub audit: bool,
    /// The application belongs to another national cloud: `AADSTS900382`.
    pub other_cloud: bool,
    /// Certificates of its first application, as PEM.
    pub certificates: Vec<String>,
    /// Federated credentials of its first application.
    pub federated: Vec<FederatedCredential>,
    /// Managed identities whose tokens the machine's endpoints give.
    pub identities: Vec<ManagedIdentity>,
    /// Mailboxes that Graph sends from; any, if there are none.
    pub mailboxes: Vec<String>,
    /// Whether the applications have a directory role that lets them search the audit log in Exchange Online.
    pub exchange_role: bool,
    /// Who searches it with a password.
    pub audit_reader: AuditReader,
    /// The records.
    pub records: Records,
}

impl Default for TenantConfig {
    fn default() -> Self {
        Self {
            id: "7f3c9a52-1d0b-4c8e-9b61-2f5a8e0c4d17".to_owned(),
            domain: "contoso.onmicrosoft.com".to_owned(),
            client_id: "c0a1b2d3-4e5f-4061-8273-94a5b6c7d8e9".to_owned(),
            client_secret: "simulator-secret".to_owned(),
            roles: vec![
                "ActivityFeed.Read".to_owned(),
                "ActivityFeed.ReadDlp".to_owned(),
                "Exchange.ManageAsApp".to_owned(),
                "AuditLogsQuery.Read.All".to_owned(),
            ],
            other_apps: Vec::new(),
            subscribed: false,
            audit: true,
            other_cloud: false,
            certificates: Vec::new(),
            federated: Vec::new(),
            identities: Vec::new(),
            mailboxes: Vec::new(),
            exchange_role: true,
            audit_reader: AuditReader::default(),
            records: Records::default(),
        }
    }
}

/// One more application of a tenant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// Application (client) id.
    pub client_id: String,
    /// The application's secret.
    pub client_secret: String,
    /// Application permissions in its tokens.
    pub roles: Vec<String>,
}

/// Where a tenant's records come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// Made up from the seed.
    Generated(Generated),
    /// Read from files.
    Folder(Folder),
    /// Given blob by blob.
    Explicit(Vec<ExplicitBlob>),
}

impl Default for Records {
    fn default() -> Self {
        Self::Generated(Generated::default())
    }
}

/// Records made up from the seed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generated {
    /// Different records that exist at the start. Faults of the records come on top.
    pub events: u64,
    /// Different records in a blob.
    pub events_per_blob: u32,
    /// `contentCreated` of the blobs is spread over so many days before the start. The API lists
    /// 7 days and no more.
    pub days: f64,
    /// Feeds to fill.
    pub content_types: Vec<ContentType>,
    /// Frequency of odd records (no Id, no time, numbers as text …): 1 = as in published records,
    /// 0 = none.
    pub oddities: f64,
    /// Share of records larger than 256 KiB.
    pub huge_records: f64,
    /// Share of records that no tenant was seen to send: a lone surrogate, great depth, `null` in
    /// place of an object. All are valid JSON.
    pub hostile_records: f64,
    /// Records that appear each second after the start.
    pub live_events_per_second: f64,
    /// For how long they do.
    pub live_for_seconds: u64,
    /// Adds one blob of at least this size, streamed; 0 = none.
    pub giant_blob_bytes: u64,
    /// Adds one blob that holds a record of this size; 0 = none.
    pub giant_record_bytes: u64,
}

impl Default for Generated {
    fn default() -> Self {
        Self {
            events: 1_000,
            events_per_blob: 20,
            days: 6.5,
            content_types: ContentType::ALL.to_vec(),
            oddities: 1.0,
            huge_records: 0.000_02,
            hostile_records: 0.0,
            live_events_per_second: 0.0,
            live_for_seconds: 24 * 3600,
            giant_blob_bytes: 0,
            giant_record_bytes: 0,
        }
    }
}

/// Records read from `*.ndjson` files, one record a line, served byte for byte.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Every `*.ndjson` file below it is read.
    pub path: PathBuf,
    /// Records in a blob.
    #[serde(default = "Folder::records_per_blob")]
    pub records_per_blob: usize,
    /// `contentCreated` of the blobs is spread over so many days before the start.
    #[serde(default = "Folder::days")]
    pub days: f64,
}

impl Folder {
    /// The records below a folder, twenty a blob, over the last six and a half days.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            records_per_blob: Self::records_per_blob(),
            days: Self::days(),
        }
    }

    fn records_per_blob() -> usize {
        20
    }

    fn days() -> f64 {
        6.5
    }
}

/// One blob, written out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplicitBlob {
    /// The feed that lists it.
    pub content_type: ContentType,
    /// Its records, each served byte for byte.
    #[serde(default)]
    pub records: Vec<String>,
    /// A body to serve in place of the array of records, for answers that are not one.
    #[serde(default)]
    pub body: Option<String>,
    /// `contentCreated`; an hour before the start (or now, when it is added later) if absent.
    #[serde(default)]
    pub created: Option<DateTime<Utc>>,
    /// When it appears in listings; at once if absent.
    #[serde(default)]
    pub visible_at: Option<DateTime<Utc>>,
    /// `contentExpiration`.
    #[serde(default)]
    pub expires: Option<DateTime<Utc>>,
    /// How it answers.
    #[serde(default)]
    pub script: Option<Script>,
}

impl ExplicitBlob {
    /// A blob of these records.
    pub fn new<S: Into<String>>(
        content_type: ContentType,
        records: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            content_type,
            records: records.into_iter().map(Into::into).collect(),
            body: None,
            created: None,
            visible_at: None,
            expires: None,
            script: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_reads_from_a_file_and_misspelt_keys_are_refused() {
        let text = r#"{
            "seed": 7,
            "next_page_header": "lower",
            "over_24_hours": "partial",
            "tenants": [
                {"records": {"generated": {"events": 5, "content_types": ["Audit.General"]}}},
                {"id": "22222222-2222-4222-8222-222222222222", "records": {"folder": {"path": "x"}}},
                {"records": {"explicit": [{"content_type": "DLP.All", "records": ["{}"],
                    "script": {"failure": "throttled_403", "times": 2}}]}}
            ],
            "faults": {"blobs": {"internal_error": 0.5}, "records": {"late_blob": 0.1}}
        }"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.seed, 7);
        assert_eq!(config.tenants.len(), 3);
        assert!((config.faults.blobs.internal_error - 0.5).abs() < f64::EPSILON);
        assert!(matches!(config.tenants[1].records, Records::Folder(_)));
        let misspelt = serde_json::from_str::<Config>(r#"{"fault": {}}"#);
        assert!(
            misspelt
                .unwrap_err()
                .to_string()
                .contains("unknown field `fault`")
        );
    }
}
