//! Logins of the SQL gateway: who may connect, for which tenants, and how the tenant is told.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{LoginName, TenantId};

/// A login of the SQL gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Login {
    /// Its name, unique; clients send `name` or `name.tenant` as the user.
    pub name: LoginName,
    /// Whom it may serve.
    pub scope: LoginScope,
    /// How it proves itself.
    pub proof: LoginProof,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its password was last changed.
    pub rotated_at: Option<Timestamp>,
}

/// Whom a login may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LoginScope {
    /// One tenant, for ever.
    Tenant {
        /// Which.
        tenant: TenantId,
    },
    /// Any tenant, named at start-up (user, database, options, server name) and fixed for the connection.
    AnyTenant {
        /// Whether, and by what, an open connection may change its tenant.
        switch: Switch,
    },
    /// No tenant: the gateway's admin database.
    Admin,
}

/// How an open connection may change its tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// Not at all.
    #[default]
    Never,
    /// By `SET guardian.identity`: the application has to show a signed token of the tenant.
    Identity,
    /// By `SET guardian.tenant` or an identity: the application is trusted.
    Tenant,
}

impl Switch {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Never, Self::Identity, Self::Tenant];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Identity => "identity",
            Self::Tenant => "tenant",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|switch| switch.as_str() == word)
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a login proves itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginProof {
    /// SCRAM-SHA-256 with its password.
    #[default]
    Password,
    /// A client certificate of the gateway's client CA, whose subject's common name is the login's name.
    Certificate,
}

impl LoginProof {
    /// Every proof.
    pub const ALL: [Self; 2] = [Self::Password, Self::Certificate];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Certificate => "certificate",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|proof| proof.as_str() == word)
    }
}
