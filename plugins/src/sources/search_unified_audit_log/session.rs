//! Whether the pages of a session are all that it has (reference: search-unified-audit-log.md, C).
//!
//! Nothing that the service says is proof by itself: `ResultCount` may be the session's or the page's, the last page may
//! be followed by an empty one or by the first again, and pages or rows may be left out. So the places of the rows are
//! what counts: they must follow one another without a gap, and the end must be seen.

use std::collections::HashSet;

use audit_exporter_core::{Error, Result};

use super::page::Page;

/// What a page means for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its rows are the next; there may be more.
    More,
    /// All rows came before it. What it holds, if anything, came before too.
    Complete,
    /// There are, or may be, more rows than a session shows: a shorter time has to be searched.
    TooMany,
    /// The session began from its start without having shown its end: a shorter time has another end.
    Unproven,
}

/// A session on its way.
#[derive(Debug)]
pub(super) struct Session {
    /// Rows that a page has when it is full.
    page_size: usize,
    /// Rows that a session shows at most.
    ceiling: u64,
    /// The place of the last row.
    last: u64,
    /// How many rows there are, if that was said believably.
    total: u64,
    /// The last page was not full.
    was_short: bool,
    seen: HashSet<u64>,
}

impl Session {
    /// A session that shows up to `ceiling` rows in pages of `page_size`.
    pub(super) fn new(page_size: usize, ceiling: u64) -> Self {
        Self {
            page_size,
            ceiling,
            last: 0,
            total: 0,
            was_short: false,
            seen: HashSet::new(),
        }
    }

    /// How many rows came.
    pub(super) fn rows(&self) -> u64 {
        self.last
    }

    /// Takes the next page. Fails if rows are missing or came again, so that the session must be read anew.
    pub(super) fn take(&mut self, page: &Page<'_>) -> Result<Step> {
        if page.rows.is_empty() {
            return self.end();
        }
        let mut places: Vec<u64> = page.rows.iter().map(|row| row.index).collect();
        places.sort_unstable();
        let rows = places.len() as u64;
        let (first, last) = (places[0], places[places.len() - 1]);
        let is_unbroken = places
            .iter()
            .zip(first..)
            .all(|(place, expected)| *place == expected);
        if first == 1 && self.last > 0 && is_unbroken {
            return Ok(if self.has_ended() {
                Step::Complete
            } else {
                Step::Unproven
            });
        }
        if first != self.last + 1 || !is_unbroken {
            return Err(Error::unavailable(format!(
                "rows are missing or came twice: after row {} came {rows} rows from {first} to {last}",
                self.last
            ))
            .with_code("ResultIndex"));
        }
        let had_ended = self.has_ended();
        let mut is_new = false;
        for row in &page.rows {
            is_new |= self.seen.insert(row.fingerprint());
            // That of a page proves nothing, and nor does one that is only what was asked for.
            if row.count != self.page_size as u64 {
                self.total = self.total.max(row.count);
            }
        }
        if had_ended && !is_new {
            return Ok(Step::Complete);
        }
        self.last = last;
        self.was_short = page.rows.len() < self.page_size;
        Ok(if self.last.max(self.total) >= self.ceiling {
            Step::TooMany
        } else {
            Step::More
        })
    }

    /// Whether the pages so far would be all, if the session says so.
    fn has_ended(&self) -> bool {
        self.last >= self.total && (self.was_short || self.total > self.page_size as u64)
    }

