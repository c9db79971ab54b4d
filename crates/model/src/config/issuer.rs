//! `[issuers.NAME]`: whose signed identities (JSON Web Tokens) name a tenant.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Slug;

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
    /// The claim that names who acts.
    #[serde(default = "subject_claim")]
    pub subject_claim: String,
    /// The claim that lists roles, which are believed besides those that the tenant gives. Left out: none is.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// The tenants whose tokens it may issue, and no other may. Left out: those that are pinned to no issuer.
    #[serde(default)]
    pub tenants: Option<BTreeSet<Slug>>,
    /// Whether its public keys are found by `OpenID` Connect discovery, below `issuer`; instead of `jwks_url`.
    #[serde(default)]
    pub oidc: bool,
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

fn subject_claim() -> String {
    "sub".to_owned()
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
    /// The claim that names who acts.
    #[serde(default = "subject_claim")]
    pub subject_claim: String,
    /// The claim that lists roles.
    #[serde(default)]
    pub roles_claim: Option<String>,
    /// The tenants whose tokens it may issue, and no other may; absent: those that are pinned to no issuer.
    #[serde(default)]
    pub tenants: Option<BTreeSet<Slug>>,
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
    /// To be found by `OpenID` Connect discovery, below the issuer; and fetched again as they change.
    Discovery,
    /// A JSON Web Key Set, read from the declared file.
    Set(String),
}

impl IssuerDeclaration {
    /// What types cannot say. An error names the dotted key it is about.
    pub(super) fn check(&self, name: &str) -> Result<(), (String, String)> {
        let refuse = |key: &str, problem: &str| Err((format!("issuers.{name}.{key}"), problem.to_owned()));
        match (&self.jwks_url, &self.jwks_file) {
            (None, None) if self.oidc => {
                if !self.issuer.starts_with("https://") && !self.issuer.starts_with("http://") {
                    return refuse("issuer", "must be an `https://` or `http://` URL, to find its keys below it");
                }
            }
            (Some(_), _) | (_, Some(_)) if self.oidc => {
                return refuse("oidc", "finds the keys by itself: leave `jwks_url` and `jwks_file` out");
            }
            (Some(url), None) if !url.starts_with("https://") && !url.starts_with("http://") => {
                return refuse("jwks_url", "must be an `https://` or `http://` URL");
            }
            (Some(_), Some(_)) | (None, None) => {
                return refuse("jwks_url", "give one of `jwks_url`, `jwks_file` and `oidc = true`");
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        if self.roles_claim.as_ref().is_some_and(String::is_empty) {
            return refuse("roles_claim", "may not be empty; leave it out");
        }
        if self.tenants.as_ref().is_some_and(BTreeSet::is_empty) {
            return refuse("tenants", "names nobody: leave it out, or name a tenant");
        }
        if self.algorithms.is_empty() {
            return refuse("algorithms", "must name an algorithm: EdDSA, ES256 or RS256");
        }
        for (key, text) in [
            ("issuer", &self.issuer),
            ("audience", &self.audience),
            ("tenant_claim", &self.tenant_claim),
            ("subject_claim", &self.subject_claim),
        ] {
            if text.is_empty() {
                return refuse(key, "may not be empty");
            }
        }
        Ok(())
    }
}

/// What types cannot say of all of them.
pub(super) fn check_all(issuers: &BTreeMap<String, IssuerDeclaration>) -> Result<(), (String, String)> {
    let mut pinned = BTreeMap::new();
    for (name, issuer) in issuers {
        issuer.check(name)?;
        for tenant in issuer.tenants.iter().flatten() {
            if let Some(other) = pinned.insert(tenant, name) {
                let problem = format!("`{tenant}` is pinned to [issuers.{other}] already; a tenant has one issuer");
                return Err((format!("issuers.{name}.tenants"), problem));
            }
        }
    }
    Ok(())
}
