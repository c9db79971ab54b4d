//! What the benches share: summaries of rounds, CPU time from `/proc`, figures, and the table in `docs/performance.md`.
//!
//! No bench asserts a time: a missed goal is printed, not failed.

pub mod cpu;
pub mod report;
pub mod summary;

pub use report::{Figure, Report};
pub use summary::Summary;
