//! `guardian api-key`: what tenants' programs show at the API gateway.

use guardian_client::Client;
use guardian_model::{
    ApiKey as Model, ApiKeyId, PermissionName, RoleName,
    access_api::{CreateApiKey, NewApiKey, RotateApiKey},
};

use super::tenant::TenantRef;
use crate::output::{Cell, Mark, Output, Table, time};

/// Make, list, rotate and revoke the API keys of a tenant's programs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ApiKey {
    /// Make an API key; its secret is printed this once
    #[command(after_help = "A program sends it as `Authorization: Bearer grdk_…`, or as `X-API-Key: grdk_…`.

Examples:
  guardian api-key create acme 'nightly export' --role reader > export.key
  guardian api-key create acme ci --role agent --only ticket.read --expires 90d --requests-per-minute 60")]
    Create(Create),
    /// List a tenant's API keys, without their secrets
    #[command(after_help = "Examples:\n  guardian api-key list acme\n  guardian api-key list acme --json")]
    List {
        /// Slug or id
        tenant: TenantRef,
    },
    /// Give an API key another secret, printed this once
    #[command(after_help = "Examples:
  guardian api-key rotate acme key_01jd8v1n2c3p4q5r6s7t8v9w0x > export.key
  guardian api-key rotate acme key_01jd8v1n2c3p4q5r6s7t8v9w0x --grace 1h")]
    Rotate {
        /// Slug or id
        tenant: TenantRef,
        /// Its id, as `list` shows it
        key: ApiKeyId,
        /// For how long the old secret goes on (30s, 15m, 1h, 7d); left out: it ends at once
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        grace: Option<u32>,
    },
    /// Revoke an API key, at once and for ever
    #[command(after_help = "Examples:\n  guardian api-key revoke acme key_01jd8v1n2c3p4q5r6s7t8v9w0x")]
    Revoke {
        /// Slug or id
        tenant: TenantRef,
        /// Its id, as `list` shows it
        key: ApiKeyId,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Slug or id
    tenant: TenantRef,
    /// What it is for
    name: String,
    /// A role of it; several times for several
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<RoleName>,
    /// Narrows it to this permission of its roles; several times for several
    #[arg(long = "only", value_name = "PERMISSION")]
    only: Vec<PermissionName>,
    /// When it ends, from now (12h, 90d); left out: never
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u32>,
    /// Requests a minute of this key, within its tenant's limit
    #[arg(long, value_name = "COUNT")]
    requests_per_minute: Option<u32>,
}

/// Reads `30s`, `15m`, `12h` or `90d`.
fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no time; write 30s, 15m, 12h or 90d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

impl ApiKey {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => {
                let body = CreateApiKey {
                    name: create.name,
                    roles: create.roles.into_iter().collect(),
                    permissions: (!create.only.is_empty()).then(|| create.only.into_iter().collect()),
                    requests_per_minute_max: create.requests_per_minute,
                    lives_seconds: create.expires,
                };
                shown_once(&client.create_api_key(create.tenant.as_str(), &body).await?, "is made", output)
            }
            Self::List { tenant } => output.result(&client.api_keys(tenant.as_str()).await?, |keys| list(keys, output)),
            Self::Rotate { tenant, key, grace } => {
                let body = RotateApiKey { grace_seconds: grace.unwrap_or_default() };
                let made = client.rotate_api_key(tenant.as_str(), key, &body).await?;
                shown_once(&made, "has another secret", output)?;
                match made.key.previous_until {
                    Some(until) => output.remark(format!("the old secret goes on until {} (UTC)", time(until))),
                    None => output.remark("the old secret opens nothing any more"),
                }
                Ok(())
            }
            Self::Revoke { tenant, key } => {
                client.revoke_api_key(tenant.as_str(), key).await?;
                output.done(format!("{key} is revoked"))
            }
        }
    }
}

/// The secret alone on standard output, so that it can go into a file.
fn shown_once(made: &NewApiKey, what: &str, output: Output) -> anyhow::Result<()> {
    output.result(made, |made| output.line(&made.secret))?;
    output.remark(format!("{} {what}; its secret cannot be shown again", made.key.id));
    Ok(())
}

fn list(keys: &[Model], output: Output) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now();
    let mut table = Table::new(["key", "name", "ends in", "roles", "only", "made (UTC)", "ends (UTC)", "state"]);
    for key in keys {
        let state = match (key.revoked_at, key.is_in_force(now)) {
            (Some(_), _) => Cell::marked(Some(Mark::Bad), "revoked"),
            (None, false) => Cell::marked(Some(Mark::Caution), "over"),
            (None, true) => Cell::marked(Some(Mark::Good), "in force"),
        };
        let names = |names: Vec<&str>| names.join(", ");
        table.row([
            key.id.into(),
            (&key.name).into(),
            format!("…{}", key.ends_with).into(),
            names(key.roles.iter().map(RoleName::as_str).collect()).into(),
            Cell::maybe(key.permissions.as_ref().map(|only| names(only.iter().map(PermissionName::as_str).collect()))),
            time(key.created_at).into(),
            Cell::maybe(key.expires_at.map(time)),
            state,
        ]);
    }
    output.table(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(["30s", "15m", "12h", "90d"].map(seconds), [Ok(30), Ok(900), Ok(43_200), Ok(7_776_000)]);
        for wrong in ["", "30", "s", "0d", "-1d", "1w", "99999999d", "1 d", "é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
