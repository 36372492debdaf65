//! What a placeholder stands for, as a part of a file's or topic's name.
//!
//! It may come from a record, that is from anybody. Whatever it is, it stays one part of one name: it cannot leave
//! the folder, hide the file, or be mistaken for another value.

/// The longest a value may become, so that three in one file name stay below the usual limit of 255 bytes.
pub(super) const MAX_VALUE_BYTES: usize = 60;

/// Appends `number` with at least `width` digits.
pub(super) fn push_number(number: u32, width: usize, out: &mut String) {
    let mut digits = [0; 10];
    let mut rest = number;
    let mut first = digits.len();
    while rest > 0 || digits.len() - first < width {
        first -= 1;
        digits[first] = (rest % 10) as u8;
        rest /= 10;
    }
    out.extend(digits[first..].iter().map(|digit| hex(*digit)));
}

/// Appends `value` as a part of one file's name.
///
/// Letters, digits and `-_.@+=` stay; everything else, and a dot at the start, becomes `%` and the bytes in hex, so
/// that different values never meet in one name. A long value is cut and ends with a hash of the whole.
pub(super) fn push_file_value(value: &str, out: &mut String) {
    let stays = |index, character: char| {
        character.is_alphanumeric()
            || matches!(character, '-' | '_' | '@' | '+' | '=')
            || (character == '.' && index > 0)
    };
    push_value(value, stays, ['%', '~'], out);
}

/// Appends `value` as a part of a topic's name, in the characters that Kafka allows.
///
/// ASCII letters, digits and `-._` stay; everything else becomes `_` and the bytes in hex. A long value is cut and ends
/// with `-` and a hash of the whole.
#[cfg(feature = "kafka")]
pub(super) fn push_topic_value(value: &str, out: &mut String) {
    let stays = |_, character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
    };
    push_value(value, stays, ['_', '-'], out);
}

/// Appends `value`: what does not stay is escaped by the first of `signs`, and a hash follows the second.
fn push_value(
    value: &str,
    stays: impl Fn(usize, char) -> bool,
    [escape, cut]: [char; 2],
    out: &mut String,
) {
    if value.is_empty() {
        out.push_str("unknown");
        return;
    }
    let start = out.len();
    for (index, character) in value.char_indices() {
        let before = out.len();
        if stays(index, character) {
            out.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                out.push(escape);
                out.push(hex(byte >> 4));
                out.push(hex(byte & 15));
            }
        }
        if out.len() - start > MAX_VALUE_BYTES {
            out.truncate(before);
            out.push(cut);
            let hash = fnv1a(value.as_bytes());
            for byte in hash.to_be_bytes() {
                out.push(hex(byte >> 4));
                out.push(hex(byte & 15));
            }
            return;
        }
    }
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0')
}

/// A hash that is the same in every version of this program: names must not change with an update.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let mut out = String::new();
        push_file_value(text, &mut out);
        out
    }

    #[test]
    fn no_value_leaves_its_place() {
        let long = "x".repeat(300);
        for text in [
            "..",
            ".",
            "../../etc/passwd",
            "/etc/passwd",
            ".hidden",
            "a\0b",
            "a/b",
            "a\\b",
            "a\nb",
            "~",
            "%2e%2e",
            "\u{202e}gpj.exe",
            long.as_str(),
            "日本語の長い名前日本語の長い名前日本語の長い名前日本語の長い名前",
        ] {
            let name = value(text);
            assert!(!name.starts_with('.'), "{name}");
            assert!(
                !name.contains(['/', '\\', '\0', '\n', '\u{202e}']),
                "{name}"
            );
            assert!(name.len() <= MAX_VALUE_BYTES + 17, "{name}");
        }
    }

    #[test]
    fn different_values_have_different_names() {
        let long = "x".repeat(200);
        let texts = [
            "a/b",
            "a%2fb",
            "a_b",
            "a b",
            ".a",
            "%2ea",
            &long,
            &long[1..],
            "ä",
            "a",
        ];
        for (index, one) in texts.iter().enumerate() {
            for other in &texts[index + 1..] {
                assert_ne!(value(one), value(other), "{one} and {other}");
            }
        }
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn a_topic_has_only_the_characters_that_kafka_allows() {
        for (text, name) in [
            ("Audit.General", "Audit.General"),
            ("a/b \u{e4}", "a_2fb_20_c3_a4"),
            ("", "unknown"),
        ] {
            let mut out = String::new();
            push_topic_value(text, &mut out);
            assert_eq!(out, name);
        }
        let mut long = String::new();
        push_topic_value(&"x".repeat(300), &mut long);
        assert_eq!(long.len(), MAX_VALUE_BYTES + 17, "{long}");
    }

    #[test]
    fn years_have_four_digits_or_more() {
        let mut out = String::new();
        push_number(12, 4, &mut out);
        push_number(12_345, 4, &mut out);
        assert_eq!(out, "001212345");
    }
}
