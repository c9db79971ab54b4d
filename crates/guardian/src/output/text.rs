//! Text that is safe on a terminal, and the forms of times and durations.
//!
//! A slug in an error, a table's name, a line of the audit log: somebody else chose them. Control characters could move the
//! cursor, hide lines or set the window's title, and direction marks could reorder what is read.

use std::fmt::Write;

pub(crate) use guardian_audit::report::escape::line;
use guardian_audit::report::escape::{self, is_obeyed};
use jiff::Timestamp;

/// Several lines, with a line break at the end.
pub(crate) fn block(text: &str) -> String {
    let mut safe = escape::block(text);
    if !safe.ends_with('\n') {
        safe.push('\n');
    }
    safe
}

/// Serialised JSON, whose meaning stays the same: what JSON itself lets through unescaped stands only inside strings.
pub(super) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) && character != '\n' {
            // All of them lie in the basic plane, so that one escape is enough.
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// `850 µs`, `12.3 ms`, `4.56 s`, `3 min 20 s`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
    }
}

/// `1 place`, `2 places`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `2026-11-22 23:24:13`, in UTC as the column's head says.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(line("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(line("a\r\nb\tc\u{7}"), "a\\r\\nb\\tc\\u{7}");
        assert_eq!(line("8-bit \u{9b}31m"), "8-bit \\u{9b}31m");
        assert_eq!(line("evil\u{202e}gpj.exe"), "evil\\u{202e}gpj.exe");
        assert_eq!(line("Zürich – 東京 ✓"), "Zürich – 東京 ✓");
    }

    #[test]
    fn a_block_keeps_its_lines_and_ends_with_one() {
        assert_eq!(block("SELECT 1;\n\t\u{1b}c"), "SELECT 1;\n\t\\u{1b}c\n");
    }

    #[test]
    fn json_means_the_same_after_escaping() {
        let value = serde_json::json!({ "name": "a\u{9b}31m\u{202e}\u{7f}\nü" });
        let safe = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!safe.chars().any(|c| is_obeyed(c) && c != '\n'), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        let shown = [0, 850, 12_345, 4_560_000, 119_990_000, 200_000_000].map(duration);
        assert_eq!(shown, ["0 µs", "850 µs", "12.3 ms", "4.56 s", "119.99 s", "3 min 20 s"]);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time("2026-11-22T23:24:13.5+01:00".parse().unwrap()), "2026-11-22 22:24:13");
    }
}
