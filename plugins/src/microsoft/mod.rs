//! What the sources that talk to Microsoft 365 share: clouds, tokens, the HTTP layer, and Microsoft's error codes.
//!
//! A token is worth a tenant's whole audit log, so it leaves only toward the one origin that the tenant's options name
//! ([`http::Api`]): addresses that the service hands out are compared with it, redirects are not followed elsewhere.

pub(crate) mod aadsts;
pub(crate) mod claims;
pub(crate) mod cloud;
pub(crate) mod errors;
pub(crate) mod http;
pub(crate) mod limit;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod token;
