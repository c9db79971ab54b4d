//! Forms of a report, one file each. All names in it come from the database and may be hostile.

pub mod escape;
pub mod json;
pub mod terminal;
