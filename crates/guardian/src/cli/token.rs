//! `guardian token`: the bearer tokens of the API.

use guardian_client::Client;
use guardian_model::{
    Role, TokenId,
    api::{self, CreateToken},
};

use super::{tenant::TenantRef, word_of};
use crate::output::{Cell, Failure, Output, Table, time};

/// Make, list and revoke the API's bearer tokens
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Token {
    /// Make a token; its secret is printed this once
    #[command(after_help = "Examples:
  guardian token create deploy --role operator > deploy.token
  guardian token create acme-support --role tenant_admin --tenant acme")]
    Create {
        /// What it is for
        name: String,
        /// What its bearer may do
        #[arg(long, value_parser = word_of!(Role))]
        role: Role,
        /// The only tenant of a `tenant_admin`: slug or id
        #[arg(long)]
        tenant: Option<TenantRef>,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Examples:\n  guardian token list")]
    List,
    /// Revoke a token, at once and for ever
    #[command(after_help = "Examples:\n  guardian token revoke tok_01jd8v1n2c3p4q5r6s7t8v9w0x")]
    Revoke {
        /// Its id, as `list` shows it
        token: TokenId,
    },
}

impl Token {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create { name, role, tenant } => {
                if (role == Role::TenantAdmin) != tenant.is_some() {
                    return Err(Failure::usage("--tenant goes with the role tenant_admin, and with no other").into());
                }
                let made = client.create_token(&CreateToken { name, role, tenant: tenant.map(String::from) }).await?;
                // Alone on standard output, so that it can go into a file.
                output.result(&made, |made| output.line(&made.secret))?;
                output.remark(format!("{} is made; its secret cannot be shown again", made.token.id));
                Ok(())
            }
            Self::List => output.result(&client.tokens().await?, |tokens| list(tokens, output)),
            Self::Revoke { token } => {
                client.revoke_token(token).await?;
                output.done(format!("{token} is revoked"))
            }
        }
    }
}

fn list(tokens: &[api::Token], output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["token", "name", "role", "tenant", "created (UTC)", "revoked (UTC)"]);
    for token in tokens {
        table.row([
            token.id.into(),
            (&token.name).into(),
            token.role.as_str().into(),
            Cell::maybe(token.tenant),
            time(token.created_at).into(),
            Cell::maybe(token.revoked_at.map(time)),
        ]);
    }
    output.table(table)
}
