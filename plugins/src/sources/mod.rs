//! Where events come from.

pub(crate) mod management_activity;
mod slices;
