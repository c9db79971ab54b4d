//! The application's migrations, in each place: which ran, which are left, and running those.
//!
//! A file is one transaction, in which the ledger's line is written too. There is no way down: what a migration broke, the
//! next one mends.

mod advise;
mod files;
mod ledger;
mod split;
mod structure;

pub use advise::{Advice, advise};
pub use files::{Migration, Migrations, ReadError};
pub use ledger::{MigrateError, Standing, apply, forget, pending, standing};
pub use split::{Statement, split};
pub use structure::fingerprints;
