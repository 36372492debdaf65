//! What the sources that talk to Microsoft 365 share: clouds, credentials, tokens, the HTTP layer, and what Microsoft's
//! error codes mean.
//!
//! A token is worth a tenant's whole audit log, so it leaves only toward the one origin that the tenant's options name
//! ([`http::Api`]): addresses that the service hands out are compared with it, redirects are not followed elsewhere.

pub(crate) mod check;
pub(crate) mod claims;
pub(crate) mod cloud;
pub(crate) mod credentials;
pub(crate) mod errors;
pub(crate) mod explain;
pub(crate) mod http;
pub(crate) mod key_vault;
pub(crate) mod limit;
pub(crate) mod refusal;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token;
