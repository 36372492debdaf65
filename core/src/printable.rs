//! The text of others, made safe for a terminal.

use std::borrow::Cow;

/// `text` with what a terminal would obey, or show in another order than it stands, as escapes of JSON: control
/// characters other than line breaks and tabs, and the marks of bidirectional text.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if commands(character) {
            let digit = |shift: &u32| char::from_digit((u32::from(character) >> shift) & 15, 16);
            safe.push_str("\\u");
            safe.extend([12, 8, 4, 0].iter().filter_map(digit));
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Whether a terminal takes the character as more than one to show.
fn commands(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            true
        }
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_commands_a_terminal() {
        for (text, shown) in [
            ("Grüße, 世界\n\t\"1\"", "Grüße, 世界\n\t\"1\""),
            ("\x1b]0;owned\x07", r"\u001b]0;owned\u0007"),
            ("\u{9b}31m\x7f\0", r"\u009b31m\u007f\u0000"),
            ("seen\rhidden", r"seen\u000dhidden"),
            ("a\u{202e}b\u{2066}c\u{200f}", r"a\u202eb\u2066c\u200f"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
