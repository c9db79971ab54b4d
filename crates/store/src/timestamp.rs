//! `timestamptz` as jiff's [`Timestamp`], which sqlx does not know.
//!
//! Microseconds, as PostgreSQL keeps them. Infinite timestamps are out of range.

use jiff::Timestamp;
use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef, types::Oid},
};

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;
/// The type's number, fixed in PostgreSQL's sources; by name sqlx would ask the server for it.
const TIMESTAMPTZ: Oid = Oid(1184);

/// An instant on its way to or from PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub Timestamp);

impl Stamp {
    /// Microseconds since the Unix epoch, as the audit log hashes them.
    pub(crate) fn micros(self) -> i64 {
        self.0.as_microsecond()
    }
}

impl Type<Postgres> for Stamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }

    // sqlx takes a type known by its number alone for any other.
    fn compatible(found: &PgTypeInfo) -> bool {
        found.oid() == Some(TIMESTAMPTZ)
    }
}

impl Encode<'_, Postgres> for Stamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Postgres>>::encode(self.micros() - EPOCH_US, buffer)
    }
}

impl Decode<'_, Postgres> for Stamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() == PgValueFormat::Text {
            // Only unprepared queries answer in text, and this crate sends none that return a time.
            return Err("a timestamp in text format".into());
        }
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        let micros = micros.checked_add(EPOCH_US).ok_or("a timestamp out of range")?;
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }
}
