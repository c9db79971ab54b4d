//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS: RFC 5802 and 7677 as PostgreSQL speaks them.
//!
//! The user name inside SCRAM is ignored, as PostgreSQL does: the start-up packet has named the login. There is no authorisation
//! identity and no mandatory extension. The client's side is in `postgres-protocol`.

use std::fmt;

use aws_lc_rs::{constant_time, digest, error::Unspecified, hmac, rand};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding, to be offered over TLS only.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The longest message of a client, in bytes; PostgreSQL has the same limit.
pub const MESSAGE_LEN_MAX: usize = 1024;

const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 18;
const MOCK_SALT_LEN: usize = 16;
const MOCK_ITERATIONS: u32 = 4096;
const CHANNEL: &str = "tls-server-end-point";

/// Why a login is refused. The client is to hear the same for each that depends on the verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A stored verifier that is none.
    #[error("the stored verifier is not of the form SCRAM-SHA-256$iterations:salt$stored:server")]
    Verifier,
    /// A mechanism that was not offered.
    #[error("the client selected a SASL mechanism that was not offered")]
    Mechanism,
    /// A message that does not follow the grammar.
    #[error("a SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The channel binding is missing, downgraded or that of another channel.
    #[error("SCRAM channel binding failed: {0}")]
    ChannelBinding(&'static str),
    /// The nonce is not the one of this exchange.
    #[error("the SCRAM nonce does not match")]
    Nonce,
    /// The client does not know the password, or the login does not exist.
    #[error("the SCRAM proof does not match")]
    Proof,
    /// The operating system gave no randomness.
    #[error("no randomness for a SCRAM nonce")]
    Random,
}

impl From<Unspecified> for ScramError {
    fn from(_: Unspecified) -> Self {
        Self::Random
    }
}

