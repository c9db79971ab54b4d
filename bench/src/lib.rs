//! What the benches share: summaries of rounds, CPU time from `/proc`, figures and the table in `docs/performance.md`, pgbench,
//! and the proxies that the gateway is measured beside.
//!
//! No bench asserts a time: a missed goal is printed, not failed.

pub mod address;
pub mod cpu;
pub mod pgbench;
pub mod proxy;
pub mod report;
pub mod summary;
pub mod target;

pub use address::Address;
pub use report::{Figure, Report};
pub use summary::Summary;
pub use target::Target;
