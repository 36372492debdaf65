//! Codes of Azure's managed identities and of Key Vault (reference: auth.md §5 and §7).

use audit_exporter_core::Kind::{Auth, Config, Throttled, Unavailable};

use super::Loss::{Delayed, Waiting};
use super::Row;

pub(super) const IDENTITY_ROWS: &[Row] = &[
    Row::new(
        &["bad_request_102"],
        Unavailable,
        "the header Metadata did not arrive",
        "look for a proxy between this program and the endpoint",
        Waiting,
    ),
    Row::new(
        &["invalid_resource"],
        Config,
        "the tenant does not know the API that the token is for",
        "check cloud and audience",
        Waiting,
    ),
    Row::new(
        &["invalid_request"],
        Auth,
        "this machine has no such identity",
        "assign the identity to it, and compare client_id, object_id or resource_id of managed_identity",
        Waiting,
    ),
    Row::new(
        &["unauthorized_client"],
        Auth,
        "the identity is not known in its tenant",
        "assign it to this machine again",
        Waiting,
    ),
    Row::new(
        &["unknown_source"],
        Auth,
        "the endpoint does not serve this program",
        "run it on the machine that has the identity",
        Waiting,
    ),
];

pub(super) const VAULT_ROWS: &[Row] = &[
    Row::new(
        &["SecretNotFound"],
        Auth,
        "the vault has no secret or certificate of this name and version",
        "compare the name with the vault's page in the Azure portal (Objects)",
        Waiting,
    ),
    Row::new(
        &[
            "Forbidden",
            "AccessDenied",
            "ForbiddenByPolicy",
            "ForbiddenByRbac",
        ],
        Auth,
        "the vault does not let this identity read secrets",
        "give it the role Key Vault Secrets User on the vault (Access control), or Get for secrets in an access policy",
        Waiting,
    ),
    Row::new(
        &["SecretDisabled"],
        Auth,
        "the secret or certificate is disabled",
        "enable it in the vault, or name another version",
        Waiting,
    ),
    Row::new(
        &["Unauthorized"],
        Auth,
        "the vault does not accept the token: it belongs to another tenant or cloud",
        "check tenant and the credential in key_vault, and the tenant's cloud",
        Waiting,
    ),
    Row::new(
        &["BadParameter"],
        Config,
        "the name or version of the secret is not valid",
        "compare it with the vault's page in the Azure portal (Objects)",
        Waiting,
    ),
    Row::new(
        &["Throttled"],
        Throttled,
        "too many requests to the vault",
        "look for other programs that read it",
        Delayed,
    ),
    Row::new(
        &["HTTP 500", "HTTP 503"],
        Unavailable,
        "the vault has an outage",
        "",
        Delayed,
    ),
];
