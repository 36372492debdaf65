//! Sessions: what `SessionId` and `SessionCommand` do (reference, "Cmdlet parameters and semantics").

use chrono::{DateTime, TimeDelta, Utc};

use super::config::{AfterTheEnd, SearchConfig};
use crate::chance::Chance;

/// `SessionCommand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    ReturnLargeSet,
    ReturnNextPreviewPage,
}

impl Command {
    /// Reads the enum as PowerShell does: any case, and any beginning of a member's name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let members = [
            ("returnlargeset", Self::ReturnLargeSet),
            ("returnnextpreviewpage", Self::ReturnNextPreviewPage),
        ];
        members.into_iter().find_map(|(name, command)| {
            (!text.is_empty() && name.starts_with(&text)).then_some(command)
        })
    }
}

/// A search that goes on from call to call.
pub(super) struct Session {
    command: Command,
    is_mixed: bool,
    rows: Vec<usize>,
    shown: usize,
    began: DateTime<Utc>,
}

/// A part of a session's rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// `ResultIndex`, which counts from 1, and the number of the event.
    pub(super) rows: Vec<(usize, usize)>,
    /// All rows of the session.
    pub(super) of: usize,
}

impl Session {
    /// A session over the events that were found, which are in the order of their times.
    pub(super) fn new(
        command: Command,
        mut found: Vec<usize>,
        config: &SearchConfig,
        mut chance: Chance,
        now: DateTime<Utc>,
    ) -> Self {
        if command == Command::ReturnLargeSet {
            let again = found.clone();
            let again = again.into_iter().filter(|_| chance.hit(config.duplicates));
            found.extend(again.collect::<Vec<_>>());
            chance.shuffle(&mut found);
        }
        found.truncate(match command {
            Command::ReturnLargeSet => config.large_set_rows,
            Command::ReturnNextPreviewPage => config.preview_rows,
        });
        Self {
            command,
            is_mixed: false,
            rows: found,
            shown: 0,
            began: now,
        }
    }

    /// Whether it is not kept any more.
    pub(super) fn has_ended(&self, config: &SearchConfig, now: DateTime<Utc>) -> bool {
        now - self.began >= TimeDelta::minutes(i64::from(config.session_minutes))
    }

    /// Whether all rows were shown.
    pub(super) fn is_over(&self) -> bool {
        self.shown >= self.rows.len()
    }

    /// Whether more than so many rows are to come.
    pub(super) fn has_more_than(&self, rows: usize) -> bool {
        self.shown + rows < self.rows.len()
    }

    /// Notes which command comes next; one that is not the session's own costs it rows.
    pub(super) fn goes_on(&mut self, command: Command, config: &SearchConfig) {
        if command != self.command && !self.is_mixed {
            self.is_mixed = true;
            self.rows.truncate(config.mixed_rows);
        }
    }

    /// The next `size` rows. The session moves on by `step`, however many it returns.
    pub(super) fn next(&mut self, size: usize, step: usize, after: AfterTheEnd) -> Page {
        if self.is_over() && self.shown > 0 && after == AfterTheEnd::StartsOver {
            self.shown = 0;
        }
        let first = self.shown.min(self.rows.len());
        let end = (first + size).min(self.rows.len());
        self.shown = first + step;
        let row = |place: usize| (place + 1, self.rows[place]);
        Page {
            rows: (first..end).map(row).collect(),
            of: self.rows.len(),
        }
    }

    /// Goes back by `step` rows.
    pub(super) fn back(&mut self, step: usize) {
        self.shown = self.shown.saturating_sub(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(command: Command, rows: usize, config: &SearchConfig) -> Session {
        let chance = Chance::of(&[1]);
        Session::new(command, (0..rows).collect(), config, chance, Utc::now())
    }

    #[test]
    fn a_large_set_is_shuffled_and_repeats_some_rows_and_a_preview_is_in_order() {
        let config = SearchConfig {
            duplicates: 0.1,
            ..SearchConfig::default()
        };
        let large = session(Command::ReturnLargeSet, 1000, &config).rows;
        assert!((1050..1150).contains(&large.len()), "{}", large.len());
        assert!(!large.is_sorted());
        let preview = session(Command::ReturnNextPreviewPage, 1000, &config).rows;
        assert_eq!(preview, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn each_command_has_its_ceiling_and_both_together_another() {
        let config = SearchConfig {
            duplicates: 0.0,
            ..SearchConfig::default()
        };
        assert_eq!(
            session(Command::ReturnLargeSet, 60_000, &config).rows.len(),
            50_000
        );
        let preview = session(Command::ReturnNextPreviewPage, 60_000, &config);
        assert_eq!(preview.rows.len(), 5_000);
        let mut mixed = session(Command::ReturnLargeSet, 60_000, &config);
        mixed.goes_on(Command::ReturnNextPreviewPage, &config);
        assert_eq!(mixed.rows.len(), 10_000);
    }

    #[test]
    fn commands_are_read_as_powershell_does() {
        assert_eq!(Command::parse("returnL"), Some(Command::ReturnLargeSet));
        assert_eq!(
            Command::parse("ReturnNextPreviewPage"),
            Some(Command::ReturnNextPreviewPage)
        );
        assert_eq!((Command::parse(""), Command::parse("All")), (None, None));
    }
}
