//! For the kill tests: ends this process, as `kill -9` does, when it passes a point for the nth time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Names the point and the count: `journal::commit=17`.
const VARIABLE: &str = "KILL_AT";

/// Arms the point that the environment names.
pub(crate) fn arm() {
    let Ok(wish) = std::env::var(VARIABLE) else {
        return;
    };
    let Some((point, count)) = wish.split_once('=') else {
        return;
    };
    let Ok(count) = count.parse::<u64>() else {
        return;
    };
    let passed = AtomicU64::new(0);
    let armed = fail::cfg_callback(point, move || {
        if passed.fetch_add(1, Ordering::Relaxed) + 1 == count {
            let own = rustix::process::getpid();
            if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
                tracing::error!(%error, "the process lives on");
            }
        }
    });
    if let Err(why) = armed {
        tracing::error!(%point, %why, "the point cannot be armed");
    }
}
