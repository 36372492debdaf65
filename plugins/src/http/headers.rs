//! Response headers that steer the client: `Retry-After`, `Rate-Limit-Remaining` and `Date`.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Utc};
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// The longest wait that a peer may ask for. More is taken for a mistake: content expires meanwhile.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// `Retry-After`, in seconds or as an HTTP date, seen from the response's own `Date` or else from `now`.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = text(headers, RETRY_AFTER)?;
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (http_date(value)? - date(headers).unwrap_or(now))
            .to_std()
            .unwrap_or_default(),
    };
    Some(wait.min(LONGEST_WAIT))
}

/// How long to wait if the peer says that no request is left of its limit (`Rate-Limit-Remaining`): until
/// `Rate-Limit-Reset`, in seconds or as a time, seen from the response's own `Date` or else from `now`.
pub(crate) fn rate_limit_wait(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let named = |name| text(headers, HeaderName::from_static(name));
    if named("rate-limit-remaining")?.parse::<u64>().ok()? > 0 {
        return None;
    }
    let reset = named("rate-limit-reset")?;
    let wait = if let Ok(seconds) = reset.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let at = DateTime::parse_from_rfc3339(reset).map(|at| at.to_utc());
        let at = at.ok().or_else(|| http_date(reset))?;
        (at - date(headers).unwrap_or(now))
            .to_std()
            .unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// `Date`: the peer's clock.
pub(crate) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    http_date(text(headers, DATE)?)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A date of this century. Others are mistakes, and those at the end of the calendar cannot be reckoned with. Not
/// compared with this machine's clock: a machine without a battery starts in 1970.
fn http_date(value: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(value)
        .ok()
        .map(|date| date.to_utc())
        .filter(|date| (2000..2100).contains(&date.year()))
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Utc.with_ymd_and_hms(2026, 1, 9, 2, 0, 0).unwrap();
        let cases = [
            ("120", Some(120)),
            ("Fri, 09 Jan 2026 02:01:00 GMT", Some(60)),
            ("Fri, 09 Jan 2026 01:00:00 GMT", Some(0)),
            ("99999999", Some(24 * 3600)),
            ("soon", None),
            ("-5", None),
            ("Sat, 31 Dec 9999 23:59:59 GMT", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let found = retry_after(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn a_limit_that_is_used_up_is_waited_for() {
        let now = Utc.with_ymd_and_hms(2026, 1, 9, 2, 0, 0).unwrap();
        for (remaining, reset, expected) in [
            ("0", "30", Some(30)),
            ("0", "2026-01-09T02:01:00Z", Some(60)),
            ("0", "Fri, 09 Jan 2026 02:01:00 GMT", Some(60)),
            ("0", "2026-01-09T01:00:00Z", Some(0)),
            ("0", "soon", None),
            ("1", "30", None),
            ("few", "30", None),
        ] {
            let headers = HeaderMap::from_iter([
                (
                    HeaderName::from_static("rate-limit-remaining"),
                    HeaderValue::from_static(remaining),
                ),
                (
                    HeaderName::from_static("rate-limit-reset"),
                    HeaderValue::from_static(reset),
                ),
            ]);
            let found = rate_limit_wait(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(found, expected, "{remaining} {reset}");
        }
    }

    #[test]
    fn a_date_at_the_end_of_the_calendar_is_no_clock() {
        for (value, is_clock) in [
            ("Fri, 09 Jan 2026 02:00:30 GMT", true),
            ("Sun, 31 Dec 262142 23:59:59 +0000", false),
            ("31 Dec 262142 23:59:59 +0000", false),
            ("Fri, 31 Dec 9999 23:59:59 GMT", false),
            ("Thu, 01 Jan 1970 00:00:00 GMT", false),
        ] {
            let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(value))]);
            assert_eq!(date(&headers).is_some(), is_clock, "{value}");
        }
    }

    #[test]
    fn a_retry_date_is_measured_by_the_peers_clock() {
        let headers = HeaderMap::from_iter([
            (
                RETRY_AFTER,
                HeaderValue::from_static("Fri, 09 Jan 2026 02:01:00 GMT"),
            ),
            (
                DATE,
                HeaderValue::from_static("Fri, 09 Jan 2026 02:00:30 GMT"),
            ),
        ]);
        let wait = retry_after(&headers, DateTime::UNIX_EPOCH);
        assert_eq!(wait, Some(Duration::from_secs(30)));
    }
}
