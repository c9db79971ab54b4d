//! Messages of servers. A function that reads takes a body (without tag and length); one that writes appends a whole message.

pub use crate::frame::MessageError;
use crate::{
    frame::{length_field, put_text, write},
    take::{Body, before_nul},
};

/// The oid of `text`.
const TEXT: u32 = 25;

/// How grave a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
    /// Worth knowing.
    Notice,
    /// Probably a mistake.
    Warning,
}

impl Severity {
    const fn text(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// What an `ErrorResponse` or `NoticeResponse` of our own says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// How grave it is.
    pub severity: Severity,
    /// The SQLSTATE, of five characters.
    pub code: &'a str,
    /// What happened, in one line.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

/// Appends an `ErrorResponse`.
pub fn write_error(out: &mut Vec<u8>, report: &Report<'_>) {
    write_report(out, b'E', report);
}

/// Appends a `NoticeResponse`.
pub fn write_notice(out: &mut Vec<u8>, report: &Report<'_>) {
    write_report(out, b'N', report);
}

fn write_report(out: &mut Vec<u8>, tag: u8, report: &Report<'_>) {
    let severity = report.severity.text();
    let fields = [
        (b'S', Some(severity)),
        (b'V', Some(severity)),
        (b'C', Some(report.code)),
        (b'M', Some(report.message)),
        (b'D', report.detail),
        (b'H', report.hint),
    ];
    write(out, tag, |out| {
        for (code, text) in fields {
            if let Some(text) = text {
                out.push(code);
                put_text(out, text.as_bytes());
            }
        }
        out.push(0);
    });
}

/// Appends `AuthenticationOk`.
pub fn write_auth_ok(out: &mut Vec<u8>) {
    write_auth(out, 0, |_| ());
}

/// Appends `AuthenticationSASL` with the mechanisms on offer, the best first.
pub fn write_auth_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    write_auth(out, 10, |out| {
        for mechanism in mechanisms {
            put_text(out, mechanism.as_bytes());
        }
        out.push(0);
    });
}

/// Appends `AuthenticationSASLContinue`.
pub fn write_auth_sasl_continue(out: &mut Vec<u8>, challenge: &[u8]) {
    write_auth(out, 11, |out| out.extend_from_slice(challenge));
}

/// Appends `AuthenticationSASLFinal`.
pub fn write_auth_sasl_final(out: &mut Vec<u8>, outcome: &[u8]) {
    write_auth(out, 12, |out| out.extend_from_slice(outcome));
}

fn write_auth(out: &mut Vec<u8>, code: u32, body: impl FnOnce(&mut Vec<u8>)) {
    write(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        body(out);
    });
}

/// Appends a `ParameterStatus`.
pub fn write_parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    write(out, b'S', |out| {
        put_text(out, name.as_bytes());
        put_text(out, value.as_bytes());
    });
}

/// Appends `BackendKeyData`. Clients of protocol 3.0 want a secret of exactly 4 bytes.
pub fn write_key(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    write(out, b'K', |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Appends `ReadyForQuery`; `status` is `I`, `T` or `E`.
pub fn write_ready(out: &mut Vec<u8>, status: u8) {
    write(out, b'Z', |out| out.push(status));
}

/// Appends `NegotiateProtocolVersion`: the newest minor version of protocol 3 that we speak, and the extensions that we do not know.
pub fn write_negotiate(out: &mut Vec<u8>, minor: u32, unknown: &[&str]) {
    write(out, b'v', |out| {
        // PostgreSQL sends the major number too, whatever its documentation says, and clients compare the whole.
        out.extend_from_slice(&(3 << 16 | minor).to_be_bytes());
        out.extend_from_slice(&length_field(unknown.len()));
        for name in unknown {
            put_text(out, name.as_bytes());
        }
    });
}

/// Appends `CommandComplete`.
pub fn write_complete(out: &mut Vec<u8>, tag: &str) {
    write(out, b'C', |out| put_text(out, tag.as_bytes()));
}

/// Appends a `RowDescription` in which every column is text.
pub fn write_row_description(out: &mut Vec<u8>, columns: &[&str]) {
    write(out, b'T', |out| {
        out.extend_from_slice(&count_field(columns.len()));
        for column in columns {
            put_text(out, column.as_bytes());
            // No table and no column of one.
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&TEXT.to_be_bytes());
            // A length that varies, no modifier, the text format.
            out.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        }
    });
}

/// Appends a `DataRow`.
pub fn write_row(out: &mut Vec<u8>, values: &[Option<&str>]) {
    write(out, b'D', |out| {
        out.extend_from_slice(&count_field(values.len()));
        for value in values {
            if let Some(value) = value {
                out.extend_from_slice(&length_field(value.len()));
                out.extend_from_slice(value.as_bytes());
            } else {
                out.extend_from_slice(&[0xff; 4]);
            }
        }
    });
}

fn count_field(count: usize) -> [u8; 2] {
    u16::try_from(count).expect("a row has fewer than 65,536 columns").to_be_bytes()
}

/// Appends `EmptyQueryResponse`.
pub fn write_empty_query(out: &mut Vec<u8>) {
    write(out, b'I', |_| ());
}

/// Appends `ParseComplete`.
pub fn write_parse_complete(out: &mut Vec<u8>) {
    write(out, b'1', |_| ());
}

/// Appends `BindComplete`.
pub fn write_bind_complete(out: &mut Vec<u8>) {
    write(out, b'2', |_| ());
}

/// Appends `CloseComplete`.
pub fn write_close_complete(out: &mut Vec<u8>) {
    write(out, b'3', |_| ());
}

/// Appends `NoData`.
pub fn write_no_data(out: &mut Vec<u8>) {
    write(out, b'n', |_| ());
}

/// Appends a `ParameterDescription`: the oid of each parameter's type.
pub fn write_parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    write(out, b't', |out| {
        out.extend_from_slice(&count_field(types.len()));
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}

/// The fields of an `ErrorResponse` or `NoticeResponse`, as (code, text) pairs; they end where the body stops being well formed.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&code, rest) = self.rest.split_first().filter(|&(&code, _)| code != 0)?;
        let text = before_nul(rest)?;
        self.rest = &rest[text.len() + 1..];
        Some((code, text))
    }
}

