//! JSON strings: from the bytes between the quotes to text, and back.

use std::borrow::Cow;

use memchr::memchr;

/// The text of a JSON string's bytes, without the quotes. Never fails: what is no UTF-8 or half a surrogate pair
/// becomes U+FFFD, an escape that does not exist stays as it is.
pub(super) fn decode(bytes: &[u8], escaped: bool) -> Cow<'_, str> {
    if !escaped {
        return std::str::from_utf8(bytes)
            .map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    }
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..at]);
        rest = unescape(&rest[at..], &mut text);
    }
    text.extend_from_slice(rest);
    let text = String::from_utf8(text)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Cow::Owned(text)
}

/// Decodes the escape that `bytes` begins with and returns what follows it.
fn unescape<'a>(bytes: &'a [u8], text: &mut Vec<u8>) -> &'a [u8] {
    let plain = match bytes.get(1) {
        Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
        Some(b'b') => 0x08,
        Some(b'f') => 0x0C,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'u') => {
            if let Some((character, len)) = unicode(bytes) {
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return &bytes[len..];
            }
            b'\\'
        }
        _ => b'\\',
    };
    text.push(plain);
    let known = plain != b'\\' || bytes.get(1) == Some(&b'\\');
    &bytes[if known { 2 } else { 1 }..]
}

/// The character of a `\u` escape, or of two that make a pair, and how many bytes it takes.
fn unicode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = code_unit(bytes)?;
    if let 0xD800..=0xDBFF = first
        && let Some(second @ 0xDC00..=0xDFFF) = bytes.get(6..).and_then(code_unit)
    {
        let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return Some((char::from_u32(code)?, 12));
    }
    Some((
        char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
        6,
    ))
}

fn code_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code, digit| {
        Some(code << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// Writes `text` as a JSON string, quotes included.
pub(super) fn encode(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let [high, low] = [byte >> 4, byte & 0xF].map(|half| DIGITS[usize::from(half)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_every_escape_and_survives_the_broken_ones() {
        for (json, expected) in [
            (r"plain", "plain"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"\u0041\u00e9\u20AC", "Aé€"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83dx", "\u{fffd}x"),
            (r"\ud83d\u0041", "\u{fffd}A"),
            (r"\ude00\ud83d\ude00", "\u{fffd}😀"),
            (r"\u00", r"\u00"),
            (r"\u00zz", r"\u00zz"),
            (r"\u+123", r"\u+123"),
            (r"\q", r"\q"),
            (r"end\", r"end\"),
        ] {
            assert_eq!(decode(json.as_bytes(), true), expected, "{json}");
        }
        assert_eq!(decode(b"a\xFFb", false), "a\u{fffd}b");
        assert_eq!(decode(b"a\xFF\\nb", true), "a\u{fffd}\nb");
    }

    proptest! {
        #[test]
        fn encodes_what_serde_reads_and_decodes_what_serde_writes(text in any::<String>()) {
            let mut json = Vec::new();
            encode(&text, &mut json);
            prop_assert_eq!(&serde_json::from_slice::<String>(&json).unwrap(), &text);

            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(decode(&json.as_bytes()[1..json.len() - 1], true), text);
        }

        #[test]
        fn decodes_any_bytes(bytes in any::<Vec<u8>>(), escapes in r#"(\\u?[0-9a-fA-F"\\]{0,5})*"#) {
            decode(&bytes, true);
            decode(escapes.as_bytes(), true);
        }
    }
}
