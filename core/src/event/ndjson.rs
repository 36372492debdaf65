//! One record, one line.

use memchr::memchr2;

/// Appends a record to `out` without line breaks: in valid JSON they can only be white space between tokens, so a
/// space in their place changes nothing but the look. All other bytes stay as they are. Adds no line break itself.
pub fn write_raw_line(raw: &[u8], out: &mut Vec<u8>) {
    out.reserve(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_become_spaces() {
        for (raw, expected) in [
            ("", ""),
            (r#"{"Id":"a\n"}"#, r#"{"Id":"a\n"}"#),
            ("{\r\n  \"Id\": 1\n}\n", "{    \"Id\": 1 } "),
        ] {
            let mut out = b"before ".to_vec();
            write_raw_line(raw.as_bytes(), &mut out);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("before {expected}")
            );
        }
    }
}
