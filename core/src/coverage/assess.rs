//! From figures to states.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate};

use super::{
    Account, Content, ContentRow, Coverage, DELAY_HOURS, Events, Fates, Hour, Line, MS_PER_HOUR,
    Passes, Question, RISK_MS, Row, Span, State, TenantCoverage, balance, pass_name, reasons,
    silence,
};
use crate::journal::{NO_HOUR, OLD_HOUR};

impl Coverage {
    /// The tenants' coverage together.
    pub(crate) fn of(tenants: Vec<TenantCoverage>, question: &Question) -> Self {
        let states = tenants.iter().map(|tenant| tenant.state);
        Self {
            at_ms: question.now.timestamp_millis(),
            state: states.max().unwrap_or(State::Open),
            balanced: tenants.iter().all(|tenant| tenant.unbalanced.is_empty()),
            tenants,
        }
    }
}

/// Judges the figures of the tenant that is called `name`.
pub fn assess(account: Account, question: &Question, name: String) -> TenantCoverage {
    let now_ms = question.now.timestamp_millis();
    let heads = account.lines.iter().filter_map(Line::listed_to);
    let (from, to) = question.days(heads.max().unwrap_or(now_ms));
    let rows = rows(&account, from, to, question.hours, now_ms);
    let unbalanced = balance::unbalanced(&account);
    let breach = (!unbalanced.is_empty()).then_some(State::Unbalanced);
    let states = rows.iter().filter_map(|row| row.state).chain(breach);
    let mut tenant = TenantCoverage {
        state: states.max().unwrap_or(State::Open),
        from,
        to,
        rows,
        passes: account.lines.iter().map(Line::passes).collect(),
        unbalanced,
        workloads: silence::workloads(&account, now_ms),
        reasons: reasons::reasons(&account, (hour_of(from), end_of(to)), now_ms),
        tenant: account.tenant,
        name,
        sinks: account.totals,
        stragglers: account.stragglers,
        late_events: account.late,
        troubles: account.troubles,
    };
    if tenant.state == State::Settled {
        tenant.reasons.clear();
    }
    tenant
}

fn hour_of(day: NaiveDate) -> Hour {
    let midnight = day.and_time(chrono::NaiveTime::MIN).and_utc();
    midnight.timestamp().div_euclid(3600)
}

/// The first hour after a day.
fn end_of(day: NaiveDate) -> Hour {
    hour_of(day).saturating_add(24)
}

fn day_of(hour: Hour) -> Option<NaiveDate> {
    DateTime::from_timestamp(hour.checked_mul(3600)?, 0).map(|time| time.date_naive())
}

fn rows(account: &Account, from: NaiveDate, to: NaiveDate, hours: bool, now_ms: i64) -> Vec<Row> {
    let begin = first_hour(account).max(hour_of(from));
    let states = States::of(account, begin, end_of(to), now_ms);
    let mut rows = Vec::new();
    for (hour, span) in [(OLD_HOUR, Span::Older), (NO_HOUR, Span::Undated)] {
        let row = row(account, span, hour..hour + 1, None, now_ms);
        if row.events != Events::default() || !row.content.is_empty() {
            rows.push(row);
        }
    }
    let Some(mut day) = day_of(begin) else {
        return rows;
    };
    while day <= to {
        let (first, end) = (hour_of(day), end_of(day));
        if hours && first >= account.folded_to {
            rows.extend((first.max(begin)..end).map(|hour| {
                let state = Some(states.events(hour));
                row(account, Span::Hour(hour), hour..hour + 1, state, now_ms)
            }));
        } else {
            let state = (first..end).map(|hour| states.events(hour)).max();
            rows.push(row(account, Span::Day(day), first..end, state, now_ms));
        }
        let Some(next) = day.checked_add_days(Days::new(1)) else {
            break;
        };
        day = next;
    }
    // Hours that have not begun say nothing.
    let now = now_ms.div_euclid(MS_PER_HOUR);
    let later = account.lines.iter().filter_map(Line::listed_to).max();
    let now = now.max(later.map_or(now, |ms| ms.div_euclid(MS_PER_HOUR)));
    rows.retain(|row| !matches!(row.span, Span::Hour(hour) if hour > now && row.events == Events::default()));
    rows
}

/// The first hour of which there is anything to tell.
fn first_hour(account: &Account) -> Hour {
    let since = account.lines.iter().filter_map(|line| line.since_ms);
    let since = since.map(|ms| ms.div_euclid(MS_PER_HOUR));
    let content = account
        .lines
        .iter()
        .filter_map(|line| line.hours.keys().find(|hour| **hour >= 0));
    let events = account.events.keys().filter(|hour| **hour >= 0);
    let first = since.chain(content.copied()).chain(events.copied()).min();
    first.unwrap_or(Hour::MAX / MS_PER_HOUR)
}

