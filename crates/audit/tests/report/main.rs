//! The report's forms: what must hold whatever the database calls its objects, and the shape of SARIF and `JUnit`.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod exceptions;
mod hostile;
mod made;
mod shapes;
