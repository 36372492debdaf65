//! Whom a sink trusts to be its server: the authorities in a file of the user's, or those that the system trusts.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use audit_exporter_core::config::Options;
use audit_exporter_core::{Error, Result, http};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// The option that names the file.
const KEY: &str = "ca_file";

/// The option `ca_file`.
#[derive(Debug)]
pub(super) struct Trust {
    ca_file: Option<PathBuf>,
}

impl Trust {
    /// `uses_tls` says whether there are certificates at all.
    pub(super) fn read(
        options: &Options,
        ca_file: Option<PathBuf>,
        uses_tls: bool,
    ) -> Result<Self> {
        if ca_file.is_some() && !uses_tls {
            return Err(options.problem(KEY, "has no effect without TLS"));
        }
        Ok(Self {
            ca_file: ca_file.map(|path| options.resolve_path(&path)),
        })
    }

    /// `client`, which trusts as this says.
    pub(super) fn http(&self, options: &Options, client: http::Client) -> Result<http::Client> {
        if self.ca_file.is_none() {
            return Ok(client);
        }
        let mut tls = self.tls(options)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        client.with_tls(tls)
    }

    /// TLS that trusts as this says.
    pub(super) fn tls(&self, options: &Options) -> Result<ClientConfig> {
        let unusable = |error| Error::config("TLS cannot be set up").with_cause(error);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let trusting = match self.roots(options)? {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder.with_platform_verifier().map_err(unusable)?,
        };
        Ok(trusting.with_no_client_auth())
    }

    fn roots(&self, options: &Options) -> Result<Option<RootCertStore>> {
        let Some(path) = &self.ca_file else {
            return Ok(None);
        };
        let name = path.display();
        let unreadable = |error: &dyn std::error::Error| {
            options.problem(KEY, &format!("{name} cannot be used: {error}"))
        };
        let mut roots = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?
        {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
        if roots.is_empty() {
            return Err(options.problem(KEY, &format!("{name} holds no certificate in PEM")));
        }
        Ok(Some(roots))
    }

    /// Says of an error that the server's certificate has caused what would mend it.
    pub(super) fn explain(&self, error: Error) -> Error {
        let Some(refusal) = error.causes().find_map(refusal) else {
            return error;
        };
        let why = match (refusal, &self.ca_file) {
            (CertificateError::UnknownIssuer | CertificateError::BadSignature, Some(path)) => {
                format!(
                    "nobody in {} ({KEY}) vouches for its certificate",
                    path.display()
                )
            }
            (CertificateError::UnknownIssuer, None) => format!(
                "this system does not trust the issuer of its certificate; {KEY} may name a file with that issuer's"
            ),
            (
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                _,
            ) => "its certificate is for another name than that of the address".to_owned(),
            _ => "its certificate is not accepted".to_owned(),
        };
        error.context(why)
    }
}

/// What TLS has against a certificate.
fn refusal<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        // It does not count what it wraps among its causes.
        return refusal(error.get_ref()?);
    }
    match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(refusal)) => Some(refusal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use audit_exporter_core::plugin::{Context, Sink};
    use axum::Router;
    use axum::serve::Listener;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::server::TlsStream;

    use super::*;
    use crate::testing::{batch, context, event, tenant, tls_server};

    struct Tls(TcpListener, TlsAcceptor);

    impl Listener for Tls {
        type Io = TlsStream<TcpStream>;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (Self::Io, Self::Addr) {
            loop {
                let (stream, peer) = self.0.accept().await.unwrap();
                // Who does not trust us leaves.
                if let Ok(stream) = self.1.accept(stream).await {
                    return (stream, peer);
                }
            }
        }

        fn local_addr(&self) -> io::Result<Self::Addr> {
            self.0.local_addr()
        }
    }

    /// Takes everything, as Splunk does; its port.
    async fn serve(acceptor: TlsAcceptor) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Router::new().fallback(async || r#"{"text":"Success","code":0}"#);
        tokio::spawn(async move { axum::serve(Tls(listener, acceptor), taken).await });
        port
    }

    fn build(kind: &str, options: &str) -> Result<Box<dyn Sink>> {
        let context = context("sinks.out", options);
        let tenants = [tenant("contoso")].into();
        crate::registry().build_sink(kind, Context { tenants, ..context })
    }

    fn sinks(base: &str) -> [(&'static str, String); 2] {
        [
            ("http", format!("url = \"{base}\"")),
            ("splunk_hec", format!("urls = [\"{base}\"]\ntoken = \"t\"")),
        ]
    }

    #[tokio::test]
    async fn a_server_that_nobody_vouches_for_gets_nothing_and_the_error_says_what_to_do() {
        let (acceptor, authority) = tls_server();
        let (_, stranger) = tls_server();
        let port = serve(acceptor).await;
        let file = |file: &tempfile::NamedTempFile| format!("ca_file = {:?}", file.path());
        let events = batch([event("{\"Id\":\"1\"}")]);
        for (host, ca_file, problem) in [
            ("localhost", file(&authority), None),
            (
                "localhost",
                file(&stranger),
                Some("(ca_file) vouches for its certificate: "),
            ),
            (
                "localhost",
                String::new(),
                Some("ca_file may name a file with that issuer's: "),
            ),
            (
                "127.0.0.1",
                file(&authority),
                Some("for another name than that of the address: "),
            ),
        ] {
            for (kind, options) in sinks(&format!("https://{host}:{port}")) {
                let sink = build(kind, &format!("{options}\n{ca_file}")).unwrap();
                match (sink.deliver(&events).await, problem) {
                    (Ok(_), None) => {}
                    (Err(error), Some(problem)) => {
                        let error = error.to_string();
                        assert!(error.starts_with(&format!("{host}:{port}: ")), "{error}");
                        assert!(error.contains(problem), "{kind}: {error}");
                    }
                    (answer, problem) => panic!("{kind}: {answer:?}, and expected was {problem:?}"),
                }
            }
        }
    }

    #[test]
    fn a_file_that_can_mean_nothing_is_refused_at_start() {
        let (_, authority) = tls_server();
        let empty = tempfile::NamedTempFile::new().unwrap();
        let good = format!("ca_file = {:?}", authority.path());
        for (base, ca_file, problem) in [
            ("http://a", &*good, "has no effect without TLS"),
            (
                "https://a",
                "ca_file = \"/nowhere\"",
                "/nowhere cannot be used: ",
            ),
            (
                "https://a",
                &format!("ca_file = {:?}", empty.path()),
                "holds no certificate in PEM",
            ),
        ] {
            for (kind, options) in sinks(base) {
                let error = build(kind, &format!("{options}\n{ca_file}")).err().unwrap();
                let error = error.to_string();
                assert!(error.starts_with("sinks.out.ca_file: "), "{kind}: {error}");
                assert!(error.contains(problem), "{kind}: {error}");
            }
        }
    }
}
