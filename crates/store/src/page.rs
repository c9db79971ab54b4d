//! Keyset pages: a cursor is the last row's position, so that every page costs the same, the thousandth too.
//!
//! Cursors are opaque to callers and bound to the kind of list, so that a cursor of one list is refused by another.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use guardian_model::api::Page;
use uuid::Uuid;

use crate::error::ListError;

/// Rows of a page when no limit is given.
pub const LIMIT_DEFAULT: u32 = 100;
/// The greatest limit.
pub const LIMIT_MAX: u32 = 500;

/// The limit to apply.
pub(crate) fn limit(asked: Option<u32>) -> Result<usize, ListError> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        refused => Err(ListError::Limit(refused)),
    }
}

/// PostgreSQL's text has no NUL; what is put in its place is in no row.
pub(crate) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A position in a list, by what the list is ordered by.
pub(crate) trait Position: Sized {
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Position for Uuid {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

impl Position for i64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

/// By name, and among equal names by id.
impl Position for (String, Uuid) {
    fn to_bytes(&self) -> Vec<u8> {
        [self.1.as_bytes(), self.0.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, name) = bytes.split_first_chunk::<16>()?;
        let name = std::str::from_utf8(name).ok()?;
        // No text in the store has a NUL, and PostgreSQL would refuse it with a worse message.
        (!name.contains('\0')).then(|| (name.to_owned(), Uuid::from_bytes(*id)))
    }
}

/// Reads a cursor of the list `list`.
pub(crate) fn position<P: Position>(list: u8, cursor: Option<&str>) -> Result<Option<P>, ListError> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| ListError::Cursor)?;
    match bytes.split_first() {
        Some((&tag, rest)) if tag == list => P::from_bytes(rest).map(Some).ok_or(ListError::Cursor),
        _ => Err(ListError::Cursor),
    }
}

/// The cursor for what comes after `position`.
pub(crate) fn cursor(list: u8, position: &impl Position) -> String {
    URL_SAFE_NO_PAD.encode([&[list], position.to_bytes().as_slice()].concat())
}

/// Makes a page of `limit` rows out of up to `limit + 1`.
pub(crate) fn page<T, P: Position>(list: u8, mut rows: Vec<T>, limit: usize, position: impl Fn(&T) -> P) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|last| cursor(list, &position(last)));
    Page { items: rows, next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_one_list() {
        let text = cursor(b't', &7_i64);
        assert_eq!(position::<i64>(b't', Some(&text)).unwrap(), Some(7));
        for bad in ["", "!", "AAAA", &cursor(b'o', &7_i64), &cursor(b't', &("x".to_owned(), Uuid::nil()))] {
            assert!(matches!(position::<i64>(b't', Some(bad)), Err(ListError::Cursor)), "{bad}");
        }
        assert!(position::<(String, Uuid)>(b't', Some(&cursor(b't', &("a\0b".to_owned(), Uuid::nil())))).is_err());
    }

    #[test]
    fn a_limit_is_refused_rather_than_changed() {
        assert_eq!(limit(None).unwrap(), 100);
        assert_eq!(limit(Some(500)).unwrap(), 500);
        assert_eq!(limit(Some(501)).unwrap_err().to_string(), "the limit is 501; a page has 1 to 500 rows");
        assert!(limit(Some(0)).is_err());
    }
}
