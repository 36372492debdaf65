//! The assertion by which a certificate proves an app (reference: auth.md §3).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use uuid::Uuid;

use super::Certificate;

/// Microsoft asks for five to ten minutes.
const LIFE: Duration = Duration::from_mins(10);

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

/// An assertion that `client_id` asks the token endpoint `audience` at this moment, signed with the certificate's key.
/// Each has a name of its own, so that none can be used twice.
pub(super) fn sign(
    certificate: &Certificate,
    client_id: &str,
    audience: &str,
    now: DateTime<Utc>,
) -> Result<SecretString, String> {
    let header = Header {
        alg: "PS256",
        typ: "JWT",
        thumbprint: certificate.thumbprint(),
    };
    let now = now.timestamp();
    let claims = Claims {
        aud: audience,
        iss: client_id,
        sub: client_id,
        jti: Uuid::new_v4().to_string(),
        nbf: now,
        iat: now,
        exp: now + LIFE.as_secs() as i64,
    };
    let text = format!("{}.{}", part(&header)?, part(&claims)?);
    let signature = URL_SAFE_NO_PAD.encode(certificate.sign(&text)?);
    Ok(format!("{text}.{signature}").into())
}

fn part(value: &impl Serialize) -> Result<String, String> {
    let json = serde_json::to_vec(value).map_err(|error| format!("an assertion: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}
