//! JSON, with everything that a terminal would obey written as an escape, so that printing it is harmless too.

use std::fmt::Write as _;

use crate::Report;

/// The report as indented JSON with a line break at its end.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string_pretty(report)?;
    let mut safe = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if character == '\n'
            || super::escape::line(character.encode_utf8(&mut [0; 4])).starts_with(character) && character != '\\'
        {
            safe.push(character);
        } else if character == '\\' {
            safe.push('\\');
        } else {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        }
    }
    safe.push('\n');
    Ok(safe)
}
