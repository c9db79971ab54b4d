//! Messages of clients. A function that reads takes a body (without tag and length); one that writes appends a whole message.

pub use crate::frame::MessageError;
use crate::{
    frame::{length_field, put_text, write},
    take::{Body, before_nul},
};

/// The longest name of a statement or portal, in bytes. PostgreSQL itself tells names apart by their first 63.
pub const NAME_LEN_MAX: usize = 1024;

/// The text of a Query, without its NUL.
#[inline]
pub fn query(body: &[u8]) -> Result<&[u8], MessageError> {
    let mut body = Body::new("Query", body);
    let text = body.text()?;
    body.end().map(|()| text)
}

/// The front of a Parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsePrefix<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// What is there of the rest: the query's text and all behind it.
    pub rest: &'a [u8],
}

/// The front of a Parse of which maybe not all has arrived; none when it is cut before the name's NUL.
#[inline]
pub fn parse_prefix(body: &[u8]) -> Result<Option<ParsePrefix<'_>>, MessageError> {
    Ok(name_prefix("Parse", body)?.map(|name| ParsePrefix { name, rest: &body[name.len() + 1..] }))
}

/// A whole Parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseMessage<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// The query's text, without its NUL.
    pub text: &'a [u8],
    /// The types of the parameters as they stand: a count of two bytes, and four for each.
    pub types: &'a [u8],
}

/// A whole Parse.
#[inline]
pub fn parse(body: &[u8]) -> Result<ParseMessage<'_>, MessageError> {
    let ParsePrefix { name, rest } = parse_prefix(body)?.ok_or(MessageError::Short("Parse"))?;
    let mut body = Body::new("Parse", rest);
    let text = body.text()?;
    let types = body.rest;
    let count = body.int16()?;
    body.bytes(usize::from(count) * 4)?;
    body.end().map(|()| ParseMessage { name, text, types })
}

/// The front of a Bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindPrefix<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Bytes of the two names with their NULs.
    pub len: usize,
}

/// The front of a Bind of which maybe not all has arrived; none when it is cut before the second name's NUL.
#[inline]
pub fn bind_prefix(body: &[u8]) -> Result<Option<BindPrefix<'_>>, MessageError> {
    let Some(portal) = name_prefix("Bind", body)? else { return Ok(None) };
    let Some(statement) = name_prefix("Bind", &body[portal.len() + 1..])? else { return Ok(None) };
    Ok(Some(BindPrefix { portal, statement, len: portal.len() + statement.len() + 2 }))
}

#[inline]
fn name_prefix<'a>(message: &'static str, body: &'a [u8]) -> Result<Option<&'a [u8]>, MessageError> {
    // Looks no further than a name may reach: the body may be a gigabyte.
    let window = &body[..body.len().min(NAME_LEN_MAX + 1)];
    match before_nul(window) {
        None if window.len() > NAME_LEN_MAX => Err(MessageError::NameTooLong(message)),
        name => Ok(name),
    }
}

/// What a Describe or Close means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl TargetKind {
    const fn code(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

/// What a Describe or Close names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Which of the two.
    pub kind: TargetKind,
    /// Its name; empty for the unnamed one.
    pub name: &'a [u8],
}

/// What a Describe or Close names.
#[inline]
pub fn target(body: &[u8]) -> Result<Target<'_>, MessageError> {
    const MESSAGE: &str = "Describe or Close";
    let mut body = Body::new(MESSAGE, body);
    let kind = match body.array()? {
        [b'S'] => TargetKind::Statement,
        [b'P'] => TargetKind::Portal,
        _ => return Err(MessageError::Unknown { message: MESSAGE, field: "kind" }),
    };
    let name = name_prefix(MESSAGE, body.rest)?.ok_or(MessageError::Short(MESSAGE))?;
    body.bytes(name.len() + 1)?;
    body.end().map(|()| Target { kind, name })
}

/// The first answer of a client to an offer of SASL. (The body of each later one is its response as it stands.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that the client picked.
    pub mechanism: &'a [u8],
    /// Its first response; empty when there is none.
    pub response: &'a [u8],
}

/// The first answer of a client to an offer of SASL.
pub fn sasl_initial(body: &[u8]) -> Result<SaslInitial<'_>, MessageError> {
    let mut body = Body::new("SASLInitialResponse", body);
    let mechanism = body.text()?;
    let response = body.value()?.unwrap_or_default();
    body.end().map(|()| SaslInitial { mechanism, response })
}

/// Appends a Query.
#[inline]
pub fn write_query(out: &mut Vec<u8>, text: &[u8]) {
    write(out, b'Q', |out| put_text(out, text));
}

/// Appends a Parse with `rest` as [`ParsePrefix`] has it: the text's NUL and the types are in it.
#[inline]
pub fn write_parse(out: &mut Vec<u8>, name: &[u8], rest: &[u8]) {
    write(out, b'P', |out| {
        put_text(out, name);
        out.extend_from_slice(rest);
    });
}

/// Appends the front of a Bind; `rest_len` bytes are the caller's to append.
#[inline]
pub fn write_bind_prefix(out: &mut Vec<u8>, portal: &[u8], statement: &[u8], rest_len: usize) {
    out.push(b'B');
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put_text(out, portal);
    put_text(out, statement);
    let length = length_field(out.len() - at + rest_len);
    out[at..at + 4].copy_from_slice(&length);
}

/// Appends a Describe.
#[inline]
pub fn write_describe(out: &mut Vec<u8>, kind: TargetKind, name: &[u8]) {
    write_target(out, b'D', kind, name);
}

/// Appends a Close.
#[inline]
pub fn write_close(out: &mut Vec<u8>, kind: TargetKind, name: &[u8]) {
    write_target(out, b'C', kind, name);
}

#[inline]
fn write_target(out: &mut Vec<u8>, tag: u8, kind: TargetKind, name: &[u8]) {
    write(out, tag, |out| {
        out.push(kind.code());
        put_text(out, name);
    });
}

/// Appends a Sync.
#[inline]
pub fn write_sync(out: &mut Vec<u8>) {
    write(out, b'S', |_| ());
}

/// Appends a Terminate.
pub fn write_terminate(out: &mut Vec<u8>) {
    write(out, b'X', |_| ());
}

/// Appends a `FunctionCall` of the function with this oid: one binary argument, a binary result.
pub fn write_function_call(out: &mut Vec<u8>, function: u32, argument: &[u8]) {
    write(out, b'F', |out| {
        out.extend_from_slice(&function.to_be_bytes());
        // One format code, binary; one argument.
        out.extend_from_slice(&[0, 1, 0, 1, 0, 1]);
        out.extend_from_slice(&length_field(argument.len()));
        out.extend_from_slice(argument);
        out.extend_from_slice(&[0, 1]);
    });
}

/// Appends a `SASLInitialResponse`.
pub fn write_sasl_initial(out: &mut Vec<u8>, mechanism: &str, response: &[u8]) {
    write(out, b'p', |out| {
        put_text(out, mechanism.as_bytes());
        out.extend_from_slice(&length_field(response.len()));
        out.extend_from_slice(response);
    });
}

/// Appends a `SASLResponse`.
pub fn write_sasl_response(out: &mut Vec<u8>, response: &[u8]) {
    write(out, b'p', |out| out.extend_from_slice(response));
}

#[cfg(test)]
mod tests;