fn row(
    account: &Account,
    span: Span,
    hours: std::ops::Range<Hour>,
    state: Option<State>,
    now_ms: i64,
) -> Row {
    let mut events = Events::default();
    for (_, hour) in account.events.range(hours.clone()) {
        events.add(hour);
    }
    let sinks = account.sinks.iter().filter_map(|(sink, by_hour)| {
        let mut sum = Fates::default();
        for (_, hour) in by_hour.range(hours.clone()) {
            sum.add(hour);
        }
        (sum != Fates::default()).then(|| (sink.clone(), sum))
    });
    let sinks: BTreeMap<String, Fates> = sinks.collect();
    let adds_up = balance::adds_up(account, events, |sink| sinks.get(sink).copied());
    let state = if adds_up || !balance::is_apart(account, hours.start) {
        state
    } else {
        Some(State::Unbalanced)
    };
    let content = account.lines.iter().filter_map(|line| {
        let mut figures = Content::default();
        for (_, hour) in line.hours.range(hours.clone()) {
            figures.add(hour);
        }
        let states = hours.clone().map(|hour| line.state(hour, now_ms));
        (figures != Content::default()).then(|| ContentRow {
            source: line.source.clone(),
            content_type: line.content_type.clone(),
            state: states.max().unwrap_or(State::Open),
            figures,
        })
    });
    Row {
        span,
        state,
        content: content.collect(),
        sinks,
        events,
    }
}

/// The states of a tenant's content hours, of all lines together.
struct States {
    begin: Hour,
    content: Vec<State>,
}

impl States {
    fn of(account: &Account, begin: Hour, end: Hour, now_ms: i64) -> Self {
        let state = |hour| {
            let states = account.lines.iter().map(|line| line.state(hour, now_ms));
            states.max().unwrap_or(State::Open)
        };
        // From the beginning of the first day on.
        let begin = begin.div_euclid(24) * 24;
        let content = (begin..end.saturating_add(DELAY_HOURS))
            .map(state)
            .collect();
        Self { begin, content }
    }

    /// The state of an hour's events: the gravest of all content hours that could hold them.
    fn events(&self, hour: Hour) -> State {
        let first = usize::try_from(hour - self.begin).unwrap_or_default();
        let holders = self
            .content
            .iter()
            .skip(first)
            .take(DELAY_HOURS as usize + 1);
        holders.copied().max().unwrap_or(State::Open)
    }
}

impl Line {
    /// What is known of one of its content hours.
    pub(super) fn state(&self, hour: Hour, now_ms: i64) -> State {
        let (from, to) = (
            hour.saturating_mul(MS_PER_HOUR),
            hour.saturating_add(1).saturating_mul(MS_PER_HOUR),
        );
        let content = self.hours.get(&hour);
        if content.is_some_and(|content| content.lost > 0) {
            return State::Lost;
        }
        if self
            .gaps
            .iter()
            .any(|gap| gap.from_ms < to && from < gap.to_ms)
        {
            return State::Gap;
        }
        if let Some(content) = content.filter(|content| content.pending > 0) {
            return if content.is_at_risk(now_ms) {
                State::AtRisk
            } else {
                State::Open
            };
        }
        let Some(since) = self.since_ms else {
            return State::Open;
        };
        if self.ended_ms.is_some_and(|ended| ended <= from) {
            // Nobody counts on it any more.
            return State::Settled;
        }
        if to <= since {
            return State::Partial;
        }
        if self.settled_to().is_some_and(|settled| settled >= to) {
            return if since > from {
                State::Partial
            } else {
                State::Settled
            };
        }
        if self.ended_ms.is_some() {
            return State::Partial;
        }
        let unlisted = self.listed_to().is_none_or(|listed| listed < to);
        let gone_at = from.max(since).saturating_add(self.kept_ms);
        if unlisted && gone_at.saturating_sub(now_ms) < RISK_MS {
            return State::AtRisk;
        }
        State::Open
    }

    /// How far the first listing is.
    pub(super) fn listed_to(&self) -> Option<i64> {
        self.passes.first().map(|(_, to)| *to)
    }

    /// How far all passes are: the last is not enough, for it may be one that was added lately.
    pub(super) fn settled_to(&self) -> Option<i64> {
        self.passes.iter().map(|(_, to)| *to).min()
    }

    /// When the first content that was not listed yet cannot be listed any more.
    pub(super) fn listing_expiry(&self) -> Option<i64> {
        let listed_to = self.listed_to().filter(|_| self.ended_ms.is_none())?;
        Some(listed_to.saturating_add(self.kept_ms))
    }

    fn passes(&self) -> Passes {
        let listed_to = self.passes.iter();
        Passes {
            source: self.source.clone(),
            content_type: self.content_type.clone(),
            since_ms: self.since_ms,
            ended_ms: self.ended_ms,
            listed_to_ms: listed_to
                .map(|(lag, to)| (pass_name(*lag).into_owned(), *to))
                .collect(),
            listing_expiry_ms: self.listing_expiry(),
        }
    }
}
