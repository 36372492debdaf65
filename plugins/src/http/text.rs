//! The peer's own words, made fit for one line of a log.

/// How much of a message is shown.
const SHOWN_CHARS: usize = 200;

/// Whether a character would not be seen as itself: it steers the terminal, breaks the line, or turns the order of the
/// characters around it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first sentence or line of what the peer said, in harmless characters, at most 200 of them.
pub(crate) fn first_sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let end = [". ", " Trace ID:", " Correlation ID:"]
        .iter()
        .filter_map(|stop| line.find(stop))
        .min()
        .unwrap_or(line.len());
    let mut sentence: String = line[..end]
        .trim_end_matches('.')
        .chars()
        .filter(|c| !is_unsafe(*c))
        .take(SHOWN_CHARS + 1)
        .collect();
    if sentence.chars().count() > SHOWN_CHARS {
        sentence.pop();
        sentence.push('…');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::first_sentence;

    #[test]
    fn only_the_first_sentence_is_shown() {
        let cases = [
            (
                "Invalid client secret provided. Ensure that …",
                "Invalid client secret provided",
            ),
            ("Not found Trace ID: 1 Correlation ID: 2", "Not found"),
            ("  One line.\r\n at Stack.Trace()", "One line"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(first_sentence(text), expected);
        }
        assert_eq!(first_sentence(&"é".repeat(500)).chars().count(), 201);
    }

    #[test]
    fn what_the_peer_says_cannot_steer_the_terminal() {
        let said = "a\u{1b}[31mb\u{202e}c\u{2066}d\u{2069}e\u{2028}f\u{2029}g\u{7}h\u{9b}i";
        assert_eq!(first_sentence(said), "a[31mbcdefghi");
    }
}
