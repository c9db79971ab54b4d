//! Splits a file of SQL into statements as psql does, to run them one by one and to know the line of each.
//!
//! No parser: it knows strings, quoted names, dollar quotes, comments, parentheses and `BEGIN ATOMIC` bodies. Where it were
//! wrong, the server would refuse the piece and the file's transaction would be rolled back.

/// One statement without its semicolon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Its text.
    pub text: &'a str,
    /// The line it begins on, counted from 1.
    pub line: usize,
}

/// The statements of a file, in order; comments between them are left out.
pub fn split(sql: &str) -> Vec<Statement<'_>> {
    let mut statements = Vec::new();
    let mut scan = Scan { bytes: sql.as_bytes(), at: 0 };
    let mut open = Open::default();
    while scan.at < scan.bytes.len() {
        let from = scan.at;
        match scan.token() {
            Token::Blank => continue,
            Token::Semicolon if open.is_complete() => {
                if let Some(start) = open.start {
                    statements.push(statement(sql, start, from));
                }
                open = Open::default();
                continue;
            }
            Token::Semicolon | Token::Other => {}
            Token::Open => open.parentheses += 1,
            Token::Close => open.parentheses = open.parentheses.saturating_sub(1),
            Token::Word => open.word(&sql[from..scan.at]),
        }
        open.start.get_or_insert(from);
    }
    if let Some(start) = open.start {
        statements.push(statement(sql, start, sql.len()));
    }
    statements
}

fn statement(sql: &str, start: usize, end: usize) -> Statement<'_> {
    let line = sql[..start].bytes().filter(|&byte| byte == b'\n').count() + 1;
    Statement { text: sql[start..end].trim_end(), line }
}

/// What is open in the statement at hand.
#[derive(Default)]
struct Open {
    start: Option<usize>,
    parentheses: usize,
    /// The first words, to tell CREATE FUNCTION from the rest.
    words: Vec<String>,
    /// Depth of `BEGIN … END` and `CASE … END` in a routine's body.
    bodies: usize,
}

impl Open {
    const fn is_complete(&self) -> bool {
        self.parentheses == 0 && self.bodies == 0
    }

    fn word(&mut self, word: &str) {
        let word = word.to_ascii_lowercase();
        if self.parentheses == 0 && self.is_routine() {
            match word.as_str() {
                "begin" => self.bodies += 1,
                "case" if self.bodies > 0 => self.bodies += 1,
                "end" => self.bodies = self.bodies.saturating_sub(1),
                _ => {}
            }
        }
        if self.words.len() < 4 {
            self.words.push(word);
        }
    }

    fn is_routine(&self) -> bool {
        let mut words = self.words.iter().map(String::as_str).filter(|word| !matches!(*word, "or" | "replace"));
        words.next() == Some("create") && matches!(words.next(), Some("function" | "procedure"))
    }
}

enum Token {
    /// White space or a comment.
    Blank,
    Semicolon,
    Open,
    Close,
    Word,
    /// A string, a quoted name, an operator, a number.
    Other,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn token(&mut self) -> Token {
        match (self.peek(0), self.peek(1)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0c, _) => self.one(Token::Blank),
            (b'-', b'-') => {
                self.skip_while(|byte| byte != b'\n');
                Token::Blank
            }
            (b'/', b'*') => {
                self.comment();
                Token::Blank
            }
            (b';', _) => self.one(Token::Semicolon),
            (b'(', _) => self.one(Token::Open),
            (b')', _) => self.one(Token::Close),
            (quote @ (b'\'' | b'"'), _) => {
                self.quoted(quote, false);
                Token::Other
            }
            (b'e' | b'E', b'\'') => {
                self.at += 1;
                self.quoted(b'\'', true);
                Token::Other
            }
            (b'$', _) => {
                self.dollar();
                Token::Other
            }
            (byte, _) if is_word_start(byte) => {
                self.skip_while(|byte| is_word_start(byte) || byte.is_ascii_digit() || byte == b'$');
                Token::Word
            }
            // A number may end in letters, which are no word of their own.
            (byte, _) if byte.is_ascii_digit() => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
                Token::Other
            }
            _ => self.one(Token::Other),
        }
    }

    const fn one(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && keep(self.bytes[self.at]) {
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => (depth, self.at) = (depth + 1, self.at + 2),
                (b'*', b'/') => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: u8, backslash_escapes: bool) {
        self.at += 1;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'\\', _) if backslash_escapes => self.at += 2,
                (byte, next) if byte == quote && next == quote => self.at += 2,
                (byte, _) if byte == quote => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
        self.at = self.bytes.len();
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self) {
        let rest = &self.bytes[self.at + 1..];
        let tag = rest.iter().take_while(|&&byte| is_word_start(byte) || byte.is_ascii_digit()).count();
        let is_quote = rest.get(tag) == Some(&b'$') && !rest[0].is_ascii_digit();
        if !is_quote {
            self.at += 1;
            return;
        }
        let delimiter = &self.bytes[self.at..self.at + tag + 2];
        let body = self.at + delimiter.len();
        let end = self.bytes[body..].windows(delimiter.len()).position(|window| window == delimiter);
        self.at = end.map_or(self.bytes.len(), |end| body + end + delimiter.len());
    }
}

const fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(sql: &str) -> Vec<(usize, &str)> {
        split(sql).into_iter().map(|statement| (statement.line, statement.text)).collect()
    }

    #[test]
    fn statements_keep_their_lines() {
        let sql = "-- a; comment\nCREATE TABLE a (b text);\n\n/* x; /* y; */ z; */ INSERT INTO a\nVALUES (';');";
        assert_eq!(pieces(sql), [(2, "CREATE TABLE a (b text)"), (4, "INSERT INTO a\nVALUES (';')")]);
    }

    #[test]
    fn nothing_quoted_ends_a_statement() {
        for whole in [
            "SELECT 'a;''b;'",
            r"SELECT E'a\';b'",
            r#"SELECT ";""#,
            "DO $$ BEGIN; END; $$",
            "DO $body$ a; $$ b; $body$",
            "SELECT a$b, $1 + 2",
            "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
        ] {
            assert_eq!(pieces(&format!("{whole};SELECT 1")), [(1, whole), (1, "SELECT 1")], "{whole}");
        }
    }

    #[test]
    fn begin_and_end_outside_a_routine_are_statements() {
        assert_eq!(pieces("BEGIN;\nSELECT 1;\nEND"), [(1, "BEGIN"), (2, "SELECT 1"), (3, "END")]);
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_losing_a_word(sql in "[a-e;'\"$()/*\\n -]{0,60}") {
            for statement in split(&sql) {
                prop_assert!(!statement.text.is_empty());
                prop_assert!(sql.lines().count() >= statement.line);
            }
        }

        #[test]
        fn any_unicode_is_split(sql in "\\PC{0,60}") {
            split(&sql);
        }
    }
}
