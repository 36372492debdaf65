//! Values with units. Both are text with a unit, never a bare number: a number leaves open what it counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// A time span: `"90s"`, `"5m"`, `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size in bytes: `"64MiB"`, `"10GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Span {
    /// What a message says that it expected.
    pub const EXPECTED: &str = "a time span such as \"30s\" or \"7d\"";

    /// A span of whole seconds, for defaults.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Size {
    /// What a message says that it expected.
    pub const EXPECTED: &str = "a size such as \"64MiB\" or \"10GB\"";

    /// So many times 2^10 bytes, for defaults.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many times 2^20 bytes, for defaults.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many times 2^30 bytes, for defaults.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The size as a length in memory; saturates where memory cannot be that large.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Text that is no value with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct NotUnit(&'static str);

impl FromStr for Span {
    type Err = NotUnit;

    fn from_str(text: &str) -> Result<Self, NotUnit> {
        // humantime takes a bare 0; everybody else has to name the unit.
        if text.ends_with(|last: char| last.is_ascii_digit()) {
            return Err(NotUnit(Self::EXPECTED));
        }
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| NotUnit(Self::EXPECTED))
    }
}

impl FromStr for Size {
    type Err = NotUnit;

    fn from_str(text: &str) -> Result<Self, NotUnit> {
        if text.ends_with(|last: char| last.is_ascii_digit() || last == '.') {
            return Err(NotUnit(Self::EXPECTED));
        }
        text.parse()
            .map(|ByteSize(bytes)| Self(bytes))
            .map_err(|_| NotUnit(Self::EXPECTED))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

struct Text {
    expected: &'static str,
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

fn deserialize<'de, T, D>(from: D, expected: &'static str) -> Result<T, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    let text = from.deserialize_str(Text { expected })?;
    text.parse()
        .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &expected))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from, Self::EXPECTED)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        deserialize(from, Self::EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_a_unit() {
        assert_eq!("90s".parse(), Ok(Span::seconds(90)));
        assert_eq!("6d 12h".parse(), Ok(Span::seconds(6 * 86_400 + 12 * 3_600)));
        assert_eq!("0s".parse(), Ok(Span::seconds(0)));
        for wrong in ["", "60", "0", "5 parsecs", "-5s", "s", "1m 5"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!("64MiB".parse(), Ok(Size::mib(64)));
        assert_eq!("64 MiB".parse(), Ok(Size::mib(64)));
        assert_eq!("10GB".parse(), Ok(Size(10_000_000_000)));
        assert_eq!("1.5KiB".parse(), Ok(Size(1536)));
        assert_eq!("7B".parse(), Ok(Size(7)));
        for wrong in ["", "60", "1.", "5 parsecs", "-5MB", "MiB", "1.2.3GB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for size in [0, 1, 1000, 1024, 1536, 5 << 20, 3 << 30, 7 << 40] {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)));
        }
        for seconds in [0, 1, 90, 3_600, 7 * 86_400, 604_799] {
            let span = Span::seconds(seconds);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
