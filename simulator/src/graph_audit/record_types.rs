//! The names of record types, as Graph's metadata has them (`auditLogRecordType`).

use std::{collections::HashMap, sync::LazyLock};

static NAMES: LazyLock<HashMap<i64, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("record_types.txt").lines();
    let pair = |line: &'static str| {
        let (number, name) = line.split_once(' ')?;
        Some((number.parse().ok()?, name))
    };
    lines.filter_map(pair).collect()
});

static NUMBERS: LazyLock<HashMap<String, i64>> = LazyLock::new(|| {
    let named = NAMES
        .iter()
        .map(|(number, name)| (name.to_lowercase(), *number));
    named.collect()
});

/// The name of a number, in the case of answers.
pub(super) fn name(number: i64) -> &'static str {
    NAMES.get(&number).copied().unwrap_or("unknownFutureValue")
}

/// The number of a name, in any case.
pub(super) fn number(name: &str) -> Option<i64> {
    NUMBERS.get(&name.to_lowercase()).copied()
}
