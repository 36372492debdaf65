//! Changing a tenant while it runs: from a test through [`Control`], from anywhere else through
//! `POST /control/…`, which do the same.

use std::sync::{Arc, atomic::Ordering};

use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    assertion::{Claims, FederatedCredential},
    catalogue::Blob,
    config::{ExplicitBlob, Generated},
    content_type::ContentType,
    faults::{Faults, Script},
    hec::HecFailure,
    state::{State, Tenant, lock},
    vault::VaultSecret,
};

/// A handle on a running simulator. Methods that name a tenant or blob that does not exist return
/// `None` or `false` and do nothing.
#[derive(Clone)]
pub struct Control(Arc<State>);

impl Control {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    fn tenant(&self, id: &str) -> Option<&Tenant> {
        self.0.tenant_named(id)
    }

    fn blob(&self, id: &str) -> Option<Arc<Blob>> {
        self.0.blob(id).map(|(_, blob)| blob)
    }

    /// The faults of this moment.
    #[must_use]
    pub fn faults(&self) -> Faults {
        (*self.0.faults()).clone()
    }

    /// Other faults from now on. Those of the records concern blobs added later.
    pub fn set_faults(&self, faults: Faults) {
        self.0.set_faults(faults);
    }

    /// Adds a blob; it appears at once unless it says otherwise. Returns its content id.
    #[must_use]
    pub fn add_blob(&self, tenant: &str, blob: ExplicitBlob) -> Option<String> {
        Some(self.0.add_blob(self.tenant(tenant)?, blob))
    }

    /// Makes up more events, spread over the past as configured. Returns the content ids.
    #[must_use]
    pub fn add_events(&self, tenant: &str, generated: Generated) -> Option<Vec<String>> {
        Some(self.0.add_events(self.tenant(tenant)?, generated))
    }

    /// Brings a blob's records again under a new content id, which is returned.
    #[must_use]
    pub fn redeliver(&self, content_id: &str) -> Option<String> {
        let (tenant, blob) = self.0.blob(content_id)?;
        Some(self.0.redeliver(tenant, &blob))
    }

    /// Lets a blob expire now.
    #[must_use]
    pub fn expire_blob(&self, content_id: &str) -> bool {
        let blob = self.blob(content_id);
        blob.inspect(|blob| blob.expire_at(self.0.clock.now()))
            .is_some()
    }

    /// Sets how a blob answers, or takes that back.
    #[must_use]
    pub fn script_blob(&self, content_id: &str, script: Option<Script>) -> bool {
        match self.blob(content_id) {
            Some(blob) => {
                blob.set_script(script);
                true
            }
            None => false,
        }
    }

    /// The content ids of a tenant's feed, listed yet or not, in the order in which they were made.
    #[must_use]
    pub fn content_ids(&self, tenant: &str, content_type: ContentType) -> Vec<String> {
        let blobs = self.tenant(tenant).map(Tenant::blobs).unwrap_or_default();
        blobs
            .iter()
            .filter(|blob| blob.content_type == content_type)
            .map(|blob| blob.id.to_string())
            .collect()
    }

    /// How often a blob was served whole.
    #[must_use]
    pub fn served(&self, content_id: &str) -> u32 {
        self.blob(content_id)
            .map_or(0, |blob| blob.served.load(Ordering::Relaxed))
    }

    /// Lets the HTTP Event Collector's next requests with events fail so.
    pub fn script_hec(&self, failures: impl IntoIterator<Item = HecFailure>) {
        self.0.hec.script(failures);
    }

    /// Lets the HTTP Event Collector forget its channels, as a restart does.
    pub fn restart_hec(&self) {
        self.0.hec.restart();
    }

    /// Switches unified auditing on or off.
    #[must_use]
    pub fn set_audit(&self, tenant: &str, on: bool) -> bool {
        let tenant = self.tenant(tenant);
        tenant
            .inspect(|tenant| tenant.audit.store(on, Ordering::Relaxed))
            .is_some()
    }

    /// Lets a tenant have so many requests in a minute, or as many as the others again.
    #[must_use]
    pub fn set_limit(&self, tenant: &str, requests_per_minute: Option<u32>) -> bool {
        let tenant = self.tenant(tenant);
        tenant
            .inspect(|tenant| *lock(&tenant.limit) = requests_per_minute)
            .is_some()
    }

