//! The statements that are the gateway's own: `SET`, `SHOW` and `RESET` of its settings, each a message of its own.
//!
//! Deliberately no SQL parser: a text is one of a few fixed shapes from its first byte to its last, or it is none. Comments, `E''`,
//! dollar quotes, parameters and second statements are in no shape, so text that is injected into a statement cannot make one.

use std::borrow::Cow;

/// A statement of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own<'a> {
    /// `SET guardian.tenant = 'acme'`: the literal's value, or the name in lower case.
    SetTenant(Cow<'a, str>),
    /// `SET guardian.identity = '…'`: likewise.
    SetIdentity(Cow<'a, str>),
    /// `RESET guardian.tenant`.
    ResetTenant,
    /// `SHOW guardian.tenant`.
    ShowTenant,
}

/// The statement that the whole of `text` is, if it is one of ours: `SET [SESSION] guardian.tenant {= | TO} {'literal' | name}` (or
/// `guardian.identity`), `SHOW guardian.tenant` or `RESET guardian.tenant`, with white space around it and one `;` at most.
/// A literal with a backslash is none, for servers differ in how they read it; nor is the name DEFAULT, which SQL gives a meaning.
pub fn own(text: &[u8]) -> Option<Own<'_>> {
    let mut rest = Rest(str::from_utf8(text).ok()?);
    let own = match rest.word().and_then(verb)? {
        Verb::Set => {
            let mut word = rest.word()?;
            if word.eq_ignore_ascii_case("session") {
                word = rest.word()?;
            }
            let setting = rest.setting(word)?;
            rest.assignment()?;
            let value = rest.literal().or_else(|| rest.name())?;
            match setting {
                Setting::Tenant => Own::SetTenant(value),
                Setting::Identity => Own::SetIdentity(value),
            }
        }
        verb => {
            let word = rest.word()?;
            match (rest.setting(word)?, verb) {
                (Setting::Tenant, Verb::Reset) => Own::ResetTenant,
                (Setting::Tenant, _) => Own::ShowTenant,
                (Setting::Identity, _) => return None,
            }
        }
    };
    rest.end().then_some(own)
}

/// The name that the whole of `text` gives up: `DEALLOCATE [PREPARE] name`, quoted or not. `DEALLOCATE ALL` is none, nor is a name with
/// a quote in it.
pub fn deallocated(text: &[u8]) -> Option<Cow<'_, str>> {
    let mut rest = Rest(str::from_utf8(text).ok()?);
    if !rest.word()?.eq_ignore_ascii_case("deallocate") {
        return None;
    }
    let behind = Rest(rest.0).word().is_some_and(|word| word.eq_ignore_ascii_case("prepare"));
    if behind {
        rest.word();
    }
    rest.blank();
    let name = rest.quoted().or_else(|| rest.name().filter(|name| name != "all"))?;
    rest.end().then_some(name)
}

/// Whether `text` could be meant as a statement of ours: it begins, behind white space and comments, with `SET`, `SHOW` or `RESET` of
/// something in `guardian.`, quoted or not. PostgreSQL would take such a SET without a word, so what is none of ours is an error.
pub fn resembles(text: &[u8]) -> bool {
    let mut rest = Loose(text);
    if rest.word().and_then(verb).is_none() {
        return false;
    }
    let mut word = rest.word();
    if word.is_some_and(|word| ["session", "local"].iter().any(|scope| word.eq_ignore_ascii_case(scope))) {
        word = rest.word();
    }
    let quoted = word.is_none() && rest.symbol(b'"');
    let word = if quoted { rest.word() } else { word };
    if !word.is_some_and(|word| word.eq_ignore_ascii_case("guardian")) {
        return false;
    }
    // Either `"guardian".tenant` or `"guardian.tenant"`.
    if quoted {
        rest.symbol(b'"');
    }
    rest.blank();
    rest.symbol(b'.')
}

#[derive(Clone, Copy)]
enum Verb {
    Set,
    Show,
    Reset,
}

fn verb(word: &str) -> Option<Verb> {
    [("set", Verb::Set), ("show", Verb::Show), ("reset", Verb::Reset)]
        .into_iter()
        .find_map(|(name, verb)| word.eq_ignore_ascii_case(name).then_some(verb))
}

