//! The figures.

use crate::Turn;
use crate::process::Usage;

/// The names of the columns.
pub(crate) fn head() {
    println!(
        "{:<16}{:>9}{:>12}{:>10}{:>12}{:>9}{:>9}{:>16}",
        "", "wall s", "events/s", "MB/s", "µs CPU/ev", "RSS MB", "× floor", "simulator µs/ev"
    );
}

/// The figures of one turn.
pub(crate) fn turn(turn: &Turn) {
    line("floor", &turn.floor, 1.0);
    if let Some(curl) = &turn.curl {
        line("curl", curl, times(turn, curl));
    }
    line(
        "audit-exporter",
        &turn.exporter,
        times(turn, &turn.exporter),
    );
}

/// The medians of all turns; the fewest microseconds apart.
pub(crate) fn medians(turns: &[Turn]) {
    println!("median of {}", turns.len());
    let curls: Option<Vec<Usage>> = turns.iter().map(|turn| turn.curl).collect();
    let rows = [
        ("floor", Some(turns.iter().map(|turn| turn.floor).collect())),
        ("curl", curls),
        (
            "audit-exporter",
            Some(turns.iter().map(|turn| turn.exporter).collect::<Vec<_>>()),
        ),
    ];
    for (name, usages) in rows {
        let Some(usages) = usages else { continue };
        let ratios = turns
            .iter()
            .zip(&usages)
            .map(|(turn, usage)| times(turn, usage));
        line(name, &median_usage(&usages), median(ratios.collect()));
        let least = usages
            .iter()
            .map(Usage::cpu_micros)
            .fold(f64::MAX, f64::min);
        println!("{:<16}{:>43}", "  least", format!("{least:.2}"));
    }
}

fn times(turn: &Turn, usage: &Usage) -> f64 {
    usage.cpu_micros() / turn.floor.cpu_micros()
}

fn line(name: &str, usage: &Usage, times: f64) {
    let wall = usage.wall.as_secs_f64();
    println!(
        "{name:<16}{wall:>9.2}{:>12.0}{:>10.0}{:>12.2}{:>9.1}{times:>9.2}{:>16.2}",
        usage.events as f64 / wall,
        usage.bytes as f64 / 1e6 / wall,
        usage.cpu_micros(),
        usage.peak_bytes as f64 / 1e6,
        usage.peer_cpu.as_secs_f64() * 1e6 / usage.events as f64,
    );
}

fn median_usage(usages: &[Usage]) -> Usage {
    let of =
        |figure: fn(&Usage) -> std::time::Duration| median(usages.iter().map(figure).collect());
    Usage {
        wall: of(|usage| usage.wall),
        cpu: of(|usage| usage.cpu),
        peer_cpu: of(|usage| usage.peer_cpu),
        peak_bytes: median(usages.iter().map(|usage| usage.peak_bytes).collect()),
        ..usages.first().copied().unwrap_or_default()
    }
}

/// Of an even number, the higher of the two in the middle.
fn median<T: PartialOrd + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}
