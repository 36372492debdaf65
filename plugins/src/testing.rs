//! What the plugins' tests have in common.

use std::sync::Arc;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::http;
use audit_exporter_core::journal::Store;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::{Batch, Context};
use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

pub(crate) const TENANT_ID: &str = "11111111-1111-1111-1111-111111111111";

/// A server's side of TLS as `localhost`, and a file with the certificate that vouches for it.
pub(crate) fn tls_server() -> (TlsAcceptor, tempfile::NamedTempFile) {
    let names = vec!["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

/// A plugin's context without tenants.
pub(crate) fn context(path: &str, options: &str) -> Context {
    Context {
        name: path.rsplit('.').next().unwrap_or_default().into(),
        options: Options::from_toml(path, options),
        tenants: Arc::new([]),
        http: http::Client::new().unwrap(),
        meter: Meter::default(),
        clock: Clock::system(),
        store: Store::in_memory(),
        replay: None,
        webhook: None,
    }
}

/// A tenant without options.
pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant {
        name: name.into(),
        id: TENANT_ID.into(),
        tags: Vec::new(),
        options: Options::from_toml(&format!("tenants.{name}"), ""),
    }
}

/// Where an event of a tenant came from.
pub(crate) fn origin(tenant: &str, content_type: &str) -> Arc<Origin> {
    Arc::new(Origin {
        tenant: TENANT_ID.into(),
        tenant_name: tenant.into(),
        source: "activity".into(),
        content_type: content_type.into(),
        unit: "blob".into(),
    })
}

/// An event of tenant `contoso`.
pub(crate) fn event(record: &str) -> AuditEvent {
    AuditEvent::new(
        Bytes::copy_from_slice(record.as_bytes()),
        origin("contoso", "Audit.General"),
    )
}

/// A batch at some position.
pub(crate) fn batch(events: impl IntoIterator<Item = AuditEvent>) -> Batch {
    Batch {
        position: None,
        events: Arc::new(events.into_iter().collect()),
    }
}
