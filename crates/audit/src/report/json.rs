//! JSON, with everything that a terminal would obey written as an escape, so that printing it is harmless too.

use std::fmt::Write as _;

use crate::Report;

/// The report as indented JSON with a line break at its end.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    Ok(harmless(&serde_json::to_string_pretty(report)?))
}

/// Serialised JSON, the same in meaning, with a line break at its end: what a terminal would obey can stand only in strings.
pub(crate) fn harmless(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + 1);
    for character in json.chars() {
        if character == '\n' || !super::escape::is_obeyed(character) {
            safe.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe.push('\n');
    safe
}
