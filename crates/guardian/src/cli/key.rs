//! `guardian key`: the master key that secrets are sealed under, the keys that sign identities, and new secrets for tenants.

use guardian_client::Client;
use guardian_model::{
    access_api::{IdentityKeyStage, IdentityKeyState, RotateIdentityKey},
    api::{MasterKeys, RotateSecrets, SecretKind},
};

use super::{confirm, follow, tenant::TenantRef};
use crate::output::{Cell, Failure, Mark, Output, Table, time};

/// Change the master key, the one that signs identities, or the secrets of tenants, and show which there are
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Key {
    /// Seal every secret under the new master key, while everything runs; or another key for identities, or new secrets
    #[command(
        after_help = "The master key. Before: write the new key to a file, name it as control.master_key_file and the old one as
control.master_key_file_previous, and start every control plane anew. After: take the old one out again.

Tenants' secrets need no preparation: gateways hear of the new ones first, and no request fails. Afterwards the old ones
open nothing. It takes half a minute and more, because every gateway is given the time to hear.

Examples:
  guardian key rotate
  guardian key rotate --yes
  guardian key rotate --identity
  guardian key rotate --identity --now --yes
  guardian key rotate --capabilities --yes
  guardian key rotate --capabilities --tenant acme
  guardian key rotate --passwords"
    )]
    Rotate {
        /// The key that signs identities: another is published, and signs ten minutes later
        #[arg(long, conflicts_with_all = ["capabilities", "passwords", "tenant"])]
        identity: bool,
        /// The present keys end at once, because somebody else may have one; what they signed is refused
        #[arg(long, requires = "identity")]
        now: bool,
        /// New capabilities for the tenants in shared tables, instead of the master key
        #[arg(long, conflicts_with = "passwords")]
        capabilities: bool,
        /// New passwords for the roles of tenants with a schema or a database of their own, instead of the master key
        #[arg(long)]
        passwords: bool,
        /// Of one tenant alone: slug or id
        #[arg(long)]
        tenant: Option<TenantRef>,
        /// Do not ask first
        #[arg(long, short)]
        yes: bool,
    },
    /// Show which master key seals, and which control planes have which
    #[command(after_help = "Examples:\n  guardian key status")]
    Status,
    /// Show where each key that signs identities stands
    #[command(after_help = "Examples:\n  guardian key identity")]
    Identity,
}

impl Key {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Status => output.result(&client.master_keys().await?, |keys| show(keys, output)),
            Self::Identity => output.result(&client.identity_keys().await?, |keys| identities(keys, output)),
            Self::Rotate { identity: true, now, yes, .. } => {
                if now && !yes {
                    confirm::yes("End the keys that sign identities at once?", "--yes")?;
                }
                let keys = client.rotate_identity_key(&RotateIdentityKey { now }).await?;
                output.result(&keys, |keys| identities(keys, output))
            }
            Self::Rotate { capabilities: false, passwords: false, tenant: Some(_), .. } => {
                let failure =
                    Failure::usage("--tenant goes with --capabilities or --passwords; the master key is one for all");
                Err(failure.into())
            }
            Self::Rotate { capabilities, passwords, tenant, yes, .. } if capabilities || passwords => {
                let what = if capabilities { SecretKind::Capabilities } else { SecretKind::Passwords };
                let (asked, of) =
                    (what.as_str(), tenant.as_ref().map_or_else(String::new, |tenant| format!(" of {}", tenant.as_str())));
                if !yes {
                    confirm::yes(&format!("Replace the {asked}{of}?"), "--yes")?;
                }
                let run = client.rotate_secrets(&RotateSecrets { what, tenant: tenant.map(String::from) }).await?;
                follow::run(client, output, run).await?;
                output.done(format!("new {asked} are in force; the old ones open nothing"))
            }
            Self::Rotate { yes, .. } => {
                if !yes {
                    confirm::yes("Seal every secret under the new master key?", "--yes")?;
                }
                let run = client.rotate_master_key().await?;
                follow::run(client, output, run).await?;
                output.done("every secret is sealed under the new master key")?;
                output.remark("  take control.master_key_file_previous out of guardian.toml on every control plane");
                output.remark("  keep the old key as long as you keep a backup of the control database from before");
                Ok(())
            }
        }
    }
}

fn show(keys: &MasterKeys, output: Output) -> anyhow::Result<()> {
    let rotated = keys.rotated_at.map(time);
    let previous = keys.previous.as_ref().map(|id| format!("{id}: some secrets may still be under it"));
    output.table(Table::of_one(vec![
        ("seals with", (&keys.sealing).into()),
        ("changing from", Cell::maybe(previous.as_ref())),
        ("changed last (UTC)", Cell::maybe(rotated.as_ref())),
    ]))?;
    output.line("")?;
    let mut table = Table::new(["control plane", "has", "seals with", "seen (UTC)"]);
    for node in &keys.nodes {
        let mark = if node.sealing == keys.sealing { Mark::Good } else { Mark::Caution };
        table.row([
            (&node.name).into(),
            node.keys.join(", ").into(),
            Cell::marked(Some(mark), &node.sealing),
            time(node.seen_at).into(),
        ]);
    }
    output.table(table)
}

fn identities(keys: &[IdentityKeyState], output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["key", "state", "since (UTC)", "until (UTC)"]);
    for key in keys {
        let mark = (key.state == IdentityKeyStage::Signing).then_some(Mark::Good);
        table.row([
            (&key.kid).into(),
            Cell::marked(mark, key.state.as_str()),
            time(key.since).into(),
            time(key.until).into(),
        ]);
    }
    output.table(table)
}
