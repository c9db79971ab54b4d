//! API keys: what a tenant's programs show at the API gateway.
//!
//! The secret is `grdk_` and 64 hexadecimal digits: scanners for leaked secrets find the prefix, and nobody guesses the
//! digits, so that a plain SHA-256 over the whole text is what is kept and looked up.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ApiKeyId, PermissionName, RoleName, TenantId};

/// How a secret begins.
pub const PREFIX: &str = "grdk_";
/// The hexadecimal digits that follow.
pub const DIGITS: usize = 64;
/// The longest name of a key, in characters.
pub const NAME_LEN_MAX: usize = 100;
/// Keys that one tenant may have.
pub const KEYS_PER_TENANT_MAX: i64 = 1_000;
/// The longest time that a rotated key's old secret may go on, in seconds.
pub const GRACE_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// Whether a text has the form of a secret; what has not is no key, without a look.
pub fn has_the_form(text: &str) -> bool {
    text.len() == PREFIX.len() + DIGITS
        && text.strip_prefix(PREFIX).is_some_and(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 hexadecimal digits")]
pub struct KeyHashError;

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyHash(…)")
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(KeyHashError);
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(KeyHashError);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = KeyHashError;

    fn try_from(text: String) -> Result<Self, KeyHashError> {
        text.parse()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// Its id; also the subject of the identities that its requests carry.
    pub id: ApiKeyId,
    /// The only tenant it is for.
    pub tenant: TenantId,
    /// What it is for.
    pub name: String,
    /// The last four characters of its secret, for people who look for one.
    pub ends_with: String,
    /// Its roles.
    pub roles: BTreeSet<RoleName>,
    /// What it may do of that; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeSet<PermissionName>>,
    /// Requests a minute of this key, within its tenant's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute_max: Option<u32>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends; absent: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it got its present secret, if not with its making.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rotated_at: Option<Timestamp>,
    /// Until when the secret before this one is accepted, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub previous_until: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it opens anything at a moment.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// An API key that is not revoked, as a gateway needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The only tenant it is for.
    pub tenant: TenantId,
    /// The hash of its secret.
    pub hash: KeyHash,
    /// The hash of the secret before, while that is accepted, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSecret>,
    /// Its roles.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<RoleName>,
    /// What it may do of that; absent: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<BTreeSet<PermissionName>>,
    /// Requests a minute of this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute_max: Option<u32>,
    /// When it ends, in seconds since 1970; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_s: Option<i64>,
}

/// A rotated key's secret of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// Its hash.
    pub hash: KeyHash,
    /// Until when it is accepted, in seconds since 1970.
    pub until_s: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_one_form() {
        let good = format!("{PREFIX}{}", "0a".repeat(32));
        assert!(has_the_form(&good));
        for bad in [
            "",
            "grdk_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}0"),
            &good.to_uppercase(),
            &good.replace('a', "g"),
        ] {
            assert!(!has_the_form(bad), "{bad}");
        }
    }

    #[test]
    fn a_hash_reads_back_and_is_not_shown_by_accident() {
        let hash = KeyHash(std::array::from_fn(|index| u8::try_from(index * 7).unwrap_or(0xff)));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("+f".repeat(32).parse::<KeyHash>().is_err());
        assert!("é".repeat(32).parse::<KeyHash>().is_err());
        assert!(!format!("{hash:?}").contains("07"));
    }
}
