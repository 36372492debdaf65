//! What an access token says about itself. For `check` and advice only: the service is who judges a token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims that tell a wrong tenant, audience or permission (reference: auth.md §1).
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Claims {
    /// The audience.
    #[serde(default)]
    pub(crate) aud: Option<String>,
    /// The tenant.
    #[serde(default)]
    pub(crate) tid: Option<String>,
    /// Application permissions.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
}

impl Claims {
    /// Reads a JWT's payload without verifying it; `None` if the token is opaque.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// Whether the token carries the application permission.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles
            .iter()
            .any(|held| held.eq_ignore_ascii_case(role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_the_payload_and_never_fail() {
        let payload =
            URL_SAFE_NO_PAD.encode(r#"{"aud":"a","tid":"t","roles":["ActivityFeed.Read"]}"#);
        let claims = Claims::read(&format!("h.{payload}.s")).unwrap();
        assert!(claims.has_role("activityfeed.read"));
        assert_eq!(claims.tid.as_deref(), Some("t"));
        for opaque in ["", "opaque", "a.b.c", "a.e30=.c.d"] {
            assert!(Claims::read(opaque).is_none_or(|claims| claims.roles.is_empty()));
        }
    }
}
