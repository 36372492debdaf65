//! When mails are sent and what time each covers: whole days (hours, minutes) of a named zone, whatever the clocks do.
//!
//! The schedule says when mails are sent; a mail covers everything from where the last one ended to the last whole day
//! before its time. So a daily schedule has a day in each mail, one for Mondays a week, and one for working days the
//! weekend in Monday's.

use audit_exporter_core::{Error, Result};
use chrono::{
    DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use croner::Cron;
use serde::Deserialize;

/// Clocks are moved by multiples of this.
const CLOCK_STEP_MINUTES: i64 = 15;
/// Clocks never go forward by more: a day was left out once as a whole, at the date line.
const LONGEST_GAP_STEPS: i64 = 2 * 24 * 4;
/// More mails than anybody would want to catch up on; those before are folded into one anyway.
const MOST_DUE: usize = 10_000;

/// What mails are cut by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Whole days of the zone.
    #[default]
    Day,
    /// Whole hours of the zone.
    Hour,
    /// Whole minutes.
    Minute,
}

impl Unit {
    /// Its length; of days, which differ, none.
    fn seconds(self) -> Option<i64> {
        match self {
            Self::Day => None,
            Self::Hour => Some(3600),
            Self::Minute => Some(60),
        }
    }
}

/// The time that one mail covers, and when it is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) start: DateTime<Utc>,
    /// Not part of it.
    pub(super) end: DateTime<Utc>,
    pub(super) due: DateTime<Utc>,
}

/// A schedule in a zone.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    pub(super) zone: Tz,
    pub(super) schedule: Cron,
    pub(super) unit: Unit,
    /// How long after its end a period is given, for Microsoft to make its events available.
    pub(super) settle: TimeDelta,
}

impl Calendar {
    /// Where the day (hour, minute) begins that `at` is in.
    pub(super) fn floor(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self.unit.seconds() {
            None => self.midnight(at.with_timezone(&self.zone).date_naive()),
            Some(seconds) => {
                let offset = self.zone.offset_from_utc_datetime(&at.naive_utc()).fix();
                let local = at.timestamp() + i64::from(offset.local_minus_utc());
                let into = TimeDelta::seconds(local.rem_euclid(seconds));
                at - into - TimeDelta::nanoseconds(i64::from(at.timestamp_subsec_nanos()))
            }
        }
    }

    /// Where the day (hour, minute) after the one begins that `at` is in.
    pub(super) fn ceil(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self.unit.seconds() {
            None => {
                let date = at.with_timezone(&self.zone).date_naive();
                self.midnight(date.succ_opt().unwrap_or(date))
            }
            Some(seconds) => self.floor(at + TimeDelta::seconds(seconds)),
        }
    }

    /// The first moment of a day of the zone.
    pub(super) fn midnight(&self, date: NaiveDate) -> DateTime<Utc> {
        self.moment(date.and_time(NaiveTime::MIN))
    }

    /// When the zone's clocks first show `local`; where they go forward past it, when they have done so.
    fn moment(&self, local: NaiveDateTime) -> DateTime<Utc> {
        (0..LONGEST_GAP_STEPS)
            .find_map(|step| {
                let time = local + TimeDelta::minutes(step * CLOCK_STEP_MINUTES);
                self.zone.from_local_datetime(&time).earliest()
            })
            .map_or_else(|| local.and_utc(), |found| found.to_utc())
    }

    /// The period of the mail after the one that ended at `start`.
    pub(super) fn next(&self, start: DateTime<Utc>) -> Result<Period> {
        let sent = self.occurrence(self.ceil(start))?;
        let end = self.floor(sent);
        let due = sent.max(end + self.settle);
        Ok(Period { start, end, due })
    }

    /// When the schedule comes next, at `from` or after. It is looked for as though clocks never changed: a time that
    /// comes twice is one, and one that is left out comes when the clocks have gone forward, by however much.
    fn occurrence(&self, from: DateTime<Utc>) -> Result<DateTime<Utc>> {
        let mut local = from.with_timezone(&self.zone).naive_local().and_utc();
        let mut inclusive = true;
        loop {
            local = self
                .schedule
                .find_next_occurrence(&local, inclusive)
                .map_err(|error| {
                    Error::config("the schedule never comes again").with_cause(error)
                })?;
            let moment = self.moment(local.naive_utc());
            if moment >= from {
                return Ok(moment);
            }
            inclusive = false;
        }
    }

    /// The mails that are due at `now`, in order; when they are more than `most`, the oldest are one.
    pub(super) fn due(
        &self,
        start: DateTime<Utc>,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<Period>> {
        let mut due = Vec::new();
        let mut period = self.next(start)?;
        while period.due <= now && due.len() < MOST_DUE {
            due.push(period);
            period = self.next(period.end)?;
        }
        let over = due.len().saturating_sub(most.max(1));
        due.drain(..over);
        if let Some(first) = due.first_mut() {
            first.start = start;
        }
        Ok(due)
    }

    /// A period as people say it: `Friday, 20 November 2026`.
    pub(super) fn describe(&self, start: DateTime<Utc>, end: DateTime<Utc>) -> String {
        let from = start.with_timezone(&self.zone);
        let whole_days = self.midnight(from.date_naive()) == start
            && self.midnight(end.with_timezone(&self.zone).date_naive()) == end;
        if !whole_days {
            let to = end.with_timezone(&self.zone);
            let end_format = if to.date_naive() == from.date_naive() {
                "%H:%M"
            } else {
                "%a %-d %b %Y, %H:%M"
            };
            return format!(
                "{} – {}",
                from.format("%a %-d %b %Y, %H:%M"),
                to.format(end_format)
            );
        }
        let last = (end - TimeDelta::seconds(1)).with_timezone(&self.zone);
        if last.date_naive() == from.date_naive() {
            return from.format("%A, %-d %B %Y").to_string();
        }
        let first = match (from.year() == last.year(), from.month() == last.month()) {
            (true, true) => from.format("%a %-d"),
            (true, false) => from.format("%a %-d %b"),
            _ => from.format("%a %-d %b %Y"),
        };
        format!("{first} – {}", last.format("%a %-d %b %Y"))
    }

    /// The period that an operator means by `2026-11-20` or `2026-11-16..2026-11-22`, whole days with the last.
    pub(super) fn parse(&self, text: &str) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let day = |text: &str| {
            text.trim().parse::<NaiveDate>().map_err(|_| {
                Error::config(format!(
                    "a period is a day such as 2026-11-20, or days such as 2026-11-16..2026-11-22, not {text:?}"
                ))
            })
        };
        let (first, last) = (day(first)?, day(last)?);
        if last < first {
            return Err(Error::config(format!(
                "the period {text} ends before it begins"
            )));
        }
        let after = last.succ_opt().unwrap_or(last);
        Ok((self.midnight(first), self.midnight(after)))
    }
}
