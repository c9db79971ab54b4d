//! PostgreSQL's protocol, version 3: framing, messages, SCRAM and the gateway's own statements, as functions over bytes.
//!
//! No IO, no state of a connection, no SQL parser. What reads takes a slice and lends slices of it; what writes appends whole messages
//! to a buffer. A body that is not exactly what the protocol says is an error: guessing at a boundary is how two sides come to disagree.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod scram;
pub mod startup;
pub mod switch;
mod take;
