//! A rule: documentation, metadata and check together.

use serde::{Deserialize, Serialize};

use crate::{
    facts::{Facts, Source},
    finding::Hit,
    reach::Reach,
    tenancy::Tenancy,
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Hardening in depth: nothing is open by itself.
    Low,
    /// Tells something of other tenants, or opens with one more mistake.
    Medium,
    /// Opens rows or availability of other tenants to SQL of the application's role, under some condition.
    High,
    /// Opens rows of other tenants to SQL of the application's role, as it stands.
    Critical,
}

impl Severity {
    /// All, mildest first.
    pub const ALL: [Self; 5] = [Self::Note, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity of that name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == word)
    }
}

/// What a rule protects; the index of the documentation sorts by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protects {
    /// Other tenants' rows, from being read or changed.
    Rows,
    /// The tenant context, from being forged.
    Context,
    /// The knowledge that a row or a tenant exists, and how many there are.
    Existence,
    /// Passwords, tokens and keys.
    Secrets,
    /// What other tenants' sessions do, and how the database is made.
    Metadata,
    /// The service for other tenants.
    Availability,
    /// The audit's own word.
    Audit,
}

impl Protects {
    /// All, in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Rows, Self::Context, Self::Existence, Self::Secrets, Self::Metadata, Self::Availability, Self::Audit];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Context => "context",
            Self::Existence => "existence",
            Self::Secrets => "secrets",
            Self::Metadata => "metadata",
            Self::Availability => "availability",
            Self::Audit => "audit",
        }
    }
}

/// What every check gets.
#[derive(Debug)]
pub struct Audit<'f> {
    /// What is true of the database.
    pub facts: &'f Facts,
    /// What the application's roles can get at.
    pub reach: Reach<'f>,
    /// Which tables are the tenants'.
    pub tenancy: Tenancy,
}

/// A rule. Its check is pure: it sees facts and does no IO.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `GRD-PG-001`; never used again for another rule.
    pub id: &'static str,
    /// `rls_off`: the name of its file.
    pub name: &'static str,
    /// The usual severity; a check may say another for one finding.
    pub severity: Severity,
    /// What it protects.
    pub protects: Protects,
    /// One line, without a full stop: what is wrong when it fires.
    pub title: &'static str,
    /// Markdown with the sections `## What`, `## Why`, `## Exploit`, `## Remedy` and `## Near miss`, in this order.
    pub docs: &'static str,
    /// The facts without which it cannot run. Roles, memberships, schemas and relations are needed by every rule.
    pub needs: &'static [Source],
    /// The judgement.
    pub check: fn(&Audit<'_>) -> Vec<Hit>,
}

/// What every rule needs because [`Reach`] does.
pub const ALWAYS_NEEDED: [Source; 4] = [Source::Roles, Source::Memberships, Source::Schemas, Source::Relations];
