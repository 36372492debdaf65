//! Moments on the command line.

use audit_exporter_core::event::time;
use chrono::{DateTime, NaiveDate, Utc};

/// A day or a time in UTC, as `2026-11-20` and `2026-11-20T08:30:00Z`.
pub(crate) fn parse(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || time::parse(&format!("{text}T00:00:00"));
    time::parse(text).or_else(day).ok_or_else(|| {
        "expected a day or a time in UTC such as \"2026-11-20\" or \"2026-11-20T08:30:00Z\""
            .to_owned()
    })
}

/// A day, as `2026-11-20`.
pub(crate) fn day(text: &str) -> Result<NaiveDate, String> {
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    day.filter(|day| day.to_string() == text)
        .ok_or_else(|| "expected a day such as \"2026-11-20\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_first_moment() {
        let day = parse("2026-11-20").unwrap();
        assert_eq!(day.to_rfc3339(), "2026-11-20T00:00:00+00:00");
        assert_eq!(parse("2026-11-20T00:00:00Z"), Ok(day));
        assert_eq!(super::day("2026-11-20"), Ok(day.date_naive()));
        for wrong in ["2026-11-2", "2026-11-31", "2026-11-20T00:00:00Z", "today"] {
            assert!(super::day(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "yesterday", "2026-13-01", "20261120"] {
            assert!(parse(wrong).unwrap_err().contains("2026-11-20"), "{wrong}");
        }
    }
}
