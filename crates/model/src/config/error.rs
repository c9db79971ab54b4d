//! What is wrong with a configuration, where, and what was probably meant.

use std::fmt;

/// A refusal of `guardian.toml`, with the place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as the user named it.
    pub file: String,
    /// Counted from 1; absent when the key is missing from the file.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {}", self.problem)?;
        if let Some(hint) = &self.hint {
            write!(formatter, "; {hint}")?;
        }
        Ok(())
    }
}

impl ConfigError {
    pub(super) fn from_toml(file: &str, text: &str, source: &toml::de::Error) -> Self {
        let message = source.message().trim().replace('\n', " ");
        let line = source.span().map(|span| line_of(text, span.start));
        Self { file: file.to_owned(), line, hint: nearest_key(&message), problem: message }
    }

    pub(super) fn new(file: &str, text: &str, key: &str, problem: &str) -> Self {
        Self { file: file.to_owned(), line: line_of_key(text, key), problem: format!("`{key}`: {problem}"), hint: None }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// Finds the line of a dotted key that parsed: the table's header, then the key below it.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let (table, leaf) = key.rsplit_once('.')?;
    let mut in_table = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            in_table = header.split(']').next().is_some_and(|header| header.trim().replace('"', "") == table);
        } else if in_table && line.split('=').next().is_some_and(|name| name.trim().trim_matches('"') == leaf) {
            return Some(index + 1);
        }
    }
    None
}

/// serde's message lists the valid keys in backquotes after the unknown one.
fn nearest_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
    let mut words = rest.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let nearest = words.max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)))?;
    (strsim::jaro_winkler(unknown, nearest) > 0.7).then(|| format!("did you mean `{nearest}`?"))
}
