//! What goes wrong in every part of the store. What only one part can answer stands in an enum beside it.

use guardian_model::{Permission, TenantId, access::Permit};

use crate::vault::VaultError;

/// The store could not do its work; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("the control database failed to {doing}")]
    Database {
        /// What was asked of it.
        doing: &'static str,
        /// Its answer.
        #[source]
        source: sqlx::Error,
    },
    /// A row that this version does not understand.
    #[error("the control database holds the {what} `{value}`, which this version cannot read; use a newer guardian")]
    Unreadable {
        /// What kind of word it is.
        what: &'static str,
        /// The word.
        value: String,
    },
    /// A secret does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A permit for something else was given: a bug in the caller, which must not become a change.
    #[error("the change was authorised as {0:?}, which does not cover it")]
    Permit(Permission),
}

/// Why a list was not read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The cursor is not one of this list's.
    #[error("the cursor is not valid; pass `next_cursor` of the page before, with the same filters")]
    Cursor,
    /// The page is too large, or empty.
    #[error("the limit is {0}; a page has 1 to {max} rows", max = crate::page::LIMIT_MAX)]
    Limit(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says what the store was doing when the database failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}

/// Reads a word of a closed set.
pub(crate) fn word<T>(what: &'static str, value: &str, from_word: fn(&str) -> Option<T>) -> Result<T, StoreError> {
    from_word(value).ok_or_else(|| StoreError::Unreadable { what, value: value.to_owned() })
}

/// Reads a value that has rules of its own.
pub(crate) fn parse<T: std::str::FromStr>(what: &'static str, value: String) -> Result<T, StoreError> {
    value.parse().map_err(|_| StoreError::Unreadable { what, value })
}

/// Whether the permit covers the change. One for the whole platform covers every tenant.
pub(crate) fn covers(permit: &Permit, permission: Permission, tenant: Option<TenantId>) -> Result<(), StoreError> {
    let same_tenant = permit.tenant().is_none_or(|own| Some(own) == tenant);
    if permit.permission() == permission && same_tenant { Ok(()) } else { Err(StoreError::Permit(permit.permission())) }
}

/// The constraint that an insert or update broke.
pub(crate) fn broken_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::constraint)
}
