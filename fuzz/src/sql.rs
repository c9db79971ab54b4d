//! A second reader of PostgreSQL's lexical rules, apart from the code under test and blind to what it looks for.

/// One token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Literal(String),
    Symbol(u8),
    Number,
    Quoted,
    Comment,
    Dollar,
    Unterminated,
    Other,
}

pub(crate) fn tokens(bytes: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = bytes;
    while let Some(&byte) = rest.first() {
        let (token, len) = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' => {
                rest = &rest[1..];
                continue;
            }
            b'\'' => literal(rest),
            b'"' => (Token::Quoted, 1),
            b'$' => (Token::Dollar, 1),
            b'-' if rest.starts_with(b"--") => (Token::Comment, 2),
            b'/' if rest.starts_with(b"/*") => (Token::Comment, 2),
            b'0'..=b'9' => (Token::Number, 1),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => word(rest),
            0..b' ' | 0x7f => (Token::Other, 1),
            symbol => (Token::Symbol(symbol), 1),
        };
        tokens.push(token);
        rest = &rest[len..];
    }
    tokens
}

fn word(bytes: &[u8]) -> (Token, usize) {
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let len = bytes.iter().take_while(|byte| within(byte)).count();
    (Token::Word(String::from_utf8_lossy(&bytes[..len]).into_owned()), len)
}

fn literal(bytes: &[u8]) -> (Token, usize) {
    let mut value = Vec::new();
    let mut at = 1;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'\''), Some(b'\'')) => {
                value.push(b'\'');
                at += 2;
            }
            (Some(b'\''), _) => return (Token::Literal(String::from_utf8_lossy(&value).into_owned()), at + 1),
            (Some(&byte), _) => {
                // Depending on a setting it would escape what follows.
                if byte == b'\\' {
                    return (Token::Other, bytes.len());
                }
                value.push(byte);
                at += 1;
            }
            (None, _) => return (Token::Unterminated, bytes.len()),
        }
    }
}
