//! A statement's text as it may be shown: no literal, no comment, one line.
//!
//! A lexer, for display and for telling statements apart; no decision about isolation rests on it. Where two readings of the
//! text are possible (a backslash before a quote means something only with `standard_conforming_strings` off), what follows
//! is left out.

use std::fmt::Write as _;

/// The longest text that is shown, in characters.
pub(crate) const SHOWN_CHARS_MAX: usize = 1000;

/// Stands for a literal.
const LITERAL: &str = "?";
/// Stands for what was left out.
const REST: &str = "…";

/// A piece of the text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// A word, a quoted name, a parameter or a sign, as it stands.
    Text(&'a [u8]),
    Literal,
    /// Nothing behind it can be told apart.
    Doubt,
}

/// The text without its literals, and the words in it that may be names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// At most [`SHOWN_CHARS_MAX`] characters, and a sign for what is missing.
    pub(crate) text: String,
    /// The same in full length, for telling statements apart.
    pub(crate) full: String,
}

/// What may be shown of a statement.
pub(crate) fn shown(sql: &[u8]) -> Shown {
    let mut full = String::with_capacity(sql.len().min(4096));
    let mut lexer = Lexer { sql, at: 0 };
    // How many items of a list of values went by, and how the list began.
    let (mut listed, mut after_comma) = (false, false);
    while let Some((spaced, piece)) = lexer.next() {
        let word = match piece {
            Piece::Text(word) => String::from_utf8_lossy(word),
            Piece::Literal => LITERAL.into(),
            Piece::Doubt => REST.into(),
        };
        let is_value = word == LITERAL || is_parameter(&word);
        if word == "," && listed {
            after_comma = true;
            continue;
        }
        if is_value && after_comma {
            after_comma = false;
            // Lists of values are told apart by nothing but their length.
            if !full.ends_with(REST) {
                let _ = write!(full, ", {REST}");
            }
            continue;
        }
        if std::mem::take(&mut after_comma) {
            full.push(',');
        }
        if spaced && !full.is_empty() {
            full.push(' ');
        }
        full.push_str(&word);
        listed = is_value;
    }
    if after_comma {
        full.push(',');
    }
    let clean: String = full.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let text = match clean.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}{REST}", &clean[..end]),
        None => clean.clone(),
    };
    Shown { text, full: clean }
}

