//! Makes hostile names harmless for a terminal, the only place where that is decided.

/// Whether a terminal would act on the character instead of showing it, or show it where it does not stand.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn escape(text: &str, keep: &[char]) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if !is_obeyed(character) || keep.contains(&character) {
            safe.push(character);
        } else {
            safe.extend(character.escape_default());
        }
    }
    safe
}

/// One line: line breaks are escaped too.
pub fn line(text: &str) -> String {
    escape(text, &[])
}

/// Several lines.
pub fn block(text: &str) -> String {
    escape(text, &['\n', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(line("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(line("evil\u{202e}x\u{200b}"), "evil\\u{202e}x\\u{200b}");
        assert_eq!(block("a\n\u{9b}1m"), "a\n\\u{9b}1m");
        assert_eq!(line("Zürich ✓"), "Zürich ✓");
    }
}
