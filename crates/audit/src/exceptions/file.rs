//! Exceptions in a TOML file.

use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;

use super::{Exception, Origin, Target};

/// The file is no list of exceptions. All of these name the line.
#[derive(Debug, thiserror::Error)]
pub enum ExceptionsError {
    /// TOML or its fields.
    #[error("`{path}` is not understood:\n{problem}")]
    Unreadable {
        /// The path, as it was given.
        path: String,
        /// What is wrong, with the line.
        problem: String,
    },
    /// One exception makes no sense.
    #[error("{path}:{line}: {problem}")]
    Exception {
        /// The path, as it was given.
        path: String,
        /// The line on which the entry begins, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exception: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rule: String,
    object: Option<String>,
    fingerprint: Option<String>,
    until: Day,
    reason: String,
}

/// `2027-01-31`, with or without quotation marks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Day {
    Toml(toml::value::Datetime),
    Text(String),
}

impl Day {
    fn date(&self) -> Option<Date> {
        match self {
            Self::Toml(toml::value::Datetime { date: Some(date), time: None, offset: None }) => {
                let numbers = (i16::try_from(date.year), i8::try_from(date.month), i8::try_from(date.day));
                let (Ok(year), Ok(month), Ok(day)) = numbers else { return None };
                Date::new(year, month, day).ok()
            }
            Self::Toml(_) => None,
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Reads `guardian-audit.toml`; the path is only for messages.
pub fn of_file(path: &str, text: &str) -> Result<Vec<Exception>, ExceptionsError> {
    let file: File = toml::from_str(text).map_err(|error| ExceptionsError::Unreadable {
        path: path.to_owned(),
        problem: error.to_string().trim_end().to_owned(),
    })?;
    let entries = file.exception.into_iter().map(|entry| {
        let line = text[..entry.span().start.min(text.len())].matches('\n').count() + 1;
        let origin = Origin::File { path: path.to_owned(), line };
        exception(entry.into_inner(), origin).map_err(|problem| ExceptionsError::Exception {
            path: path.to_owned(),
            line,
            problem: problem.to_owned(),
        })
    });
    entries.collect()
}

fn exception(entry: Entry, origin: Origin) -> Result<Exception, &'static str> {
    let target = match (entry.object, entry.fingerprint) {
        (Some(identity), None) => Target::Identity(identity),
        (None, Some(fingerprint)) => Target::Fingerprint(fingerprint),
        _ => return Err("give either `object`, as the report names it, or `fingerprint`"),
    };
    let until = entry.until.date().ok_or("`until` is no date such as 2027-01-31")?;
    if entry.reason.trim().is_empty() {
        return Err("`reason` is empty; say why the finding is accepted");
    }
    Ok(Exception { rule: entry.rule, target, until, reason: entry.reason.trim().to_owned(), origin })
}