    /// An empty page.
    fn end(&self) -> Result<Step> {
        if self.last < self.total {
            return Err(Error::unavailable(format!(
                "the session ended after {} of {} rows",
                self.last, self.total
            ))
            .with_code("ResultCount"));
        }
        Ok(Step::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows from `first` to `last`, with what is said of their number.
    struct Rows(u64, u64, u64);

    fn body(Rows(first, last, count): &Rows) -> String {
        let row = |index| {
            format!(r#"{{"ResultIndex":{index},"ResultCount":{count},"AuditData":"{index}"}}"#)
        };
        let rows: Vec<String> = (*first..=*last).map(row).collect();
        format!(r#"{{"value":[{}]}}"#, rows.join(","))
    }

    /// No rows.
    const EMPTY: Rows = Rows(1, 0, 0);

    /// What the pages mean one after the other, in sessions of 10 rows a page and 100 at most; `None` is an error.
    fn steps(pages: &[Rows]) -> Vec<Option<Step>> {
        let mut session = Session::new(10, 100);
        let step = |page: &Rows| {
            let body = body(page);
            session.take(&Page::read(body.as_bytes()).unwrap()).ok()
        };
        pages.iter().map(step).collect()
    }

    #[test]
    fn a_session_ends_with_an_empty_page_whatever_it_counts() {
        use Step::{Complete, More};
        for counts in [[24, 24, 24], [10, 10, 4], [10, 10, 10]] {
            let [one, two, three] = counts;
            let pages = [
                Rows(1, 10, one),
                Rows(11, 20, two),
                Rows(21, 24, three),
                EMPTY,
            ];
            assert_eq!(
                steps(&pages),
                [Some(More), Some(More), Some(More), Some(Complete)],
                "{counts:?}"
            );
        }
        assert_eq!(steps(&[EMPTY]), [Some(Complete)]);
        assert_eq!(
            steps(&[Rows(1, 10, 10), EMPTY]),
            [Some(More), Some(Complete)]
        );
    }

    #[test]
    fn a_session_that_starts_over_after_its_end_is_complete() {
        for counts in [[24, 24], [10, 4], [10, 10]] {
            let pages = [
                Rows(1, 10, counts[0]),
                Rows(11, 14, counts[1]),
                Rows(1, 10, counts[0]),
            ];
            let expected = if counts[0] == 24 {
                Step::Unproven
            } else {
                Step::Complete
            };
            assert_eq!(steps(&pages)[2], Some(expected), "{counts:?}");
        }
        // A count of all, and that many came.
        assert_eq!(
            steps(&[Rows(1, 10, 20), Rows(11, 20, 20), Rows(1, 10, 20)])[2],
            Some(Step::Complete)
        );
    }

    #[test]
    fn a_session_that_starts_over_after_a_full_page_proves_nothing() {
        assert_eq!(
            steps(&[Rows(1, 10, 10), Rows(1, 10, 10)])[1],
            Some(Step::Unproven)
        );
        assert_eq!(
            steps(&[Rows(1, 10, 30), Rows(1, 10, 30)])[1],
            Some(Step::Unproven)
        );
    }

    #[test]
    fn a_short_page_in_the_middle_is_no_end() {
        let pages = [Rows(1, 7, 17), Rows(8, 17, 17), EMPTY];
        assert_eq!(steps(&pages)[2], Some(Step::Complete));
        // Nobody says that there is more, but it comes.
        let pages = [Rows(1, 7, 7), Rows(8, 17, 10), EMPTY];
        assert_eq!(
            steps(&pages),
            [Some(Step::More), Some(Step::More), Some(Step::Complete)]
        );
    }

    #[test]
    fn gaps_and_repetitions_and_an_early_end_are_errors() {
        for pages in [
            [Rows(2, 11, 30), EMPTY],
            [Rows(1, 10, 30), Rows(12, 21, 30)],
            [Rows(1, 10, 30), Rows(21, 30, 30)],
            [Rows(1, 10, 30), Rows(5, 14, 30)],
            [Rows(1, 10, 30), EMPTY],
        ] {
            assert!(steps(&pages).contains(&None));
        }
    }

    #[test]
    fn rows_may_come_in_any_order_within_their_page() {
        let body =
            r#"{"value":[{"ResultIndex":2,"ResultCount":2},{"ResultIndex":1,"ResultCount":2}]}"#;
        let step = Session::new(10, 100).take(&Page::read(body.as_bytes()).unwrap());
        assert_eq!(step.unwrap(), Step::More);
    }

    #[test]
    fn rows_that_come_again_under_new_places_end_a_session() {
        let mut session = Session::new(2, 100);
        let row = |index, data| {
            format!(r#"{{"ResultIndex":{index},"ResultCount":3,"AuditData":"{data}"}}"#)
        };
        let mut take = |rows: [String; 2]| {
            let body = format!(r#"{{"value":[{}]}}"#, rows.join(","));
            session.take(&Page::read(body.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(take([row(1, 1), row(2, 2)]), Step::More);
        assert_eq!(take([row(3, 3), row(4, 1)]), Step::More);
        assert_eq!(take([row(5, 2), row(6, 3)]), Step::Complete);
    }

    #[test]
    fn the_ceiling_is_met_by_what_came_and_by_what_was_said() {
        assert_eq!(steps(&[Rows(1, 10, 100)]), [Some(Step::TooMany)]);
        assert_eq!(steps(&[Rows(1, 10, 120_000)]), [Some(Step::TooMany)]);
        let pages: Vec<Rows> = (0..10)
            .map(|page| Rows(page * 10 + 1, page * 10 + 10, 10))
            .collect();
        assert_eq!(steps(&pages)[8..], [Some(Step::More), Some(Step::TooMany)]);
    }
}
