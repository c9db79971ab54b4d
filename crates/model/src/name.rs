//! Names that people choose: tiers, clusters, logins, routes, roles.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid name; use 1 to 40 of a-z, 0-9, _ and -, starting with a letter")]
pub struct NameError(String);

fn is_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, pattern = "^[a-z][a-z0-9_-]{0,39}$")]
        pub struct $name(String);

        impl $name {
            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// Names a tier (`free`, `pro`).
    TierName;
    /// Names a login of the SQL gateway (`app`, `reports`); it has no dot, so that `app.acme` is a login and a tenant.
    LoginName;
    /// Names a PostgreSQL server in `guardian.toml` (`main`, `eu-1`).
    ClusterName;
    /// Names a route of the API gateway (`tickets`).
    RouteName;
    /// Names where the API gateway sends requests (`app`).
    UpstreamName;
    /// Names a role of a tenant's users and API keys (`agent`).
    RoleName;
    /// Names a group of a tenant's users (`night-shift`).
    GroupName;
}