/// What a server keeps of a password.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: [u8; KEY_LEN],
    server_key: [u8; KEY_LEN],
    mock: bool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$4096:salt$stored:server`, the last three in base64, as `pg_authid` has it.
    pub fn parse(text: &str) -> Result<Self, ScramError> {
        Self::split(text).ok_or(ScramError::Verifier)
    }

    fn split(text: &str) -> Option<Self> {
        let (iterations_and_salt, keys) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once('$')?;
        let (iterations, salt) = iterations_and_salt.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        // PostgreSQL's clients read the count as a signed int; and `parse` alone would take a plus sign.
        let digits = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|&count| digits && (1..=i32::MAX as u32).contains(&count))?;
        let salt = BASE64_STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Self { iterations, salt, stored_key: decode_key(stored)?, server_key: decode_key(server)?, mock: false })
    }

    /// For a login that does not exist: derived from `secret` and the name, so that it answers with the same salt each time. Nothing
    /// proves it.
    pub fn mock(secret: &[u8; 32], name: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derive = |part: &[u8]| sign(&key, &[part, b"\0", name.as_bytes()]);
        Self {
            iterations: MOCK_ITERATIONS,
            salt: derive(b"salt")[..MOCK_SALT_LEN].to_vec(),
            stored_key: derive(b"stored"),
            server_key: derive(b"server"),
            mock: true,
        }
    }
}

fn decode_key(text: &str) -> Option<[u8; KEY_LEN]> {
    let mut bytes = BASE64_STANDARD.decode(text).ok()?;
    let key = bytes.as_slice().try_into().ok();
    bytes.zeroize();
    key
}

fn sign(key: &hmac::Key, parts: &[&[u8]]) -> [u8; KEY_LEN] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut signature = [0; KEY_LEN];
    signature.copy_from_slice(context.sign().as_ref());
    signature
}

/// An exchange whose server-first-message is out.
pub struct Exchange {
    verifier: Verifier,
    /// What `c=` of the client's final message has to say, in base64.
    binding: String,
    /// The client's and ours, together.
    nonce: String,
    client_first_bare: String,
    server_first: String,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Exchange {
    /// Reads the client-first-message that came with `mechanism`, and answers with the server-first-message. `channel` is the hash of
    /// our certificate as `tls-server-end-point` (RFC 5929) has it: given over TLS, when the mechanism with `-PLUS` was offered.
    pub fn begin(
        verifier: Verifier,
        mechanism: &[u8],
        client_first: &[u8],
        channel: Option<&[u8]>,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let mut random = [0; NONCE_LEN];
        rand::fill(&mut random)?;
        Self::begin_with(verifier, mechanism, client_first, channel, &BASE64_STANDARD.encode(random))
    }

    fn begin_with(
        verifier: Verifier,
        mechanism: &[u8],
        client_first: &[u8],
        channel: Option<&[u8]>,
        server_nonce: &str,
    ) -> Result<(Self, Vec<u8>), ScramError> {
        let plus = match mechanism {
            _ if mechanism == MECHANISM.as_bytes() => false,
            _ if mechanism == MECHANISM_PLUS.as_bytes() && channel.is_some() => true,
            _ => return Err(ScramError::Mechanism),
        };
        let message = text(client_first)?;
        let (flag, rest) = message.split_once(',').ok_or(ScramError::Malformed("no channel binding flag"))?;
        let (authorization, bare) = rest.split_once(',').ok_or(ScramError::Malformed("no authorization identity"))?;
        let bound = bound_channel(flag, plus, channel)?;
        if !authorization.is_empty() {
            return Err(ScramError::Malformed("an authorization identity is not supported"));
        }
        if bare.starts_with("m=") {
            return Err(ScramError::Malformed("a mandatory extension is not supported"));
        }
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|attribute| attribute.strip_prefix("n="));
        user.ok_or(ScramError::Malformed("no user name"))?;
        let client_nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let client_nonce = client_nonce
            .filter(|nonce| !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or(ScramError::Malformed("no nonce"))?;
        extensions(attributes)?;

        let binding = BASE64_STANDARD.encode([flag.as_bytes(), b",,", bound].concat());
        let nonce = format!("{client_nonce}{server_nonce}");
        let salt = BASE64_STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let answer = server_first.clone().into_bytes();
        Ok((Self { verifier, binding, nonce, client_first_bare: bare.to_owned(), server_first }, answer))
    }

    /// Reads the client-final-message, and answers with the server-final-message, which is the client's proof that we know it.
    pub fn finish(self, client_final: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(client_final)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        let binding = binding.ok_or(ScramError::Malformed("no channel binding"))?;
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let nonce = nonce.ok_or(ScramError::Malformed("no nonce"))?;
        extensions(attributes)?;
        let mut client_key = decode_key(proof).ok_or(ScramError::Malformed("the proof is not 32 bytes in base64"))?;
        if !equal(binding.as_bytes(), self.binding.as_bytes()) {
            return Err(ScramError::ChannelBinding("it is not what the client announced, or of another channel"));
        }
        if !equal(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramError::Nonce);
        }

        let signed = [&self.client_first_bare, ",", &self.server_first, ",", without_proof].map(str::as_bytes);
        let signature = sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.stored_key), &signed);
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let proven = equal(digest::digest(&digest::SHA256, &client_key).as_ref(), &self.verifier.stored_key);
        client_key.zeroize();
        // Signed before the verdict, so that a wrong password costs what a right one does.
        let server = sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.server_key), &signed);
        if !proven || self.verifier.mock {
            return Err(ScramError::Proof);
        }
        Ok(format!("v={}", BASE64_STANDARD.encode(server)).into_bytes())
    }
}

/// The channel that the client's flag binds to; empty for none.
fn bound_channel<'a>(flag: &str, plus: bool, channel: Option<&'a [u8]>) -> Result<&'a [u8], ScramError> {
    match (flag, channel) {
        ("n" | "y", _) if plus => Err(ScramError::ChannelBinding("the mechanism needs it and the client gives none")),
        // It believes that we cannot, though we offered: somebody in between took the offer away.
        ("y", Some(_)) => Err(ScramError::ChannelBinding("the client was kept from seeing that it is offered")),
        ("n" | "y", _) => Ok(&[]),
        (flag, Some(channel)) if plus => match flag.strip_prefix("p=") {
            Some(CHANNEL) => Ok(channel),
            Some(_) => Err(ScramError::ChannelBinding("only tls-server-end-point is supported")),
            None => Err(ScramError::Malformed("unknown channel binding flag")),
        },
        _ if flag.starts_with("p=") => Err(ScramError::ChannelBinding("the mechanism has none and the client gives one")),
        _ => Err(ScramError::Malformed("unknown channel binding flag")),
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_LEN_MAX {
        return Err(ScramError::Malformed("it is too long"));
    }
    let text = str::from_utf8(message).map_err(|_| ScramError::Malformed("it is not UTF-8"))?;
    if text.contains('\0') { Err(ScramError::Malformed("it contains a NUL")) } else { Ok(text) }
}

/// Optional extensions may stand there and mean nothing; what is none may not.
fn extensions<'a>(mut attributes: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    let well_formed = |attribute: &str| matches!(attribute.as_bytes(), [name, b'=', ..] if name.is_ascii_alphabetic());
    if attributes.all(well_formed) { Ok(()) } else { Err(ScramError::Malformed("an extension is no attribute")) }
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests;
