//! The form of ids that are the same everywhere.

/// Whether `text` has the form of a GUID, with hyphens and without braces.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    let Ok(bytes) = <&[u8; 36]>::try_from(text.as_bytes()) else {
        return false;
    };
    // Counted in bytes rather than searched, which the compiler does for many bytes at once.
    let digits = bytes.iter().map(|byte| u8::from(byte.is_ascii_hexdigit()));
    [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-') && digits.sum::<u8>() == 32
}

#[cfg(test)]
mod tests {
    use super::is_guid;

    #[test]
    fn every_byte_counts() {
        let guid = "0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10";
        for at in 0..guid.len() {
            for wrong in ["g", "-", "0", "/", ":", "`", "@"] {
                let mut text = guid.to_owned();
                text.replace_range(at..=at, wrong);
                let hyphen = matches!(at, 8 | 13 | 18 | 23);
                assert_eq!(
                    is_guid(&text),
                    wrong == if hyphen { "-" } else { "0" },
                    "{text}"
                );
            }
        }
        assert!(is_guid(&guid.to_uppercase()));
    }

    #[test]
    fn a_guid_is_told_from_a_secret() {
        assert!(is_guid("0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10"));
        assert!(!is_guid("Abc8Q~0b1cf0ad-1f43-4bdd-9a1b-2e8f6b"));
        assert!(!is_guid("{0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d1}"));
        assert!(!is_guid(""));
    }
}
