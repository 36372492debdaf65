//! Makes a history that fails as small as it can be and still fail.

use super::history::{End, History, Trouble};

/// The smallest history found in so many tries for which `fails` still says why, and what it says. Some fail by chance
/// only, so without a bound there were no end to this.
pub(crate) fn shrink(
    history: History,
    wrong: String,
    most: u64,
    fails: impl Fn(&History) -> Option<String>,
) -> (History, String) {
    let (mut smallest, mut why, mut tries) = (history, wrong, 0);
    'smaller: loop {
        for next in smaller(&smallest) {
            tries += 1;
            if tries > most {
                return (smallest, why);
            }
            if let Some(wrong) = fails(&next) {
                (smallest, why) = (next, wrong);
                continue 'smaller;
            }
        }
        return (smallest, why);
    }
}

/// Histories with one thing less, the largest steps first.
fn smaller(history: &History) -> Vec<History> {
    let mut all = Vec::new();
    let mut change = |change: &dyn Fn(&mut History)| {
        let mut next = history.clone();
        change(&mut next);
        all.push(next);
    };
    for half in halves(history.blobs.len()) {
        change(&|next| drop(next.blobs.drain(half.clone())));
    }
    for half in halves(history.faults.len()) {
        change(&|next| drop(next.faults.drain(half.clone())));
    }
    for number in 0..history.lives.len() {
        change(&|next| drop(next.lives.drain(number..=number)));
    }
    for number in 0..history.outages.len() {
        change(&|next| drop(next.outages.drain(number..=number)));
    }
    // The first sink shows what there is.
    for number in 1..history.sinks.len() {
        change(&|next| drop(next.sinks.remove(number)));
    }
    for (number, sink) in history.sinks.iter().enumerate() {
        for fate in 0..sink.fates.len() {
            change(&|next| drop(next.sinks[number].fates.drain(fate..=fate)));
        }
        if sink.down.is_some() {
            change(&|next| next.sinks[number].down = None);
        }
    }
    if history.skew != 0 {
        change(&|next| next.skew = 0);
    }
    if history.small_batches {
        change(&|next| next.small_batches = false);
    }
    for (number, life) in history.lives.iter().enumerate() {
        if !matches!(life.end, End::Graceful) {
            change(&|next| next.lives[number].end = End::Graceful);
        }
    }
    for (number, blob) in history.blobs.iter().enumerate() {
        if blob.trouble != Trouble::None {
            change(&|next| next.blobs[number].trouble = Trouble::None);
        }
        for half in halves(blob.records.len()).filter(|half| half.len() < blob.records.len()) {
            change(&|next| drop(next.blobs[number].records.drain(half.clone())));
        }
    }
    all
}

/// All of `0..length`, its halves, and each single number.
fn halves(length: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let parts = [0..length, 0..length / 2, length / 2..length];
    let singles = (0..length).map(|number| number..number + 1);
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .chain(singles)
}