#[derive(Clone, Copy)]
enum Setting {
    Tenant,
    Identity,
}

fn word_len(bytes: &[u8]) -> usize {
    let within = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match bytes.first() {
        Some(first) if !first.is_ascii_digit() => bytes.iter().take_while(|byte| within(byte)).count(),
        _ => 0,
    }
}

/// What is left of a text.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// White space as every version of PostgreSQL has it (16 added the vertical tab).
    fn blank(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
    }

    fn symbol(&mut self, symbol: char) -> bool {
        let rest = self.0.strip_prefix(symbol);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A keyword or plain name, behind white space. Two in a row have some between them, for a word ends where none can go on.
    fn word(&mut self) -> Option<&'a str> {
        self.blank();
        let (word, rest) = self.0.split_at(word_len(self.0.as_bytes()));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// The setting that begins with the word just read.
    fn setting(&mut self, word: &str) -> Option<Setting> {
        if !word.eq_ignore_ascii_case("guardian") || !self.symbol('.') || word_len(self.0.as_bytes()) == 0 {
            return None;
        }
        let name = self.word()?;
        let is = |setting: &str| name.eq_ignore_ascii_case(setting);
        if is("tenant") { Some(Setting::Tenant) } else { is("identity").then_some(Setting::Identity) }
    }

    fn assignment(&mut self) -> Option<()> {
        self.blank();
        if !self.symbol('=') {
            self.word().filter(|word| word.eq_ignore_ascii_case("to"))?;
        }
        self.blank();
        Some(())
    }

    fn literal(&mut self) -> Option<Cow<'a, str>> {
        let text = self.0.strip_prefix('\'')?;
        let mut end = text.find('\'')?;
        let mut escaped = false;
        while text[end + 1..].starts_with('\'') {
            escaped = true;
            end += 2 + text[end + 2..].find('\'')?;
        }
        let (value, rest) = (&text[..end], &text[end + 1..]);
        if value.contains(['\\', '\0']) {
            return None;
        }
        self.0 = rest;
        Some(if escaped { value.replace("''", "'").into() } else { value.into() })
    }

    fn quoted(&mut self) -> Option<Cow<'a, str>> {
        let (name, rest) = self.0.strip_prefix('"')?.split_once('"')?;
        self.0 = rest;
        Some(name.into())
    }

    /// Nothing is left but white space and one `;`.
    fn end(&mut self) -> bool {
        self.blank();
        self.symbol(';');
        self.blank();
        self.0.is_empty()
    }

    fn name(&mut self) -> Option<Cow<'a, str>> {
        let word = self.word().filter(|word| !word.eq_ignore_ascii_case("default"))?;
        let folded = word.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(if folded { word.to_ascii_lowercase().into() } else { word.into() })
    }
}

/// The same for [`resembles`]: any bytes, and comments are white space.
struct Loose<'a>(&'a [u8]);

impl<'a> Loose<'a> {
    fn blank(&mut self) {
        loop {
            self.0 = match self.0 {
                [b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c', rest @ ..] => rest,
                [b'-', b'-', rest @ ..] => &rest[rest.iter().take_while(|&&byte| byte != b'\n').count()..],
                [b'/', b'*', rest @ ..] => behind_comment(rest),
                _ => return,
            }
        }
    }

    fn symbol(&mut self, symbol: u8) -> bool {
        let rest = self.0.strip_prefix(&[symbol]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn word(&mut self) -> Option<&'a str> {
        self.blank();
        let (word, rest) = self.0.split_at(word_len(self.0));
        self.0 = rest;
        str::from_utf8(word).ok().filter(|word| !word.is_empty())
    }
}

/// What follows a comment whose `/*` is behind us; comments nest.
fn behind_comment(mut rest: &[u8]) -> &[u8] {
    let mut depth = 1;
    while depth > 0 {
        rest = match rest {
            [b'/', b'*', rest @ ..] => {
                depth += 1;
                rest
            }
            [b'*', b'/', rest @ ..] => {
                depth -= 1;
                rest
            }
            [_, rest @ ..] => rest,
            [] => return rest,
        }
    }
    rest
}

#[cfg(test)]
mod tests;
