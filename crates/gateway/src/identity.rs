//! Signed identities: whether a token was issued by somebody we believe, for us, for now, and which tenant it names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use guardian_model::config::{Algorithm, Issuer};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};

/// Seconds that two clocks may differ.
const LEEWAY_S: u64 = 5;
/// Tokens whose signature need not be checked again.
const CACHE_LEN_MAX: usize = 10_000;
/// The longest token.
const TOKEN_LEN_MAX: usize = 8 * 1024;

/// Why a token is not believed. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No JSON Web Token.
    #[error("it is no signed JSON Web Token")]
    Malformed,
    /// Nobody we believe.
    #[error("its issuer is not declared in [issuers]")]
    Issuer,
    /// Signed by an algorithm that its issuer does not use.
    #[error("its algorithm is not among those declared for its issuer")]
    Algorithm,
    /// Signed with a key that the issuer does not publish, or not known here yet.
    #[error("its issuer has no such key")]
    Key,
    /// Altered, or signed by somebody else.
    #[error("its signature is wrong")]
    Signature,
    /// Too late, or too early.
    #[error("it has expired, or is not valid yet")]
    Time,
    /// For somebody else.
    #[error("it is for another audience")]
    Audience,
    /// Names no tenant.
    #[error("it lacks the claim that names the tenant")]
    Tenant,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The tenant, by slug or id.
    pub tenant: String,
    /// Until when, in seconds since 1970.
    pub expires_at_s: u64,
}

struct Known {
    issuer: Issuer,
    keys: Vec<(Option<String>, Algorithm, DecodingKey)>,
}

/// Verifies tokens. Shared by all threads.
pub struct Verifier {
    issuers: ArcSwap<HashMap<String, Known>>,
    believed: Mutex<HashMap<[u8; 32], Identity>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Verifier(…)")
    }
}

impl Default for Verifier {
    fn default() -> Self {
        Self { issuers: ArcSwap::from_pointee(HashMap::new()), believed: Mutex::new(HashMap::new()) }
    }
}

impl Verifier {
    /// Believes these issuers with these key sets (JSON texts) from now on. What cannot be read as a key is left out.
    pub fn believe(&self, issuers: impl IntoIterator<Item = (Issuer, String)>) {
        let known = issuers.into_iter().map(|(issuer, set)| {
            let keys = keys(&set, &issuer.algorithms);
            (issuer.issuer.clone(), Known { issuer, keys })
        });
        self.issuers.store(Arc::new(known.collect()));
        // A key that is gone must not be believed from memory.
        self.believed().clear();
    }

    fn believed(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Identity>> {
        self.believed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Checks a token at a time (seconds since 1970).
    pub fn verify(&self, token: &str, now_s: u64) -> Result<Identity, IdentityError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(IdentityError::Malformed);
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let digest: [u8; 32] = digest.as_ref().try_into().map_err(|_| IdentityError::Malformed)?;
        if let Some(identity) = self.believed().get(&digest) {
            return if identity.expires_at_s > now_s { Ok(identity.clone()) } else { Err(IdentityError::Time) };
        }
        let issuers = self.issuers.load_full();
        let identity = check(&issuers, token, now_s)?;
        let mut believed = self.believed();
        // Keys that were withdrawn meanwhile must not be remembered past that.
        if !Arc::ptr_eq(&issuers, &self.issuers.load()) {
            return Ok(identity);
        }
        if believed.len() >= CACHE_LEN_MAX {
            believed.retain(|_, identity| identity.expires_at_s > now_s);
        }
        if believed.len() < CACHE_LEN_MAX {
            believed.insert(digest, identity.clone());
        }
        Ok(identity)
    }
}

fn check(issuers: &HashMap<String, Known>, token: &str, now_s: u64) -> Result<Identity, IdentityError> {
    let header = decode_header(token).map_err(|_| IdentityError::Malformed)?;
    // Only to find the keys by: whether it is true shows when the signature does.
    let claimed = unverified_issuer(token).ok_or(IdentityError::Malformed)?;
    let Known { issuer, keys } = issuers.get(&claimed).ok_or(IdentityError::Issuer)?;
    let algorithm = match header.alg {
        jsonwebtoken::Algorithm::EdDSA => Algorithm::EdDsa,
        jsonwebtoken::Algorithm::ES256 => Algorithm::Es256,
        jsonwebtoken::Algorithm::RS256 => Algorithm::Rs256,
        _ => return Err(IdentityError::Algorithm),
    };
    if !issuer.algorithms.contains(&algorithm) {
        return Err(IdentityError::Algorithm);
    }
    let fitting =
        keys.iter().filter(|(id, of, _)| *of == algorithm && (header.kid.is_none() || id.is_none() || *id == header.kid));
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_audience(&[&issuer.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // By the time that was given, below.
    validation.validate_exp = false;
    let mut error = IdentityError::Key;
    for (_, _, key) in fitting {
        match decode::<serde_json::Value>(token, key, &validation) {
            Ok(decoded) => return identity(&decoded.claims, &issuer.tenant_claim, now_s),
            Err(failed) => error = reason(&failed),
        }
        if error != IdentityError::Signature {
            break;
        }
    }
    Err(error)
}

fn identity(claims: &serde_json::Value, tenant_claim: &str, now_s: u64) -> Result<Identity, IdentityError> {
    let tenant = claims.get(tenant_claim).and_then(serde_json::Value::as_str).ok_or(IdentityError::Tenant)?;
    let expires_at_s = claims.get("exp").and_then(serde_json::Value::as_f64).ok_or(IdentityError::Time)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is meant")]
    let expires_at_s = (expires_at_s as u64).saturating_add(LEEWAY_S);
    let starts_at_s = match claims.get("nbf") {
        None => 0.0,
        Some(starts_at_s) => starts_at_s.as_f64().ok_or(IdentityError::Time)?,
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for ever")]
    let is_early = starts_at_s > (now_s + LEEWAY_S) as f64;
    if expires_at_s <= now_s || is_early {
        return Err(IdentityError::Time);
    }
    Ok(Identity { tenant: tenant.to_owned(), expires_at_s })
}

fn reason(error: &jsonwebtoken::errors::Error) -> IdentityError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => IdentityError::Signature,
        ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => IdentityError::Time,
        ErrorKind::InvalidAudience => IdentityError::Audience,
        ErrorKind::InvalidIssuer => IdentityError::Issuer,
        ErrorKind::InvalidAlgorithm => IdentityError::Algorithm,
        _ => IdentityError::Malformed,
    }
}

fn unverified_issuer(token: &str) -> Option<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(token).ok()?.claims;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// The keys of a set that fit one of the algorithms.
fn keys(set: &str, algorithms: &[Algorithm]) -> Vec<(Option<String>, Algorithm, DecodingKey)> {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, PublicKeyUse};
    let Ok(set) = serde_json::from_str::<JwkSet>(set) else { return Vec::new() };
    let for_signatures =
        set.keys.iter().filter(|key| matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)));
    let keys = for_signatures.filter_map(|key| {
        let algorithm = match &key.algorithm {
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDsa,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::Es256,
            AlgorithmParameters::RSA(_) => Algorithm::Rs256,
            _ => return None,
        };
        if !algorithms.contains(&algorithm) {
            return None;
        }
        Some((key.common.key_id.clone(), algorithm, DecodingKey::from_jwk(key).ok()?))
    });
    keys.collect()
}

#[cfg(test)]
mod tests;
