//! Times as they stand in records.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};

/// Parses a record's time. A time without a zone is UTC, as the audit schema says.
///
/// Known are `yyyy-MM-ddTHH:mm:ss`, with a space in the place of the `T`, with a fraction of the second, with `Z` or
/// an offset (`+01:00`, `+0100`, `+01`), and the American form that PowerShell prints (`1/31/2024 3:04:05 PM`).
/// Anything else is `None`, and so is a time that does not exist. Digits beyond nanoseconds are cut off.
#[must_use]
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim_ascii().as_bytes();
    iso(text).or_else(|| american(text))
}

/// Appends `2024-01-31T03:04:05Z`, with as many digits of the fraction as are not zero.
pub fn write(time: DateTime<Utc>, out: &mut Vec<u8>) {
    write_digits(time.year().unsigned_abs(), 4, out);
    for (separator, number) in [
        (b'-', time.month()),
        (b'-', time.day()),
        (b'T', time.hour()),
        (b':', time.minute()),
        (b':', time.second()),
    ] {
        out.push(separator);
        write_digits(number, 2, out);
    }
    let nanos = time.nanosecond();
    if nanos > 0 {
        out.push(b'.');
        write_digits(nanos, 9, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn write_digits(number: u32, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10_u32.pow(place) % 10) as u8);
    }
}

fn iso(text: &[u8]) -> Option<DateTime<Utc>> {
    let (fixed, rest) = text.split_first_chunk::<19>()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        o1,
        o2,
        b'-',
        d1,
        d2,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
    ] = *fixed
    else {
        return None;
    };
    let (nanos, rest) = fraction(rest)?;
    let time = date_time(
        [
            number(&[y1, y2, y3, y4])?,
            number(&[o1, o2])?,
            number(&[d1, d2])?,
        ],
        [
            number(&[h1, h2])?,
            number(&[m1, m2])?,
            number(&[s1, s2])?,
            nanos,
        ],
    )?;
    let offset = offset(rest)?;
    let time = if offset.is_zero() {
        time
    } else {
        time.checked_sub_signed(offset)?
    };
    let utc = time.and_utc();
    // A year that the common form cannot express is no time of an event.
    (0..=9999).contains(&utc.year()).then_some(utc)
}

fn date_time([year, month, day]: [u32; 3], time: [u32; 4]) -> Option<NaiveDateTime> {
    let [hour, minute, second, nanos] = time;
    NaiveDate::from_ymd_opt(year.cast_signed(), month, day)?
        .and_hms_nano_opt(hour, minute, second, nanos)
}

/// The nanoseconds of a fraction, if there is one, and what follows it.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(len);
    let kept = number(digits.get(..len.min(9))?)?;
    Some((kept * 10_u32.pow(9 - len.min(9) as u32), rest))
}

