//! The protocol's state machine and the way in, without IO.

mod alike;
mod conversations;
mod model;
mod own_statements;
mod pinned;
mod way_in;
