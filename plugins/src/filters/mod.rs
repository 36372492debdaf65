//! Filters: what a sink does not want to see. Cheap, synchronous, and without a full parse of the record.

pub(crate) mod field;
mod names;
pub(crate) mod operation;
mod values;
