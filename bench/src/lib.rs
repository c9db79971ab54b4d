//! What the benches share: summaries of rounds, CPU time from `/proc`, figures and the table in `docs/performance.md`, pgbench
//! and a generator of load, an installation with gateways, and the proxies beside which they are measured.
//!
//! No bench asserts a time: a missed goal is printed, not failed.

pub mod address;
pub mod alternate;
pub mod cpu;
pub mod guardian;
pub mod load;
pub mod pgbench;
pub mod proxy;
pub mod report;
pub mod rows;
pub mod summary;
pub mod target;

pub use address::Address;
pub use alternate::{Contender, Rounds, Taken};
pub use guardian::House;
pub use report::{Figure, Report};
pub use summary::Summary;
pub use target::Target;
