//! Seals secrets at rest under the master key: AES-256-GCM with a random nonce.
//!
//! While the key is being changed, a vault has two: it opens what either has sealed, and seals with the one that the control
//! database names ([`Store::beat`](crate::Store::beat)). What is sealed does not say with which: the wrong key opens nothing.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand,
};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_LEN: usize = 32;
/// Hexadecimal digits of a key's id.
const ID_LEN: usize = 16;

/// The master keys, ready for use. Cheap to clone, and clones seal with the same one; never printed.
#[derive(Clone)]
pub struct Vault(Arc<Ring>);

struct Ring {
    keys: Vec<Key>,
    /// The index of the one that seals.
    sealing: AtomicUsize,
    /// Until when it may, unless somebody confirms it again. `None`: for ever.
    until: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Key {
    id: String,
    key: Arc<LessSafeKey>,
}

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
    /// This process has not heard for a while which key seals.
    #[error("the control database has not confirmed the master key for a while; nothing is sealed until it does")]
    Unconfirmed,
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
        let tagged = Zeroizing::new([&b"guardian master key\0"[..], key].concat());
        let mut id = hex(digest(&SHA256, &tagged).as_ref());
        id.truncate(ID_LEN);
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| VaultError::Key)?;
        Ok(Self::of(vec![Key { id, key: Arc::new(LessSafeKey::new(key)) }]))
    }

    fn of(keys: Vec<Key>) -> Self {
        Self(Arc::new(Ring { keys, sealing: AtomicUsize::new(0), until: Mutex::new(None) }))
    }

    /// This vault's keys, and behind them the other's, which are to go.
    #[must_use]
    pub fn with_previous(&self, previous: &Self) -> Self {
        let mut keys = self.0.keys.clone();
        for key in &previous.0.keys {
            if !self.knows(&key.id) {
                keys.push(key.clone());
            }
        }
        Self::of(keys)
    }

    /// The ids of its keys, the newest first. An id tells nothing of the key.
    pub fn ids(&self) -> Vec<String> {
        self.0.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// The id of the key that seals.
    pub fn sealing(&self) -> &str {
        &self.key().id
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        self.0.keys.iter().any(|key| key.id == id)
    }

    /// Seals with this key from now on, until the instant; `false` when the vault does not have it.
    pub(crate) fn seal_with(&self, id: &str, until: Option<Instant>) -> bool {
        let Some(index) = self.0.keys.iter().position(|key| key.id == id) else { return false };
        self.0.sealing.store(index, Ordering::Release);
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        true
    }

    fn key(&self) -> &Key {
        &self.0.keys[self.0.sealing.load(Ordering::Acquire)]
    }

    /// Seals a secret. `context` (its purpose and its owner) has to be given again to open it, so that a sealed secret
    /// that was moved to another row does not open there.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let until = *self.0.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.is_some_and(|until| Instant::now() > until) {
            return Err(VaultError::Unconfirmed);
        }
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let body = &mut sealed[1 + NONCE_LEN..];
        let tag = self
            .key()
            .key
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
        self.0.keys.iter().find_map(|key| key.open(context, *nonce, body)).ok_or(VaultError::Sealed)
    }

    /// The id of the key that the secret is sealed under.
    pub(crate) fn sealed_under(&self, context: &str, sealed: &[u8]) -> Option<&str> {
        let (nonce, body) = sealed.get(1..)?.split_first_chunk::<NONCE_LEN>()?;
        self.0.keys.iter().find(|key| key.open(context, *nonce, body).is_some()).map(|key| key.id.as_str())
    }
}

impl Key {
    fn open(&self, context: &str, nonce: [u8; NONCE_LEN], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain_len = self.key.open_in_place(nonce, Aad::from(context), &mut body).ok()?.len();
        body.truncate(plain_len);
        Some(body)
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
    fn two_keys_open_what_either_sealed_and_one_seals() {
        let ((old, _), (new, _)) = (Vault::generate().unwrap(), Vault::generate().unwrap());
        let both = new.with_previous(&old);
        assert_eq!(both.ids(), [new.ids(), old.ids()].concat());
        let sealed = old.seal("x", b"secret").unwrap();
        assert_eq!(both.open("x", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(both.sealed_under("x", &sealed), Some(old.sealing()));
        assert!(both.seal_with(old.sealing(), None));
        assert!(old.open("x", &both.clone().seal("x", b"secret").unwrap()).is_ok());
        assert!(both.seal_with(new.sealing(), None));
        assert!(new.open("x", &both.seal("x", b"secret").unwrap()).is_ok());
        let (other, _) = Vault::generate().unwrap();
        assert!(!both.seal_with(other.sealing(), None));
        assert!(both.seal_with(new.sealing(), Some(Instant::now())));
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert_eq!(both.seal("x", b"secret"), Err(VaultError::Unconfirmed));
        assert_eq!(new.with_previous(&new).ids(), new.ids());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(Vault::from_hex(text).err(), Some(VaultError::Key), "{text}");
        }
        assert!(!format!("{:?}", Vault::generate().unwrap().0).contains('0'));
    }
}
