//! Seals secrets at rest under the master key: AES-256-GCM with a random nonce.
//!
//! What it lacks: rotation of the master key. The version byte leaves room for it.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_LEN: usize = 32;

/// The master key, ready for use. Cheap to clone; never printed.
#[derive(Clone)]
pub struct Vault(Arc<LessSafeKey>);

/// Why a secret could not be sealed or opened. Says nothing about its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key's text is no key.
    #[error("the master key has to be 64 hexadecimal digits")]
    Key,
    /// The system's random source failed.
    #[error("the system's source of randomness failed")]
    Random,
    /// Sealed by a later version of Guardian.
    #[error("a secret is sealed in format {0}, which this version does not know; use a newer guardian")]
    Format(u8),
    /// Altered, moved from another place, or sealed under another key.
    #[error("a sealed secret does not open: it was altered, or sealed under another master key")]
    Sealed,
}

impl fmt::Debug for Vault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Vault(…)")
    }
}

impl Vault {
    /// Reads a master key of 64 hexadecimal digits; white space at either end is ignored.
    pub fn from_hex(text: &str) -> Result<Self, VaultError> {
        let digits = text.trim().as_bytes();
        if digits.len() != KEY_LEN * 2 {
            return Err(VaultError::Key);
        }
        let mut key = Zeroizing::new([0_u8; KEY_LEN]);
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low).ok_or(VaultError::Key)?;
        }
        Self::from_bytes(&key)
    }

    /// Makes a new master key; the second value is its text, to be kept in a file that only Guardian can read.
    pub fn generate() -> Result<(Self, Zeroizing<String>), VaultError> {
        let key = Zeroizing::new(random::<KEY_LEN>()?);
        Ok((Self::from_bytes(&key)?, Zeroizing::new(hex(key.as_slice()))))
    }

    fn from_bytes(key: &[u8; KEY_LEN]) -> Result<Self, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| VaultError::Key)?;
        Ok(Self(Arc::new(LessSafeKey::new(key))))
    }

    /// Seals a secret. `context` (its purpose and its owner) has to be given again to open it, so that a sealed secret
    /// that was moved to another row does not open there.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let body = &mut sealed[1 + NONCE_LEN..];
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), body)
            .map_err(|_| VaultError::Sealed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Vault::seal`] sealed in the same context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (version, rest) = sealed.split_first().ok_or(VaultError::Sealed)?;
        if *version != VERSION {
            return Err(VaultError::Format(*version));
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Sealed)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain_len = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut body)
            .map_err(|_| VaultError::Sealed)?
            .len();
        body.truncate(plain_len);
        Ok(body)
    }
}

/// Bytes from the cryptographic random source.
pub(crate) fn random<const LEN: usize>() -> Result<[u8; LEN], VaultError> {
    let mut bytes = [0; LEN];
    rand::fill(&mut bytes).map_err(|_| VaultError::Random)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_in_its_own_context_only() {
        let (vault, text) = Vault::generate().unwrap();
        let sealed = vault.seal("password:a", b"secret").unwrap();
        assert_eq!(vault.open("password:a", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(vault.open("password:b", &sealed), Err(VaultError::Sealed));
        let again = Vault::from_hex(&format!("{}\n", *text)).unwrap();
        assert_eq!(again.open("password:a", &sealed).unwrap().as_slice(), b"secret");
        let (other, _) = Vault::generate().unwrap();
        assert_eq!(other.open("password:a", &sealed), Err(VaultError::Sealed));
    }

    #[test]
    fn any_altered_byte_is_noticed() {
        let (vault, _) = Vault::generate().unwrap();
        let sealed = vault.seal("", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(vault.open("", &altered).is_err(), "byte {at}");
            assert!(vault.open("", &sealed[..at]).is_err(), "cut at {at}");
        }
        assert_ne!(vault.seal("", b"secret").unwrap(), sealed, "a nonce came twice");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(Vault::from_hex(text).err(), Some(VaultError::Key), "{text}");
        }
        assert!(!format!("{:?}", Vault::generate().unwrap().0).contains('0'));
    }
}
