//! The peer's own words, made fit for one line of a log.

/// How much of a message is shown.
const SHOWN_CHARS: usize = 200;

/// The first sentence or line of what the peer said, without control characters, at most 200 characters.
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
        .filter(|c| !c.is_control())
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
}
