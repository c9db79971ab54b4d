//! Where one message ends and the next begins. Start-up packets have no tag and are in `startup`.

/// Bytes of a header: the tag and a length of four.
pub const HEADER_LEN: usize = 5;

/// The largest length field that PostgreSQL itself would take, in bytes.
const LENGTH_MAX: u32 = (1 << 30) - 1;

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which message it is.
    pub tag: u8,
    /// Bytes that follow the header.
    pub body_len: usize,
}

impl Header {
    /// Bytes of the whole message, header and body.
    pub const fn total(self) -> usize {
        HEADER_LEN + self.body_len
    }
}

/// A length field that no message can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of type {:?} claims a length of {length} bytes", char::from(*.tag))]
pub struct FrameError {
    /// The tag in front of it.
    pub tag: u8,
    /// The length field, as sent.
    pub length: u32,
}

/// Why a body is not what its tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The body ends in the middle of a field.
    #[error("a {0} message ends too early")]
    Short(&'static str),
    /// Bytes stand after the last field.
    #[error("a {0} message has bytes after its end")]
    Trailing(&'static str),
    /// A name longer than [`NAME_LEN_MAX`](crate::frontend::NAME_LEN_MAX).
    #[error("a {0} message has a name of more than {max} bytes", max = crate::frontend::NAME_LEN_MAX)]
    NameTooLong(&'static str),
    /// A field holds what the protocol does not define.
    #[error("a {message} message has an unknown {field}")]
    Unknown {
        /// The message's name.
        message: &'static str,
        /// The field's name.
        field: &'static str,
    },
}

/// The header at the front of `bytes`; none when fewer than [`HEADER_LEN`] bytes are there.
#[inline]
pub fn header(bytes: &[u8]) -> Result<Option<Header>, FrameError> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if !(4..=LENGTH_MAX).contains(&length) {
        return Err(FrameError { tag, length });
    }
    Ok(Some(Header { tag, body_len: length as usize - 4 }))
}

/// Appends a message with what `body` appends as its body.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    write_untagged(out, body);
}

/// Appends a packet without a tag.
#[inline]
pub(crate) fn write_untagged(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = length_field(out.len() - at);
    out[at..at + 4].copy_from_slice(&length);
}

/// A length or a count as the protocol writes it. What we write is far below its range.
#[inline]
pub(crate) fn length_field(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a message is below 4 GiB").to_be_bytes()
}

/// Appends a string and its NUL. A NUL inside would let the rest be read as fields of their own, so the string ends there.
#[inline]
pub(crate) fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(crate::take::before_nul(text).unwrap_or(text));
    out.push(0);
}

#[cfg(test)]
mod tests;