    /// Disables the subscriptions to a content type as an administrator of the tenant (or of the
    /// service) does. Returns how many there were.
    #[must_use]
    pub fn disable_subscription(
        &self,
        tenant: &str,
        content_type: ContentType,
        by_service: bool,
    ) -> usize {
        self.tenant(tenant).map_or(0, |tenant| {
            tenant.subscriptions.disable(content_type, by_service)
        })
    }

    /// A token as an issuer outside signs it for an application, good for so long from now.
    #[must_use]
    pub fn federated_token(&self, credential: &FederatedCredential, life_seconds: i64) -> String {
        let now = self.0.clock.now().timestamp();
        let claims = Claims::federated(credential, now, now + life_seconds);
        self.0.signer.sign(&claims)
    }

    /// Puts a new version of a secret into the key vault.
    pub fn put_secret(&self, secret: VaultSecret) {
        self.0.vault.put(secret);
    }

    /// Sets the simulator's clock forward: blobs appear and expire, tokens run out.
    pub fn advance(&self, by: TimeDelta) {
        self.0.clock.advance(by);
    }
}

/// `POST /control/blobs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBlob {
    tenant: String,
    blob: ExplicitBlob,
}

/// `POST /control/events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddEvents {
    tenant: String,
    #[serde(default)]
    generated: Generated,
}

/// `POST /control/redeliver`, `/control/expire`, `/control/script`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneBlob {
    content_id: String,
    #[serde(default)]
    script: Option<Script>,
}

/// `POST /control/audit`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Audit {
    tenant: String,
    on: bool,
}

/// `POST /control/limit`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    tenant: String,
    #[serde(default)]
    requests_per_minute: Option<u32>,
}

/// `POST /control/disable`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disable {
    tenant: String,
    content_type: ContentType,
    #[serde(default)]
    by_service: bool,
}

/// `POST /control/hec`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptHec {
    failures: Vec<HecFailure>,
}

/// `POST /control/federated_token`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignToken {
    credential: FederatedCredential,
    life_seconds: i64,
}

/// `POST /control/clock`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// Does what a control request asks; an error says what is wrong with it.
pub(crate) fn post(control: &Control, action: &str, body: &[u8]) -> Result<Value, String> {
    let found = |done: bool| {
        if done {
            Ok(json!({}))
        } else {
            Err("no such tenant or blob".to_owned())
        }
    };
    match action {
        "faults" => {
            control.set_faults(read(body)?);
            Ok(json!(control.faults()))
        }
        "blobs" => {
            let wanted: AddBlob = read(body)?;
            control
                .add_blob(&wanted.tenant, wanted.blob)
                .map(|id| json!({"content_id": id}))
                .ok_or("no such tenant".to_owned())
        }
        "events" => {
            let wanted: AddEvents = read(body)?;
            let ids = control.add_events(&wanted.tenant, wanted.generated);
            ids.map(|ids| json!({"content_ids": ids}))
                .ok_or("no such tenant".to_owned())
        }
        "redeliver" => {
            let wanted: OneBlob = read(body)?;
            control
                .redeliver(&wanted.content_id)
                .map(|id| json!({"content_id": id}))
                .ok_or("no such blob".to_owned())
        }
        "expire" => found(control.expire_blob(&read::<OneBlob>(body)?.content_id)),
        "script" => {
            let wanted: OneBlob = read(body)?;
            found(control.script_blob(&wanted.content_id, wanted.script))
        }
        "audit" => {
            let wanted: Audit = read(body)?;
            found(control.set_audit(&wanted.tenant, wanted.on))
        }
        "limit" => {
            let wanted: Limit = read(body)?;
            found(control.set_limit(&wanted.tenant, wanted.requests_per_minute))
        }
        "disable" => {
            let wanted: Disable = read(body)?;
            Ok(
                json!({"disabled": control.disable_subscription(&wanted.tenant, wanted.content_type, wanted.by_service)}),
            )
        }
        "hec" => {
            control.script_hec(read::<ScriptHec>(body)?.failures);
            Ok(json!({}))
        }
        "hec_restart" => {
            control.restart_hec();
            Ok(json!({}))
        }
        "federated_token" => {
            let wanted: SignToken = read(body)?;
            let token = control.federated_token(&wanted.credential, wanted.life_seconds);
            Ok(json!({"token": token}))
        }
        "secret" => {
            control.put_secret(read(body)?);
            Ok(json!({}))
        }
        "clock" => {
            control.advance(TimeDelta::seconds(read::<Advance>(body)?.advance_seconds));
            Ok(json!({"now": control.0.clock.now()}))
        }
        other => Err(format!("unknown control {other:?}")),
    }
}
