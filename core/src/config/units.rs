//! Values with units.

use std::time::Duration;

use serde::Deserialize;

/// A time span: `"90s"`, `"5m"`, `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Span(pub Duration);

/// A size in bytes: `"64MiB"`, `"10GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Size(pub u64);
