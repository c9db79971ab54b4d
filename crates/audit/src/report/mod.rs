//! Forms of a report, one file each. All names in it come from the database and may be hostile.

mod attack;
pub mod escape;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod sarif;
pub mod terminal;

use crate::{Report, Severity};

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Terminal,
    /// Everything, for programs.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// `JUnit`'s XML, for CI servers.
    Junit,
    /// Markdown, for a comment or a job's summary.
    Markdown,
}

impl Format {
    /// All.
    pub const ALL: [Self; 5] = [Self::Terminal, Self::Json, Self::Sarif, Self::Junit, Self::Markdown];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Json => "json",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
        }
    }

    /// The form of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }
}

/// The report in a form, with a line break at its end. `fail_on` is the mildest severity that fails; it only matters to
/// `JUnit`, which knows nothing between passed and failed.
pub fn render(report: &Report, format: Format, fail_on: Option<Severity>) -> Result<String, serde_json::Error> {
    match format {
        Format::Terminal => Ok(terminal::render(report)),
        Format::Json => json::render(report),
        Format::Sarif => sarif::render(report),
        Format::Junit => Ok(junit::render(report, fail_on)),
        Format::Markdown => Ok(markdown::render(report)),
    }
}
