//! A tenant's key: its value in the application's own tenant column, and how that value stands in the register.
//!
//! The register (DESIGN: `backtrace_functions`) takes only ASCII letters, digits, `_`, comma and white space, so each type
//! has an encoding that PostgreSQL can read back with an expression cheap enough for a policy.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest text key, in bytes.
pub const TEXT_KEY_LEN_MAX: usize = 200;

/// The type of the application's tenant column.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// `uuid`
    #[default]
    Uuid,
    /// `bigint` (also `integer` and `smallint` columns)
    Bigint,
    /// `text` (also `varchar`)
    Text,
}

impl KeyType {
    /// The PostgreSQL type a key is cast to.
    pub const fn sql_type(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Bigint => "bigint",
            Self::Text => "text",
        }
    }

    /// The same word as in configuration.
    pub const fn as_str(self) -> &'static str {
        self.sql_type()
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One tenant's value in the tenant column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TenantKey {
    /// A UUID.
    Uuid(Uuid),
    /// Zero or greater: the register has no minus sign.
    Bigint(i64),
    /// Not empty; letters, digits, `_`, `-` and `.`.
    Text(String),
}

/// Why a text is no key of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No UUID.
    #[error("`{0}` is not a UUID; the application's tenant column is of type uuid")]
    Uuid(String),
    /// No non-negative bigint.
    #[error("`{0}` is not a whole number from 0 to 9223372036854775807; the application's tenant column is of type bigint")]
    Bigint(String),
    /// A text key may not be empty.
    #[error("a tenant key may not be empty")]
    Empty,
    /// A text key is too long.
    #[error("the tenant key has {0} bytes; {TEXT_KEY_LEN_MAX} are allowed")]
    TooLong(usize),
    /// A character that the register cannot carry.
    #[error("the tenant key may not contain {0:?}; a text key has letters, digits, _, - and .")]
    Character(char),
    /// The register's content is none that Guardian writes.
    #[error("the register holds no {0} key")]
    Register(KeyType),
}

impl TenantKey {
    /// Reads a key as the application writes it.
    pub fn parse(key_type: KeyType, text: &str) -> Result<Self, KeyError> {
        match key_type {
            KeyType::Uuid => Uuid::try_parse(text).map(Self::Uuid).map_err(|_| KeyError::Uuid(text.to_owned())),
            KeyType::Bigint => match text.parse::<i64>() {
                Ok(number) if number >= 0 && number.to_string() == text => Ok(Self::Bigint(number)),
                _ => Err(KeyError::Bigint(text.to_owned())),
            },
            KeyType::Text => {
                if text.is_empty() {
                    return Err(KeyError::Empty);
                }
                if let Some(found) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
                    return Err(KeyError::Character(found));
                }
                if text.len() > TEXT_KEY_LEN_MAX {
                    return Err(KeyError::TooLong(text.len()));
                }
                Ok(Self::Text(text.to_owned()))
            }
        }
    }

    /// The type of the column this key belongs in.
    pub const fn key_type(&self) -> KeyType {
        match self {
            Self::Uuid(_) => KeyType::Uuid,
            Self::Bigint(_) => KeyType::Bigint,
            Self::Text(_) => KeyType::Text,
        }
    }

    /// The key as it stands in the register: 32 hexadecimal digits, decimal digits, or `0` and the text with `-` as a
    /// comma and `.` as a space. The leading digit keeps the value from naming any C function, which would make every
    /// error in the session print a backtrace.
    pub fn to_register(&self) -> String {
        match self {
            Self::Uuid(uuid) => uuid.simple().to_string(),
            Self::Bigint(number) => number.to_string(),
            Self::Text(text) => format!("0{}", text.replace('-', ",").replace('.', " ")),
        }
    }

    /// Reads a register back; the reverse of [`TenantKey::to_register`].
    pub fn from_register(key_type: KeyType, register: &str) -> Result<Self, KeyError> {
        let text = match key_type {
            KeyType::Uuid | KeyType::Bigint => register.to_owned(),
            KeyType::Text => {
                register.strip_prefix('0').ok_or(KeyError::Register(key_type))?.replace(',', "-").replace(' ', ".")
            }
        };
        let key = Self::parse(key_type, &text)?;
        if key.to_register() == register { Ok(key) } else { Err(KeyError::Register(key_type)) }
    }
}

impl fmt::Display for TenantKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(formatter),
            Self::Bigint(number) => number.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = TenantKey> {
        prop_oneof![
            any::<u128>().prop_map(|bits| TenantKey::Uuid(Uuid::from_u128(bits))),
            (0..=i64::MAX).prop_map(TenantKey::Bigint),
            "[0-9A-Za-z_.-]{1,60}".prop_map(TenantKey::Text),
        ]
    }

    proptest! {
        #[test]
        fn text_round_trips(key in any_key()) {
            prop_assert_eq!(TenantKey::parse(key.key_type(), &key.to_string()), Ok(key));
        }

        #[test]
        fn register_round_trips(key in any_key()) {
            prop_assert_eq!(TenantKey::from_register(key.key_type(), &key.to_register()), Ok(key));
        }

        #[test]
        fn the_register_accepts_every_encoding(key in any_key()) {
            let register = key.to_register();
            prop_assert!(register.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b' ')));
        }

        #[test]
        fn two_keys_never_share_a_register(left in any_key(), right in any_key()) {
            prop_assume!(left.key_type() == right.key_type() && left != right);
            prop_assert_ne!(left.to_register(), right.to_register());
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,300}") {
            for key_type in [KeyType::Uuid, KeyType::Bigint, KeyType::Text] {
                if let Ok(key) = TenantKey::parse(key_type, &text) {
                    prop_assert_eq!(TenantKey::parse(key_type, &key.to_string()), Ok(key));
                }
            }
        }
    }

    #[test]
    fn what_the_register_cannot_carry_is_refused() {
        assert!(TenantKey::parse(KeyType::Bigint, "-1").is_err());
        assert!(TenantKey::parse(KeyType::Bigint, "007").is_err());
        assert!(TenantKey::parse(KeyType::Text, "").is_err());
        assert!(TenantKey::parse(KeyType::Text, "a b").is_err());
        assert!(TenantKey::parse(KeyType::Text, "é").is_err());
    }
}
