//! A tenant's slug: a DNS label, because it becomes a host name at the API gateway.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names that would collide with Guardian's own hosts, logins or routes.
const RESERVED: &[&str] = &[
    "admin",
    "all",
    "api",
    "app",
    "auth",
    "console",
    "default",
    "gateway",
    "guardian",
    "health",
    "internal",
    "localhost",
    "login",
    "metrics",
    "none",
    "null",
    "other",
    "pgbouncer",
    "postgres",
    "public",
    "root",
    "status",
    "support",
    "system",
    "template0",
    "template1",
    "tenant",
    "www",
];

/// A lower-case DNS label of 1 to 63 characters that is not reserved.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "acme")]
pub struct Slug(String);

/// Why a text is no slug, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Nothing was given.
    #[error("a slug may not be empty; give a short name such as `acme`")]
    Empty,
    /// More than 63 characters.
    #[error("the slug has {0} characters; a DNS label has 63 at most")]
    TooLong(usize),
    /// A character outside `a-z`, `0-9`, `-`.
    #[error("the slug may not contain {found:?}; use a-z, 0-9 and -{}", suggestion(.suggested.as_deref()))]
    Character {
        /// The first offending character.
        found: char,
        /// A slug that would do, when one is close.
        suggested: Option<String>,
    },
    /// A hyphen at either end.
    #[error("the slug `{0}` may not start or end with a hyphen")]
    Hyphen(String),
    /// `xn--` and its kin, which DNS reserves for encoded names.
    #[error("the slug `{0}` has `--` in the third and fourth place, which DNS reserves")]
    Encoded(String),
    /// Looks like one of Guardian's own ids.
    #[error("`{0}` is reserved; choose another slug")]
    Reserved(String),
}

fn suggestion(suggested: Option<&str>) -> String {
    suggested.map_or_else(String::new, |slug| format!("; `{slug}` would do"))
}

impl Slug {
    /// The label itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn nearest(text: &str) -> Option<String> {
    let folded: String =
        text.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let joined = folded.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    joined.parse::<Slug>().ok().map(|slug| slug.0)
}

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        if text.is_empty() {
            return Err(SlugError::Empty);
        }
        if let Some(found) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(SlugError::Character { found, suggested: nearest(text) });
        }
        if text.len() > 63 {
            return Err(SlugError::TooLong(text.len()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(SlugError::Hyphen(text.to_owned()));
        }
        if text.get(2..4) == Some("--") {
            return Err(SlugError::Encoded(text.to_owned()));
        }
        if RESERVED.contains(&text) {
            return Err(SlugError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Slug {
    type Error = SlugError;

    fn try_from(text: String) -> Result<Self, SlugError> {
        text.parse()
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_accepted() {
        for text in ["a", "acme", "acme-2", "0day", &"x".repeat(63)] {
            assert_eq!(text.parse::<Slug>().map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let message = |text: &str| text.parse::<Slug>().unwrap_err().to_string();
        assert_eq!(message("Acme Corp"), "the slug may not contain 'A'; use a-z, 0-9 and -; `acme-corp` would do");
        assert_eq!(
            message("a'; DROP TABLE x"),
            "the slug may not contain '\\''; use a-z, 0-9 and -; `a-drop-table-x` would do"
        );
        assert_eq!(message("аcme"), "the slug may not contain 'а'; use a-z, 0-9 and -; `cme` would do");
        assert_eq!(message(""), "a slug may not be empty; give a short name such as `acme`");
        assert_eq!(message(&"x".repeat(64)), "the slug has 64 characters; a DNS label has 63 at most");
        assert_eq!(message("-a"), "the slug `-a` may not start or end with a hyphen");
        assert_eq!(message("xn--a"), "the slug `xn--a` has `--` in the third and fourth place, which DNS reserves");
        assert_eq!(message("admin"), "`admin` is reserved; choose another slug");
    }

    proptest! {
        #[test]
        fn what_parses_is_a_label(text in "[-a-zA-Z0-9'é.\\n]{0,70}") {
            if let Ok(slug) = text.parse::<Slug>() {
                prop_assert!(slug.as_str().len() <= 63);
                prop_assert!(slug.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }

        #[test]
        fn a_suggestion_is_itself_valid(text in ".{1,80}") {
            if let Err(SlugError::Character { suggested: Some(slug), .. }) = text.parse::<Slug>() {
                prop_assert!(slug.parse::<Slug>().is_ok());
            }
        }
    }
}
