use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::DateTime;
use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_parser::parse_x509_certificate;

use super::*;
use crate::microsoft::credentials::assertion;

/// What reading this file, with a key and a password beside it, comes to.
fn read(file: &Path, key: Option<&str>, password: Option<&str>) -> Result<Certificate, String> {
    let key = key.map(|key| format!(", key = {:?}", fixture(key)));
    let password = password.map(|password| format!(", password = {password:?}"));
    let (key, password) = (key.unwrap_or_default(), password.unwrap_or_default());
    let text = format!("client_id = \"app\"\ncertificate = {{ file = {file:?}{key}{password} }}");
    match access(&text).unwrap().app.credential.clone() {
        Credential::App {
            proof: Proof::Certificate(Place::Here(files)),
            ..
        } => files.read(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn certificates_are_read_from_each_kind_of_file() {
    let folder = tempfile::tempdir().unwrap();
    let both = folder.path().join("app.pem");
    // The issuer's certificate first, as some tools write it.
    let texts = ["other.crt", "app.crt", "app.key"].map(fixture_text);
    std::fs::write(&both, texts.concat()).unwrap();
    let thumbprints = [
        read(&both, None, None),
        read(&fixture("app.crt"), Some("app.key"), None),
        read(&fixture("app.crt"), Some("app-pkcs1.key"), None),
        read(&fixture("app.pfx"), None, Some("geheim")),
        read(&fixture("vault.pfx"), None, None),
        Certificate::from_vault(&STANDARD.encode(std::fs::read(fixture("vault.pfx")).unwrap())),
        Certificate::from_vault(&texts.concat()),
    ]
    .map(|certificate| certificate.unwrap().thumbprint());
    let der = CertificateDer::from_pem_slice(texts[1].as_bytes()).unwrap();
    let expected = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
    assert!(thumbprints.iter().all(|thumbprint| *thumbprint == expected));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = fixture_text("app.key");
    let encrypted = format!(
        "{}-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        fixture_text("app.crt")
    );
    for (found, told) in [
        (
            read(&fixture("app.crt"), None, None),
            "has no private key; put it into the same file, or name it by key",
        ),
        (
            read(&fixture("app.crt"), Some("other.key"), None),
            "has a key that belongs to none of its certificates",
        ),
        (
            read(&file("key.pem", &key), None, None),
            "has no certificate",
        ),
        (
            read(&fixture("elliptic.pem"), None, None),
            "has a key that is not RSA of 2048 to 4096 bits",
        ),
        (
            read(&file("encrypted.pem", &encrypted), None, None),
            "has an encrypted key, which only a PFX may have",
        ),
        (
            read(&fixture("app.pfx"), None, Some("hunter2")),
            "is no PEM, and no PFX that opens with the password given",
        ),
        (
            read(&file("text", "hunter2"), None, None),
            "is no PEM, and no PFX that opens with the password given",
        ),
        (
            read(Path::new("/no/such/file"), None, None),
            "/no/such/file cannot be read: No such file",
        ),
    ] {
        let problem = found.err().unwrap();
        assert!(problem.starts_with("certificate: file /"), "{problem}");
        assert!(problem.contains(told), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn an_assertion_is_what_entra_asks_for() {
    let certificate = read(&fixture("app.pfx"), None, Some("geheim")).unwrap();
    let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
    let endpoint = "https://login.microsoftonline.com/t/oauth2/v2.0/token";
    let sign = || assertion::sign(&certificate, APP, endpoint, now).unwrap();
    let (one, two) = (sign(), sign());
    let parts: Vec<&str> = one.expose_secret().split('.').collect();
    let part = |index: usize| URL_SAFE_NO_PAD.decode(parts[index]).unwrap();
    let header: Value = serde_json::from_slice(&part(0)).unwrap();
    let expected = serde_json::json!({
        "alg": "PS256", "typ": "JWT", "x5t#S256": certificate.thumbprint()
    });
    assert_eq!(header, expected);
    let mut claims: Value = serde_json::from_slice(&part(1)).unwrap();
    let jti = claims["jti"].take();
    assert!(audit_exporter_core::event::is_guid(jti.as_str().unwrap()));
    let expected = serde_json::json!({
        "aud": endpoint, "iss": APP, "sub": APP, "jti": null,
        "nbf": 1_790_000_000, "iat": 1_790_000_000, "exp": 1_790_000_600
    });
    assert_eq!(claims, expected);
    assert!(
        !two.expose_secret().contains(parts[1]),
        "each has its own name"
    );

    let pem = fixture_text("app.crt");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, parsed) = parse_x509_certificate(&der).unwrap();
    let key = &parsed.public_key().subject_public_key.data;
    let signed = format!("{}.{}", parts[0], parts[1]);
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key)
        .verify(signed.as_bytes(), &part(2))
        .unwrap();
}

#[test]
fn the_thumbprint_is_shown_as_the_app_registration_shows_it() {
    let certificate = read(&fixture("app.pfx"), None, Some("geheim")).unwrap();
    let shown = certificate.shown_thumbprint();
    assert_eq!(shown.len(), 40);
    assert!(
        shown
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    );
    assert_eq!(certificate.subject(), "CN=audit-exporter tests");
}
