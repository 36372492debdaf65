//! The runners.

pub mod intake;