/// The names in a text that was made by [`shown`], lower-cased unless quoted: what may be a table's.
pub(crate) fn names(shown: &str) -> Vec<String> {
    let mut lexer = Lexer { sql: shown.as_bytes(), at: 0 };
    let mut names = Vec::new();
    while let Some((_, piece)) = lexer.next() {
        let Piece::Text(word) = piece else { continue };
        let word = String::from_utf8_lossy(word);
        let name = match word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None if word.starts_with(|first: char| first.is_alphabetic() || first == '_') => word.to_lowercase(),
            None => continue,
        };
        if names.len() < 200 && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn is_parameter(word: &str) -> bool {
    word.strip_prefix('$').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

struct Lexer<'a> {
    sql: &'a [u8],
    at: usize,
}

const fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_of_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.sql.get(self.at + ahead).copied()
    }

    /// The next piece, and whether anything stood in front of it that is not shown.
    fn next(&mut self) -> Option<(bool, Piece<'a>)> {
        let start = self.at;
        self.skip_space()?;
        let spaced = self.at > start;
        Some((spaced, self.piece()))
    }

    /// Past spaces and comments; `None` at the end.
    fn skip_space(&mut self) -> Option<()> {
        loop {
            match (self.peek(0)?, self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0, _) => self.at += 1,
                (b'-', Some(b'-')) => {
                    while !matches!(self.peek(0)?, b'\n' | b'\r') {
                        self.at += 1;
                    }
                }
                (b'/', Some(b'*')) => self.skip_comment()?,
                _ => return Some(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0)?, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    fn piece(&mut self) -> Piece<'a> {
        let start = self.at;
        let first = self.sql[start];
        let next = self.peek(1);
        match first {
            b'\'' => self.string(false),
            b'"' => self.quoted_name(start),
            b'$' if next.is_some_and(|byte| byte.is_ascii_digit()) => {
                self.at += 1;
                while self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
                    self.at += 1;
                }
                Piece::Text(&self.sql[start..self.at])
            }
            b'$' => self.dollar_string(),
            b'.' if next.is_some_and(|byte| byte.is_ascii_digit()) => self.number(),
            _ if first.is_ascii_digit() => self.number(),
            _ if begins_word(first) => self.word(),
            _ => {
                self.at += 1;
                Piece::Text(&self.sql[start..self.at])
            }
        }
    }

    fn word(&mut self) -> Piece<'a> {
        let start = self.at;
        while self.peek(0).is_some_and(is_of_word) {
            self.at += 1;
        }
        let word = &self.sql[start..self.at];
        match (word, self.peek(0), self.peek(1)) {
            (b"e" | b"E", Some(b'\''), _) => self.string(true),
            (b"b" | b"B" | b"x" | b"X" | b"n" | b"N", Some(b'\''), _) => self.string(false),
            (b"u" | b"U", Some(b'&'), Some(b'\'')) => {
                self.at += 1;
                self.string(false)
            }
            _ => Piece::Text(word),
        }
    }

    /// A string, from its quote on.
    fn string(&mut self, has_escapes: bool) -> Piece<'a> {
        self.at += 1;
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => return Piece::Literal,
                (Some(b'\\'), _) if has_escapes => self.at += 2,
                // Whether the string ends here hangs on a setting.
                (Some(b'\\'), Some(b'\'')) => return self.doubt(),
                (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => {
                    self.at += 1;
                    return Piece::Literal;
                }
                _ => self.at += 1,
            }
        }
    }

    fn doubt(&mut self) -> Piece<'a> {
        self.at = self.sql.len();
        Piece::Doubt
    }

    fn quoted_name(&mut self, start: usize) -> Piece<'a> {
        self.at += 1;
        loop {
            match (self.peek(0), self.peek(1)) {
                // One that does not end is none.
                (None, _) => return Piece::Doubt,
                (Some(b'"'), Some(b'"')) => self.at += 2,
                (Some(b'"'), _) => {
                    self.at += 1;
                    return Piece::Text(&self.sql[start..self.at]);
                }
                _ => self.at += 1,
            }
        }
    }

    /// `$$…$$` or `$tag$…$tag$`; a lone `$` is a sign.
    fn dollar_string(&mut self) -> Piece<'a> {
        let start = self.at;
        let mut end = start + 1;
        while self.sql.get(end).is_some_and(|&byte| is_of_word(byte) && byte != b'$') {
            end += 1;
        }
        if self.sql.get(end) != Some(&b'$') {
            self.at += 1;
            return Piece::Text(&self.sql[start..self.at]);
        }
        let tag = &self.sql[start..=end];
        let body = &self.sql[end + 1..];
        let len = body.windows(tag.len()).position(|window| window == tag);
        self.at = len.map_or(self.sql.len(), |len| end + 1 + len + tag.len());
        Piece::Literal
    }

    fn number(&mut self) -> Piece<'a> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'e' | b'E'), Some(b'+' | b'-')) => self.at += 2,
                (Some(byte), _) if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || byte >= 0x80 => {
                    self.at += 1;
                }
                _ => return Piece::Literal,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(sql: &str) -> String {
        shown(sql.as_bytes()).text
    }

    #[test]
    fn literals_of_every_kind_are_left_out() {
        for (sql, expected) in [
            ("SELECT * FROM t WHERE a = 'x' AND b=12", "SELECT * FROM t WHERE a = ? AND b=?"),
            ("SELECT 'it''s', E'it\\'s', $$it's$$, $q$a $$ b$q$ FROM \"T x\"", "SELECT ?, … FROM \"T x\""),
            ("SELECT U&'\\0061', x'ff', B'01', n'y'", "SELECT ?, …"),
            ("SELECT 1.5e-3, .5, 0x1f, 1_000 ; ", "SELECT ?, … ;"),
            ("SELECT a1, b$2 /* /* secret */ secret */ -- secret\n FROM t", "SELECT a1, b$2 FROM t"),
            ("SELECT * FROM t WHERE id = $1 AND x IN ($2,$3, $4)", "SELECT * FROM t WHERE id = $1 AND x IN ($2, …)"),
            ("INSERT INTO t VALUES (1, 'a', now()), (2, 'b', now())", "INSERT INTO t VALUES (?, …, now()), (?, …, now())"),
            ("SELECT 'a\\' secret '", "SELECT …"),
            ("SELECT 'unended secret", "SELECT ?"),
            ("SELECT $tag$ unended secret", "SELECT ?"),
            ("SELECT \"unended secret", "SELECT …"),
            ("SELECT /* unended secret", "SELECT"),
            ("SELECT typee'secret'", "SELECT typee?"),
            ("SELECT a\tFROM\r\n t", "SELECT a FROM t"),
            ("SELECT ?::uuid, a->>'k'", "SELECT ?::uuid, a->>?"),
        ] {
            assert_eq!(text(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_long_text_is_cut_and_still_told_apart() {
        let long = format!("SELECT {}a FROM t", "a + ".repeat(1000));
        let other = format!("SELECT {}a FROM u", "a + ".repeat(1000));
        assert_eq!(text(&long).chars().count(), SHOWN_CHARS_MAX + 1);
        assert_eq!(text(&long), text(&other));
        assert_ne!(shown(long.as_bytes()).full, shown(other.as_bytes()).full);
    }

    #[test]
    fn names_are_read_as_the_server_reads_them() {
        assert_eq!(names("TRUNCATE Ticket, public.\"Odd \"\"one\", ?"), ["truncate", "ticket", "public", "Odd \"one"]);
    }

    /// A literal whose content is a marker, however it is quoted.
    fn literal() -> impl Strategy<Value = String> {
        let noise = "[ a-z0-9,;()/-]{0,6}";
        (0..9_usize, noise, noise).prop_map(|(kind, before, after)| {
            let secret = format!("{before}SECRET{after}");
            match kind {
                0 => format!("'{secret}'"),
                1 => format!("'{secret}''{secret}'"),
                2 => format!("E'{secret}\\'{secret}\\\\'"),
                3 => format!("$${secret}'$$"),
                4 => format!("$x1${secret}$$'$x1$"),
                5 => format!("U&'{secret}'"),
                6 => format!("/* {secret} */"),
                7 => format!("-- {secret}\n"),
                _ => format!("'{secret}\\' {secret} '"),
            }
        })
    }

    proptest! {
        #[test]
        fn no_literal_is_ever_shown(
            parts in proptest::collection::vec(("[a-z_]{1,6}", literal(), "[=<>+, ()]{1,3}"), 1..8),
        ) {
            let parts: Vec<String> = parts.iter().map(|(word, literal, sign)| format!("{word} {literal} {sign}")).collect();
            let sql = parts.join(" ");
            let shown = shown(sql.as_bytes());
            prop_assert!(!shown.text.contains("SECRET") && !shown.full.contains("SECRET"), "{sql} -> {}", shown.full);
        }

        #[test]
        fn any_bytes_make_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let shown = shown(&bytes);
            prop_assert!(!shown.text.chars().any(char::is_control));
            prop_assert!(shown.text.chars().count() <= SHOWN_CHARS_MAX + 1);
        }
    }
}
