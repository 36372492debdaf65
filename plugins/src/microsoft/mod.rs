//! What the sources that talk to Microsoft 365 share: clouds, tokens, the HTTP layer, and Microsoft's error codes.
//!
//! A token is worth a tenant's whole audit log, so it leaves only toward the one origin that the tenant's options name
//! ([`http::Api`]): addresses that the service hands out are compared with it, redirects are not followed elsewhere.

pub(crate) mod aadsts;
pub(crate) mod claims;
pub(crate) mod cloud;
pub(crate) mod errors;
pub(crate) mod headers;
pub(crate) mod http;
pub(crate) mod limit;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod text;
pub(crate) mod token;

/// Whether `text` has the form of a GUID, with hyphens and without braces.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::is_guid;

    #[test]
    fn a_guid_is_told_from_a_secret() {
        assert!(is_guid("0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10"));
        assert!(!is_guid("Abc8Q~0b1cf0ad-1f43-4bdd-9a1b-2e8f6b"));
        assert!(!is_guid("{0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d1}"));
        assert!(!is_guid(""));
    }
}
