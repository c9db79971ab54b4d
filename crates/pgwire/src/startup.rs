//! The first packet of a connection, which has no tag: encryption wanted, a cancel, or the start-up itself.

use std::collections::HashSet;

use crate::frame::{put_text, write_untagged};

/// The longest first packet, in bytes; PostgreSQL has the same limit.
pub const PACKET_LEN_MAX: usize = 10_000;

const PACKET_LEN_MIN: usize = 8;
const SECRET_LEN_MIN: usize = 4;
const SECRET_LEN_MAX: usize = 256;

/// The request codes stand where a version would: under a major number that no protocol has.
const CANCEL: u32 = (1234 << 16) + 5678;
const SSL: u32 = (1234 << 16) + 5679;
const GSS_ENCRYPTION: u32 = (1234 << 16) + 5680;
const VERSION_3_0: u32 = 3 << 16;

/// Names with this in front ask for an extension of the protocol.
const EXTENSION: &str = "_pq_.";

/// What a client may open a connection with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// It wants TLS; to be answered with one byte, `S` or `N`. Bytes that came in behind it were never encrypted.
    Ssl,
    /// It wants GSSAPI encryption; to be answered with `N`.
    GssEncryption,
    /// It wants the query of another connection cancelled, and gets no answer.
    Cancel {
        /// The process that `BackendKeyData` named.
        process: u32,
        /// The secret that came with it, of 4 to 256 bytes.
        secret: Vec<u8>,
    },
    /// It wants a session.
    Startup(Startup),
}

/// A start-up packet of protocol 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// Always 3.
    pub major: u16,
    /// 0, or higher in hope of a newer protocol.
    pub minor: u16,
    /// `user`, `database`, `options` and settings, in the order sent; no name comes twice, in whatever case.
    pub parameters: Vec<(String, String)>,
    /// Names of the extensions asked for; each begins with `_pq_.`.
    pub extensions: Vec<String>,
}

impl Startup {
    /// The value of the parameter of exactly this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Why a first packet is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length is out of bounds, or wrong for this kind of packet.
    #[error("a start-up packet claims a length of {0} bytes; {PACKET_LEN_MIN} to {PACKET_LEN_MAX} are possible")]
    Length(u32),
    /// A protocol other than version 3.
    #[error("protocol {major}.{minor} is not supported; only 3.0 is")]
    Version {
        /// The major number asked for.
        major: u16,
        /// The minor number asked for.
        minor: u16,
    },
    /// Strings that do not end, or bytes after the terminator, which an empty name is.
    #[error("the start-up packet's layout is invalid: a terminator is expected as its last byte")]
    Layout,
    /// Bytes that are not UTF-8.
    #[error("the start-up packet's text is not UTF-8")]
    Encoding,
    /// A parameter that comes twice.
    #[error("the start-up packet names the parameter `{0}` twice")]
    Duplicate(String),
    /// A piece of `options` that is no setting.
    #[error("`{0}` in options is no setting; write -c name=value or --name=value")]
    Option(String),
}

/// The packet at the front of `bytes` and how many bytes it took; none when it is not all there yet.
pub fn parse(bytes: &[u8]) -> Result<Option<(FirstPacket, usize)>, StartupError> {
    let Some(length) = bytes.first_chunk().map(|length| u32::from_be_bytes(*length)) else { return Ok(None) };
    let len = length as usize;
    if !(PACKET_LEN_MIN..=PACKET_LEN_MAX).contains(&len) {
        return Err(StartupError::Length(length));
    }
    let Some(packet) = bytes.get(4..len) else { return Ok(None) };
    let Some((code, body)) = packet.split_first_chunk() else { return Ok(None) };
    let exact = |packet: FirstPacket| if body.is_empty() { Ok(packet) } else { Err(StartupError::Length(length)) };
    let packet = match u32::from_be_bytes(*code) {
        SSL => exact(FirstPacket::Ssl),
        GSS_ENCRYPTION => exact(FirstPacket::GssEncryption),
        CANCEL => match body.split_first_chunk() {
            Some((process, secret)) if (SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len()) => {
                Ok(FirstPacket::Cancel { process: u32::from_be_bytes(*process), secret: secret.to_vec() })
            }
            _ => Err(StartupError::Length(length)),
        },
        _ => {
            let [a, b, c, d] = *code;
            parameters(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), body).map(FirstPacket::Startup)
        }
    }?;
    Ok(Some((packet, len)))
}

fn parameters(major: u16, minor: u16, body: &[u8]) -> Result<Startup, StartupError> {
    if major != 3 {
        return Err(StartupError::Version { major, minor });
    }
    let text = str::from_utf8(body).map_err(|_| StartupError::Encoding)?;
    let mut startup = Startup { major, minor, parameters: Vec::new(), extensions: Vec::new() };
    // PostgreSQL reads settings' names in any case: `Search_Path` beside `search_path` would be one setting with two values.
    let mut seen = HashSet::new();
    let mut rest = text;
    loop {
        let (name, behind) = rest.split_once('\0').ok_or(StartupError::Layout)?;
        if name.is_empty() {
            // The terminator; PostgreSQL knows no parameter without a name either.
            return if behind.is_empty() { Ok(startup) } else { Err(StartupError::Layout) };
        }
        let (value, behind) = behind.split_once('\0').ok_or(StartupError::Layout)?;
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(StartupError::Duplicate(name.to_owned()));
        }
        if name.starts_with(EXTENSION) {
            startup.extensions.push(name.to_owned());
        } else {
            startup.parameters.push((name.to_owned(), value.to_owned()));
        }
        rest = behind;
    }
}

/// The settings in the `options` of a start-up packet, in their order: `-c name=value`, `-cname=value` and `--name=value`, where a
/// backslash takes the character behind it as it is, and `-` in a name means `_`.
pub fn options(text: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut words = words(text).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") if word == "-c" => words.next().unwrap_or_default(),
            Some(setting) => setting.to_owned(),
            None => return Err(StartupError::Option(word)),
        };
        match setting.split_once('=') {
            Some((name, value)) if !name.is_empty() => settings.push((name.replace('-', "_"), value.to_owned())),
            _ => return Err(StartupError::Option(word)),
        }
    }
    Ok(settings)
}

fn words(text: &str) -> Vec<String> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|&c| blank(c)).is_some() {}
        if characters.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(character) = characters.next_if(|&c| !blank(c)) {
            match character {
                '\\' => word.extend(characters.next()),
                _ => word.push(character),
            }
        }
        words.push(word);
    }
}

/// Appends a start-up packet of protocol 3.0.
pub fn write_startup(out: &mut Vec<u8>, parameters: &[(&str, &str)]) {
    write_untagged(out, |out| {
        out.extend_from_slice(&VERSION_3_0.to_be_bytes());
        for (name, value) in parameters {
            put_text(out, name.as_bytes());
            put_text(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// Appends the request for TLS.
pub fn write_ssl_request(out: &mut Vec<u8>) {
    write_untagged(out, |out| out.extend_from_slice(&SSL.to_be_bytes()));
}

/// Appends the request to cancel what `process` runs.
pub fn write_cancel(out: &mut Vec<u8>, process: u32, secret: &[u8]) {
    write_untagged(out, |out| {
        out.extend_from_slice(&CANCEL.to_be_bytes());
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

#[cfg(test)]
mod tests;
