//! The form of ids that are the same everywhere.

/// Whether `text` has the form of a GUID, with hyphens and without braces.
#[must_use]
pub fn is_guid(text: &str) -> bool {
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
