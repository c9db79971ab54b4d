//! Typed identifiers: a prefix and a UUIDv7 in 26 characters of Crockford base32, lower case (`ten_01jd…`).
//!
//! The text sorts as the time of creation does, needs no quoting as a PostgreSQL identifier and fits in one.
//! Creating an id needs a clock and randomness, so it takes the UUID from the caller.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

/// Why a text is no identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind} id; it looks like `{prefix}_01jd8v1n2c3p4q5r6s7t8v9w0x`")]
pub struct IdError {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

fn encode(uuid: Uuid) -> String {
    let bits = uuid.as_u128();
    (0..TEXT_LEN).rev().map(|index| char::from(ALPHABET[((bits >> (index * 5)) & 31) as usize])).collect()
}

fn decode(text: &str) -> Option<Uuid> {
    // 26 characters carry 130 bits; the first one may only hold the upper three of 128.
    if text.len() != TEXT_LEN || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes()
        .try_fold(0_u128, |bits, byte| {
            let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
            Some((bits << 5) | digit as u128)
        })
        .map(Uuid::from_u128)
}

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $kind:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the textual form.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps a UUID (version 7 for new ones).
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside, as stored in PostgreSQL.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}_{}", $prefix, encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| IdError { text: text.to_owned(), kind: $kind, prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .description(Some(concat!("A ", $kind, " id.")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )+};
}

typed_ids! {
    /// Names a tenant for ever; roles, schemas and databases of a tenant are named after it.
    TenantId = "ten", "tenant";
    /// Names an operation.
    OperationId = "op", "operation";
    /// Names a bearer token; not the secret.
    TokenId = "tok", "token";
    /// Names an incident.
    IncidentId = "inc", "incident";
    /// Names a ticket for one bound session; not the secret.
    TicketId = "tkt", "ticket";
    /// Names one opening of the cross-tenant door, and the role of its session.
    DoorId = "door", "door";
    /// Names a login of a migration tool, and its role.
    ToolLoginId = "tool", "tool login";
    /// Names a run: one pass of `apply` or `migrate`.
    RunId = "run", "run";
    /// Names one audit of the schedule.
    AuditRunId = "aud", "audit";
    /// Names an API key; not the secret.
    ApiKeyId = "key", "API key";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips(bits: u128) {
            let id = TenantId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<TenantId>(), Ok(id));
        }

        #[test]
        fn text_sorts_as_the_uuid(left: u128, right: u128) {
            let (a, b) = (TenantId::from_uuid(Uuid::from_u128(left)), TenantId::from_uuid(Uuid::from_u128(right)));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), left.cmp(&right));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,40}") {
            if let Ok(id) = text.parse::<TenantId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn another_kind_of_id_is_refused() {
        let id = TenantId::from_uuid(Uuid::from_u128(7)).to_string();
        let error = id.parse::<OperationId>().unwrap_err().to_string();
        assert!(error.contains("operation id"), "{error}");
    }
}