/// The fields of an `ErrorResponse` or `NoticeResponse`.
pub fn fields(body: &[u8]) -> Fields<'_> {
    Fields { rest: body }
}

/// Whether a report is the last word on a connection.
pub fn is_fatal(body: &[u8]) -> bool {
    matches!(field(body, b'V').or_else(|| field(body, b'S')), Some(b"FATAL" | b"PANIC"))
}

/// Appends the `ErrorResponse` of this body as the last word on a connection.
pub fn write_as_fatal(out: &mut Vec<u8>, body: &[u8]) {
    write(out, b'E', |out| {
        for (code, text) in fields(body) {
            out.push(code);
            put_text(out, if matches!(code, b'S' | b'V') { Severity::Fatal.text().as_bytes() } else { text });
        }
        out.push(0);
    });
}

/// The text of the first field with this code.
pub fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    fields(body).find(|&(own, _)| own == code).map(|(_, text)| text)
}

/// What a server asks for, or answers, while it authenticates us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth<'a> {
    /// We are in.
    Ok,
    /// It wants the password as it is.
    Cleartext,
    /// It wants the password under MD5, with this salt.
    Md5([u8; 4]),
    /// It offers SASL; see [`mechanisms`] for the list.
    Sasl(&'a [u8]),
    /// Its challenge.
    SaslContinue(&'a [u8]),
    /// Its last word, which proves that it knows us.
    SaslFinal(&'a [u8]),
    /// Something that we do not speak.
    Other(u32),
}

/// What an Authentication message says.
pub fn auth(body: &[u8]) -> Result<Auth<'_>, MessageError> {
    let mut body = Body::new("Authentication", body);
    let auth = match body.int32()? {
        0 => Auth::Ok,
        3 => Auth::Cleartext,
        5 => Auth::Md5(body.array()?),
        10 => return Ok(Auth::Sasl(body.rest)),
        11 => return Ok(Auth::SaslContinue(body.rest)),
        12 => return Ok(Auth::SaslFinal(body.rest)),
        other => return Ok(Auth::Other(other)),
    };
    body.end().map(|()| auth)
}

/// The mechanisms that [`Auth::Sasl`] lists; they end where the list stops being well formed.
pub fn mechanisms(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let name = before_nul(rest).filter(|name| !name.is_empty())?;
        rest = &rest[name.len() + 1..];
        Some(name)
    })
}

/// The name and the value of a `ParameterStatus`.
#[inline]
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), MessageError> {
    let mut body = Body::new("ParameterStatus", body);
    let pair = (body.text()?, body.text()?);
    body.end().map(|()| pair)
}

/// The process and the secret of `BackendKeyData`; the secret has 4 to 256 bytes.
pub fn key(body: &[u8]) -> Result<(u32, &[u8]), MessageError> {
    const MESSAGE: &str = "BackendKeyData";
    let mut body = Body::new(MESSAGE, body);
    let process = body.int32()?;
    match body.rest.len() {
        0..4 => Err(MessageError::Short(MESSAGE)),
        4..=256 => Ok((process, body.rest)),
        _ => Err(MessageError::Trailing(MESSAGE)),
    }
}

/// The result in a `FunctionCallResponse`; none for NULL.
pub fn function_result(body: &[u8]) -> Result<Option<&[u8]>, MessageError> {
    let mut body = Body::new("FunctionCallResponse", body);
    let value = body.value()?;
    body.end().map(|()| value)
}

/// The first column of a `DataRow`; none for NULL. A row without columns is an error.
pub fn first_column(body: &[u8]) -> Result<Option<&[u8]>, MessageError> {
    const MESSAGE: &str = "DataRow";
    let mut body = Body::new(MESSAGE, body);
    if body.int16()? == 0 {
        return Err(MessageError::Short(MESSAGE));
    }
    body.value()
}

#[cfg(test)]
mod tests;
