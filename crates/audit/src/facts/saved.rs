//! Facts in a file: what `--save` writes and `--facts` reads.

use serde::Deserialize;

use super::{FORMAT, Facts};

/// The text is no saved facts.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Another format than this Guardian's.
    #[error("the facts have format {0}, this Guardian reads {FORMAT}; collect them again")]
    Format(u32),
    /// Not what was saved.
    #[error("these are no facts that `guardian audit --save` wrote: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Only the number, so that facts of another format are called that, not unreadable.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Facts {
    /// Reads what [`Facts::to_text`] wrote; lists that somebody reordered are put in order again.
    pub fn of_text(text: &str) -> Result<Self, FactsError> {
        let Header { format } = serde_json::from_str(text)?;
        if format != FORMAT {
            return Err(FactsError::Format(format));
        }
        let mut facts: Self = serde_json::from_str(text)?;
        facts.sort();
        Ok(facts)
    }

    /// As JSON, with a line break at its end. It has no passwords and no rows, but names, settings and functions' bodies.
    pub fn to_text(&self) -> Result<String, FactsError> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}
