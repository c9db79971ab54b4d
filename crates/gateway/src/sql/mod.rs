//! The SQL gateway: PostgreSQL's protocol in front of any number of clusters (ADR 7).
//!
//! Clients are bound to a tenant when they log in, or by a statement that is the gateway's own. Server connections are lent
//! for a transaction, or a session, and made ready for the tenant before its first byte is sent: see `worker/handover.rs`.

mod downstream;
mod edit;
mod fairness;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod listener;
mod login;
mod metrics;
mod observe;
mod prepared;
mod refusal;
mod settings;
mod shared;
mod socket;
mod tls;
mod upstream;
mod worker;

pub use gateway::{Gateway, GatewayError, Options, takeover};
pub use shared::Event;
pub use tls::{TlsError, TlsFiles};

#[cfg(test)]
mod tests;
