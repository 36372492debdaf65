//! What users start from: every file in `config/` and the program in `examples/`, run against a simulated tenant.

mod configs;
mod custom_sink;
mod program;
