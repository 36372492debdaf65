//! Sizes and times that decide how often something rare happens. Tests that end the process make them small.

/// The usual size; with the feature `failpoints`, what the environment variable says.
#[must_use]
pub fn size(variable: &str, usual: u64) -> u64 {
    if cfg!(feature = "failpoints") {
        let wish = std::env::var(variable).ok();
        return wish.and_then(|wish| wish.parse().ok()).unwrap_or(usual);
    }
    usual
}
