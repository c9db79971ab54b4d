//! Taking fields off the front of a body.

use std::ffi::CStr;

use crate::frame::MessageError;

/// The bytes before the first NUL, when there is one.
#[inline]
pub(crate) fn before_nul(bytes: &[u8]) -> Option<&[u8]> {
    CStr::from_bytes_until_nul(bytes).ok().map(CStr::to_bytes)
}

/// What is left of a body, and the message's name for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    pub(crate) rest: &'a [u8],
    message: &'static str,
}

impl<'a> Body<'a> {
    #[inline]
    pub(crate) const fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, message }
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a [u8], MessageError> {
        let text = before_nul(self.rest).ok_or(MessageError::Short(self.message))?;
        self.rest = &self.rest[text.len() + 1..];
        Ok(text)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(MessageError::Short(self.message))?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(MessageError::Short(self.message))?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    pub(crate) fn int32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn int16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A value with its length in front; none for the length -1.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, MessageError> {
        match self.int32()? {
            u32::MAX => Ok(None),
            len => self.bytes(len as usize).map(Some),
        }
    }

    /// Nothing may be left.
    #[inline]
    pub(crate) const fn end(self) -> Result<(), MessageError> {
        if self.rest.is_empty() { Ok(()) } else { Err(MessageError::Trailing(self.message)) }
    }
}
