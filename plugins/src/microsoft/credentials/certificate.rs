//! Certificates with their keys, from PEM and PFX files or from Key Vault.

use std::path::{Path, PathBuf};

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use p12_keystore::Pkcs12Archive;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use serde::Deserialize;
use x509_parser::parse_x509_certificate;

use super::{Address, Place, file};

/// What every section of a PEM file begins with.
const PEM: &[u8] = b"-----BEGIN";
/// What an encrypted key says of itself, in both forms that there are.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The options as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateOptions {
    file: Option<PathBuf>,
    key: Option<PathBuf>,
    password: Option<Secret>,
    key_vault: Option<String>,
}

impl CertificateOptions {
    /// Where it is, if the options at `key` say that once.
    pub(super) fn place(
        self,
        options: &Options,
        key: &str,
        vault: impl FnOnce(&str, &str) -> Result<Address>,
    ) -> Result<Place<Files>> {
        match (self.file, self.key_vault) {
            (Some(file), None) => Ok(Place::Here(Files {
                certificate: options.resolve_path(&file),
                key: self.key.map(|key| options.resolve_path(&key)),
                password: self.password,
            })),
            (None, Some(name)) if self.key.is_none() && self.password.is_none() => {
                Ok(Place::Vault(vault("certificate.key_vault", &name)?))
            }
            (None, Some(_)) => {
                let problem = "what is in a key vault has no key or password of its own";
                Err(options.problem(key, problem))
            }
            _ => {
                let expected = "a table with either file or key_vault";
                Err(options.invalid(key, expected, "none or both"))
            }
        }
    }
}

/// A certificate and its key on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: Option<PathBuf>,
    password: Option<Secret>,
}

impl Files {
    /// What the files hold at this moment. The error names the file and says what is wrong with it.
    pub(crate) fn read(&self) -> Result<Certificate, String> {
        let read = |path: &Path| {
            let name = path.display();
            file::read(path)
                .map_err(|error| format!("certificate: file {name} cannot be read: {error}"))
        };
        let found = read(&self.certificate)?;
        let key = self.key.as_deref().map(read).transpose()?;
        let password = self.password.as_ref().map(Secret::read).transpose();
        let password = password.map_err(|error| format!("certificate.password: {error}"))?;
        let certificate = if holds(&found, PEM) {
            Certificate::from_pem(&found, key.as_deref().unwrap_or(&found))
        } else {
            let password = password.as_ref().map_or("", ExposeSecret::expose_secret);
            Certificate::from_pfx(&found, password)
        };
        certificate.map_err(|problem| {
            format!("certificate: file {} {problem}", self.certificate.display())
        })
    }
}

/// A certificate with its key, ready to sign.
pub(crate) struct Certificate {
    der: Vec<u8>,
    key: RsaKeyPair,
    subject: String,
    ends: DateTime<Utc>,
}

impl Certificate {
    /// What Key Vault hands out: PEM, or a PFX without a password in base64.
    pub(crate) fn from_vault(stored: &str) -> Result<Self, String> {
        let bytes = stored.as_bytes();
        if holds(bytes, PEM) {
            return Self::from_pem(bytes, bytes);
        }
        let pfx = STANDARD
            .decode(stored.trim())
            .map_err(|_| "is neither PEM nor a PFX in base64: it is no certificate")?;
        Self::from_pfx(&pfx, "")
    }

    fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, String> {
        let certificates: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(certificates)
            .filter_map(|found| found.ok().map(|der| der.to_vec()))
            .collect();
        let found = PrivateKeyDer::pem_slice_iter(key).find_map(std::result::Result::ok);
        let key = match found {
            Some(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            Some(PrivateKeyDer::Pkcs1(der)) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            Some(_) => return Err(NOT_RSA.to_owned()),
            None if holds(key, ENCRYPTED) => {
                return Err(
                    "has an encrypted key, which only a PFX may have; make one: \
                            openssl pkcs12 -export -in FILE -out FILE.pfx"
                        .to_owned(),
                );
            }
            None => {
                return Err(
                    "has no private key; put it into the same file, or name it by key".into(),
                );
            }
        };
        Self::of(certificates, key.map_err(|_| NOT_RSA)?)
    }

    fn from_pfx(pfx: &[u8], password: &str) -> Result<Self, String> {
        let archive = Pkcs12Archive::from_pkcs12(pfx, password).map_err(|error| {
            format!("is no PEM, and no PFX that opens with the password given ({error})")
        })?;
        let key = archive.keys.first().ok_or("has no private key")?;
        let key = RsaKeyPair::from_pkcs8(key.key.as_der()).map_err(|_| NOT_RSA)?;
        let certificates = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec());
        Self::of(certificates.collect(), key)
    }

    /// The one of `certificates` that belongs to the key; others are those of its issuers.
    fn of(certificates: Vec<Vec<u8>>, key: RsaKeyPair) -> Result<Self, String> {
        if certificates.is_empty() {
            return Err("has no certificate".to_owned());
        }
        for der in certificates {
            let parsed = Parsed::of(&der).ok_or("has a certificate that cannot be read")?;
            if parsed.key != key.public_key().as_ref() {
                continue;
            }
            return Ok(Self {
                der,
                key,
                subject: parsed.subject,
                ends: parsed.ends,
            });
        }
        Err("has a key that belongs to none of its certificates".to_owned())
    }

    /// `x5t#S256` (RFC 7515, 4.1.8): the hash of its DER in base64url, without padding.
    pub(super) fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &self.der))
    }

    /// The thumbprint as the app registration shows it: SHA-1 in hexadecimal digits.
    pub(crate) fn shown_thumbprint(&self) -> String {
        use std::fmt::Write as _;
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.der);
        hash.as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02X}").unwrap_or_default();
            text
        })
    }

    /// Whose it is.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// The last moment at which it is valid.
    pub(crate) fn ends(&self) -> DateTime<Utc> {
        self.ends
    }

    /// The signature of `text` by PS256 (RFC 7518, 3.5).
    pub(super) fn sign(&self, text: &str) -> Result<Vec<u8>, String> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PSS_SHA256, &random, text.as_bytes(), &mut signature)
            .map_err(|_| "certificate: its key could not sign".to_owned())?;
        Ok(signature)
    }
}

/// What a certificate says.
struct Parsed {
    key: Vec<u8>,
    subject: String,
    ends: DateTime<Utc>,
}

impl Parsed {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(der).ok()?;
        let ends = parsed.validity().not_after.timestamp();
        Some(Self {
            key: parsed.public_key().subject_public_key.data.to_vec(),
            subject: parsed.subject().to_string(),
            ends: DateTime::from_timestamp(ends, 0).unwrap_or(DateTime::<Utc>::MAX_UTC),
        })
    }
}

const NOT_RSA: &str =
    "has a key that is not RSA of 2048 to 4096 bits, which Microsoft Entra asks for";

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