fn offset(text: &[u8]) -> Option<TimeDelta> {
    let (sign, digits) = match text.trim_ascii_start() {
        b"" | b"Z" | b"z" => return Some(TimeDelta::zero()),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h1, h2] => (number(&[h1, h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (number(&[h1, h2])?, number(&[m1, m2])?),
        _ => return None,
    };
    let known = hours < 24 && minutes < 60;
    known.then(|| TimeDelta::minutes(sign * i64::from(hours * 60 + minutes)))
}

/// `M/d/yyyy h:mm:ss AM`, or without the last word in 24 hours.
fn american(text: &[u8]) -> Option<DateTime<Utc>> {
    let mut words = text
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let [month, day, year] = three(words.next()?, b'/')?;
    let [hour, minute, second] = three(words.next()?, b':')?;
    let hour = match words.next() {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half) if half.eq_ignore_ascii_case(b"AM") => hour % 12,
        Some(half) if half.eq_ignore_ascii_case(b"PM") => hour % 12 + 12,
        Some(_) => return None,
    };
    if words.next().is_some() || !(1000..=9999).contains(&year) {
        return None;
    }
    Some(date_time([year, month, day], [hour, minute, second, 0])?.and_utc())
}

fn three(text: &[u8], separator: u8) -> Option<[u32; 3]> {
    let mut parts = text.split(|byte| *byte == separator).map(number);
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// The number of up to nine digits.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Option<String> {
        Some(parse(text)?.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    #[test]
    fn reads_every_form() {
        for (text, expected) in [
            ("2024-01-31T03:04:05", "2024-01-31T03:04:05Z"),
            ("2024-01-31T03:04:05Z", "2024-01-31T03:04:05Z"),
            ("2024-01-31t03:04:05z", "2024-01-31T03:04:05Z"),
            ("2024-01-31 03:04:05", "2024-01-31T03:04:05Z"),
            (" 2024-01-31 03:04:05Z ", "2024-01-31T03:04:05Z"),
            ("2024-01-31T03:04:05.5", "2024-01-31T03:04:05.500Z"),
            ("2024-01-31T03:04:05.123Z", "2024-01-31T03:04:05.123Z"),
            (
                "2024-01-31T03:04:05.1234567Z",
                "2024-01-31T03:04:05.123456700Z",
            ),
            ("2024-01-31T03:04:05.0000000Z", "2024-01-31T03:04:05Z"),
            (
                "2024-01-31T03:04:05.12345678999Z",
                "2024-01-31T03:04:05.123456789Z",
            ),
            ("2024-01-31T03:04:05+01:00", "2024-01-31T02:04:05Z"),
            ("2024-01-31T03:04:05.25-0530", "2024-01-31T08:34:05.250Z"),
            ("2024-01-31 03:04:05 +00:00", "2024-01-31T03:04:05Z"),
            ("2024-01-31T03:04:05+05", "2024-01-30T22:04:05Z"),
            ("2024-02-29T23:59:59", "2024-02-29T23:59:59Z"),
            ("1/31/2024 3:04:05 PM", "2024-01-31T15:04:05Z"),
            ("1/31/2024 12:00:00 AM", "2024-01-31T00:00:00Z"),
            ("01/31/2024 12:00:00 pm", "2024-01-31T12:00:00Z"),
            ("1/31/2024 13:04:05", "2024-01-31T13:04:05Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2024-01-31",
            "2024-01-31T03:04",
            "2023-02-29T00:00:00",
            "2024-13-01T00:00:00",
            "2024-01-32T00:00:00",
            "2024-01-31T24:00:00",
            "2024-01-31T03:60:00",
            "2024-01-31T03:04:60",
            "2024-01-31T03:04:05.",
            "2024-01-31T03:04:05.Z",
            "2024-01-31T03:04:05+1",
            "2024-01-31T03:04:05+24:00",
            "2024-01-31T03:04:05ZZ",
            "2024-01-31T03:04:05 UTC",
            "2024/01/31T03:04:05",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "1/31/24 3:04:05 PM",
            "31/1/2024 3:04:05 PM",
            "1/31/2024 13:04:05 PM",
            "1/31/2024 0:04:05 AM",
            "1/31/2024 3:04:05 PM UTC",
            "4294967297/1/2024 3:04:05",
            "Not Available",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn writes_the_fraction_without_zeros_at_the_end() {
        for (text, expected) in [
            ("2024-01-31 03:04:05", "2024-01-31T03:04:05Z"),
            ("2024-01-31 03:04:05.1200", "2024-01-31T03:04:05.12Z"),
            ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z"),
        ] {
            let mut out = Vec::new();
            write(parse(text).unwrap(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn reads_what_chrono_writes(seconds in 0..253_402_300_800_i64, nanos in 0..1_000_000_000_u32) {
            let time = DateTime::from_timestamp(seconds, nanos).unwrap();
            prop_assert_eq!(parse(&time.to_rfc3339()), Some(time));
            let mut own = Vec::new();
            write(time, &mut own);
            prop_assert_eq!(parse(&String::from_utf8(own).unwrap()), Some(time));
        }

        #[test]
        fn takes_any_text(text in any::<String>(), like in r"[0-9/:T .+Z-]{0,40}") {
            std::hint::black_box((parse(&text), parse(&like)));
        }
    }
}
