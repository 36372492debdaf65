//! CSV that spreadsheets open without harm.

/// Comma-separated values of bounded size, in UTF-8 with the mark by which Excel knows it.
pub(super) struct Csv {
    text: String,
    most_bytes: usize,
    left_out: u64,
}

impl Csv {
    pub(super) fn new(heads: &[&str], most_bytes: usize) -> Self {
        let mut csv = Self {
            text: "\u{feff}".to_owned(),
            most_bytes: usize::MAX,
            left_out: 0,
        };
        csv.line(heads);
        csv.most_bytes = most_bytes;
        csv
    }

    /// Adds a line, or counts it if there is no room for it.
    pub(super) fn line(&mut self, cells: &[&str]) {
        // Whole up to one line, rather than with holes.
        if self.left_out > 0 {
            self.left_out += 1;
            return;
        }
        let before = self.text.len();
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            self.cell(cell);
        }
        self.text.push_str("\r\n");
        if self.text.len() > self.most_bytes {
            self.text.truncate(before);
            self.left_out += 1;
        }
    }

    /// A cell that begins like a formula would be one, and run, when the file is opened: it gets an apostrophe.
    fn cell(&mut self, cell: &str) {
        self.text.push('"');
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            self.text.push('\'');
        }
        self.text.push_str(&cell.replace('"', "\"\""));
        self.text.push('"');
    }

    /// The text, and how many lines had no room.
    pub(super) fn finish(self) -> (String, u64) {
        (self.text, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_begin_like_formulas_are_text() {
        let mut csv = Csv::new(&["a", "b"], 1000);
        csv.line(&["=HYPERLINK(\"x\")", "+1"]);
        csv.line(&["-1", "@SUM(A1)"]);
        csv.line(&["plain, with comma", "1=1"]);
        let (text, left_out) = csv.finish();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "\u{feff}\"a\",\"b\"",
                "\"'=HYPERLINK(\"\"x\"\")\",\"'+1\"",
                "\"'-1\",\"'@SUM(A1)\"",
                "\"plain, with comma\",\"1=1\"",
                "",
            ]
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut csv = Csv::new(&["a"], 20);
        csv.line(&["12345"]);
        csv.line(&["1234567890"]);
        csv.line(&["12"]);
        let (text, left_out) = csv.finish();
        assert_eq!(text, "\u{feff}\"a\"\r\n\"12345\"\r\n");
        assert_eq!(left_out, 2);
    }
}
