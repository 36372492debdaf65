//! Access tokens: JSON web tokens in Entra's shape, signed with a key of the simulator's own.

use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::state::State;

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: String,
    pub(crate) iss: String,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
    pub(crate) appid: String,
    pub(crate) appidacr: String,
    pub(crate) idp: String,
    pub(crate) oid: String,
    pub(crate) roles: Vec<String>,
    pub(crate) sub: String,
    pub(crate) tid: String,
    pub(crate) uti: String,
    pub(crate) ver: String,
}

/// Signs tokens and knows its own again.
pub(crate) struct Signer([u8; 32]);

impl Signer {
    /// A signer whose key follows from the seed, so that tokens survive a restart.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Sha256::digest(format!("simulator {seed}")).into())
    }

    /// HMAC-SHA-256 (RFC 2104).
    fn mac(&self, text: &str) -> String {
        let mut inner = [0x36u8; 64];
        let mut outer = [0x5cu8; 64];
        for (place, byte) in self.0.iter().enumerate() {
            inner[place] ^= byte;
            outer[place] ^= byte;
        }
        let digest = Sha256::new()
            .chain_update(inner)
            .chain_update(text)
            .finalize();
        let digest = Sha256::new()
            .chain_update(outer)
            .chain_update(digest)
            .finalize();
        BASE64_URL_SAFE_NO_PAD.encode(digest)
    }

    /// Signs a page token, briefly.
    pub(crate) fn page_mac(&self, text: &str) -> String {
        let mut mac = self.mac(text);
        mac.truncate(12);
        mac
    }

    /// A token that carries these claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> String {
        let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"HS256"}"#);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
        let text = format!("{header}.{claims}");
        let mac = self.mac(&text);
        format!("{text}.{mac}")
    }

    /// Whether a token was signed here.
    pub(crate) fn is_ours(&self, token: &str) -> bool {
        token
            .rsplit_once('.')
            .is_some_and(|(text, mac)| self.mac(text) == mac)
    }

    /// The claims of a token of our own.
    pub(crate) fn verify(&self, token: &str) -> Option<Claims> {
        if !self.is_ours(token) {
            return None;
        }
        let claims = token.split('.').nth(1)?;
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

impl State {
    /// Whether tokens for this audience are issued and taken.
    pub(crate) fn accepts_audience(&self, audience: &str) -> bool {
        let audience = audience.trim_end_matches('/');
        audience == self.url
            || self
                .config
                .audiences
                .iter()
                .any(|it| it.trim_end_matches('/') == audience)
    }

    /// The claims of a bearer token that is good at this moment, for one of the APIs.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Option<Claims> {
        self.bearer(headers)
            .filter(|claims| self.accepts_audience(&claims.aud))
    }

    /// The claims of a bearer token that is good at this moment, whatever it is for.
    pub(crate) fn bearer(&self, headers: &HeaderMap) -> Option<Claims> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let claims = self.signer.verify(token.trim())?;
        let now = self.clock.now().timestamp();
        let refused = self.faults().tokens.refused_after_seconds;
        let good =
            now < claims.exp && refused.is_none_or(|seconds| now < claims.iat + seconds as i64);
        good.then_some(claims)
    }
}
