//! Why something is not settled, in words.

use std::collections::BTreeMap;

use super::{
    Account, Content, DELAY_HOURS, Hour, Line, MS_PER_HOUR, RISK_MS, Reason, State, pass_name, time,
};

/// Reasons by how grave they are and what they say; to each, what it concerns.
#[derive(Default)]
struct Found(BTreeMap<(std::cmp::Reverse<State>, String), Vec<String>>);

impl Found {
    fn add(&mut self, line: &Line, state: State, text: String) {
        let concerned = format!("{} ({})", line.content_type, line.source);
        let known = self.0.entry((std::cmp::Reverse(state), text)).or_default();
        if !known.contains(&concerned) {
            known.push(concerned);
        }
    }
}

/// Why hours of `from..to` are not settled, the gravest first.
pub(super) fn reasons(account: &Account, (from, to): (Hour, Hour), now_ms: i64) -> Vec<Reason> {
    let mut found = Found::default();
    let to = to.saturating_add(DELAY_HOURS);
    for line in &account.lines {
        content(&mut found, line, (from, to), now_ms);
        let (from_ms, to_ms) = (
            from.saturating_mul(MS_PER_HOUR),
            to.saturating_mul(MS_PER_HOUR),
        );
        for gap in &line.gaps {
            if gap.from_ms < to_ms && from_ms < gap.to_ms {
                let (begin, end) = (time(gap.from_ms), time(gap.to_ms));
                found.add(
                    line,
                    State::Gap,
                    format!("{begin} to {end}: {}", gap.reason),
                );
            }
        }
        listing(&mut found, line, (from_ms, to_ms), now_ms);
    }
    let mut reasons: Vec<Reason> = found
        .0
        .into_iter()
        .map(|((state, text), concerned)| Reason {
            state: state.0,
            text: format!("{}: {text}", concerned.join(", ")),
        })
        .collect();
    let troubles = account.troubles.iter().map(|trouble| Reason {
        state: State::Open,
        text: format!(
            "{} cannot list since {}: {}",
            trouble.source,
            time(trouble.since_ms),
            trouble.error
        ),
    });
    reasons.extend(troubles);
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.state));
    reasons
}

/// What was listed and is not fetched.
fn content(found: &mut Found, line: &Line, (from, to): (Hour, Hour), now_ms: i64) {
    let (mut lost, mut risky, mut waiting) =
        (Content::default(), Content::default(), Content::default());
    let mut lost_hours = Vec::new();
    for (hour, figures) in line.hours.range(from..to) {
        if figures.lost > 0 {
            lost.add(figures);
            lost_hours.push(*hour);
        }
        if figures.pending > 0 && figures.is_at_risk(now_ms) {
            risky.add(figures);
        } else {
            waiting.add(figures);
        }
    }
    if let (Some(first), Some(last)) = (lost_hours.first(), lost_hours.last()) {
        let why = line.loss.as_deref().unwrap_or("no reason is known");
        let (first, end) = (time(first * MS_PER_HOUR), time((last + 1) * MS_PER_HOUR));
        let text = format!("{} lost of {first} to {end}: {why}", blobs(lost.lost));
        found.add(line, State::Lost, text);
    }
    if let Some(expiry) = risky.next_expiry_ms {
        let why = line.failure.as_deref().unwrap_or("not tried yet");
        let text = format!(
            "{} not fetched, the first expires {}, {} tries: {why}",
            blobs(risky.pending),
            time(expiry),
            risky.attempts
        );
        found.add(line, State::AtRisk, text);
    }
    if waiting.pending > 0 {
        let text = format!("{} to be fetched", blobs(waiting.pending));
        found.add(line, State::Open, text);
    }
}

fn blobs(count: i64) -> String {
    if count == 1 {
        "1 content blob".to_owned()
    } else {
        format!("{count} content blobs")
    }
}

/// How far it is listed.
fn listing(found: &mut Found, line: &Line, (from_ms, to_ms): (i64, i64), now_ms: i64) {
    let Some(since) = line.since_ms else {
        let text = "the source does not say how far it has listed, so nothing counts as settled";
        found.add(line, State::Open, text.to_owned());
        return;
    };
    if since > from_ms {
        let text = format!("collected from {} on", time(since));
        found.add(line, State::Partial, text);
    }
    let end = line.ended_ms.unwrap_or(i64::MAX).min(to_ms);
    let settled = line.settled_to().unwrap_or(since);
    if settled >= end {
        return;
    }
    if let Some(ended) = line.ended_ms {
        let text = format!("not collected any more since {}", time(ended));
        found.add(line, State::Partial, text);
        return;
    }
    let listed = line.listed_to().unwrap_or(since);
    if let Some(expiry) = line.listing_expiry().filter(|at| at - now_ms < RISK_MS) {
        let text = format!(
            "not listed since {}; what is there cannot be listed any more from {} on",
            time(listed),
            time(expiry)
        );
        found.add(line, State::AtRisk, text);
    }
    let last = line.passes.last().map_or(0, |(lag, _)| *lag);
    let text = format!(
        "may still get more: the last pass ({}) has come to {}",
        pass_name(last),
        time(settled)
    );
    found.add(line, State::Open, text);
}
