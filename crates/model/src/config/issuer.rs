//! `[issuers.NAME]`: whose signed identities (JSON Web Tokens) name a tenant.

use serde::{Deserialize, Serialize};

/// An issuer of identities, as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerDeclaration {
    /// What the claim `iss` has to be.
    pub issuer: String,
    /// What the claim `aud` has to be, or contain.
    pub audience: String,
    /// The claim that names the tenant by its slug or id.
    #[serde(default = "tenant_claim")]
    pub tenant_claim: String,
    /// Where its public keys are: an `http://` or `https://` URL of a JSON Web Key Set …
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// … or a file with one, relative to `guardian.toml`.
    #[serde(default)]
    pub jwks_file: Option<String>,
    /// The algorithms to accept.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<Algorithm>,
}

fn tenant_claim() -> String {
    "tenant".to_owned()
}

fn algorithms() -> Vec<Algorithm> {
    vec![Algorithm::EdDsa]
}

/// A signature algorithm. None of them lets who can verify sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Algorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
}

/// An issuer, as a gateway needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Its name in `guardian.toml`.
    pub name: String,
    /// What the claim `iss` has to be.
    pub issuer: String,
    /// What the claim `aud` has to be, or contain.
    pub audience: String,
    /// The claim that names the tenant by its slug or id.
    pub tenant_claim: String,
    /// The algorithms to accept.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys.
    pub keys: Keys,
}

/// Where an issuer's public keys are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// To be fetched, and fetched again as they change.
    Url(String),
    /// A JSON Web Key Set, read from the declared file.
    Set(String),
}

impl IssuerDeclaration {
    /// What types cannot say. An error names the dotted key it is about.
    pub(super) fn check(&self, name: &str) -> Result<(), (String, String)> {
        let refuse = |key: &str, problem: &str| Err((format!("issuers.{name}.{key}"), problem.to_owned()));
        match (&self.jwks_url, &self.jwks_file) {
            (Some(url), None) if !url.starts_with("https://") && !url.starts_with("http://") => {
                return refuse("jwks_url", "must be an `https://` or `http://` URL");
            }
            (Some(_), Some(_)) | (None, None) => return refuse("jwks_url", "give either `jwks_url` or `jwks_file`"),
            (Some(_), None) | (None, Some(_)) => {}
        }
        if self.algorithms.is_empty() {
            return refuse("algorithms", "must name an algorithm: EdDSA, ES256 or RS256");
        }
        for (key, text) in [("issuer", &self.issuer), ("audience", &self.audience), ("tenant_claim", &self.tenant_claim)] {
            if text.is_empty() {
                return refuse(key, "may not be empty");
            }
        }
        Ok(())
    }
}
