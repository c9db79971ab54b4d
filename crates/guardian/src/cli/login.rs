//! `guardian login`: who may connect to the SQL gateway.

use guardian_client::Client;
use guardian_model::{
    Login as Model, LoginName, LoginProof, LoginScope, Switch,
    api::{AskedScope, CreateLogin, NewLogin},
};

use super::{tenant::TenantRef, word_of};
use crate::output::{Cell, Output, Table, time};

/// Make, list, rotate and delete the logins of the SQL gateway
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Login {
    /// Make a login; the URL to connect with, password included, is printed this once
    #[command(
        after_help = "The application connects with the URL that is printed. A login that is bound to a tenant reaches \
that one only. One for any tenant is told the tenant by `app.TENANT` as the user, or with --switch on the open connection: by a \
signed identity (SET guardian.identity), or by its mere name (SET guardian.tenant), which trusts the application.

Examples:
  guardian login create acme-app --tenant acme
  guardian login create app --any-tenant --switch identity
  guardian login create app2 --any-tenant --certificate
  guardian login create operator --admin > operator.url"
    )]
    Create(Create),
    /// List the logins, without their passwords
    #[command(after_help = "Examples:\n  guardian login list")]
    List,
    /// Give a login another password, printed this once; the old one opens nothing any more
    #[command(after_help = "Examples:\n  guardian login rotate app")]
    Rotate {
        /// Its name
        login: LoginName,
    },
    /// Delete a login
    #[command(after_help = "Examples:\n  guardian login delete app")]
    Delete {
        /// Its name
        login: LoginName,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name
    name: LoginName,
    #[command(flatten)]
    scope: Scope,
    /// How an open connection may change its tenant; left out: not at all
    #[arg(long, conflicts_with_all = ["tenant", "admin"], value_parser = word_of!(Switch))]
    switch: Option<Switch>,
    /// It proves itself by a client certificate whose common name is the login's, not by a password
    #[arg(long)]
    certificate: bool,
}

/// Whom it may serve.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Scope {
    /// Bound to this tenant (slug or id), for ever
    #[arg(long)]
    tenant: Option<TenantRef>,
    /// For any tenant
    #[arg(long)]
    any_tenant: bool,
    /// For no tenant: the gateway's admin database
    #[arg(long)]
    admin: bool,
}

impl Login {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => {
                let made = client.create_login(&create.into_body()).await?;
                shown_once(&made, "is made", output)
            }
            Self::List => output.result(&client.logins().await?, |logins| list(logins, output)),
            Self::Rotate { login } => {
                let made = client.rotate_login(&login).await?;
                shown_once(&made, "has another password", output)
            }
            Self::Delete { login } => {
                client.delete_login(&login).await?;
                output.done(format!("{login} is deleted"))
            }
        }
    }
}

impl Create {
    fn into_body(self) -> CreateLogin {
        let scope = match self.scope {
            Scope { tenant: Some(tenant), .. } => AskedScope::Tenant { tenant: tenant.into() },
            Scope { admin: true, .. } => AskedScope::Admin {},
            Scope { .. } => AskedScope::AnyTenant { switch: self.switch.unwrap_or_default() },
        };
        let proof = if self.certificate { LoginProof::Certificate } else { LoginProof::Password };
        CreateLogin { name: self.name, scope, proof }
    }
}

/// The URL alone on standard output, so that it can go into a file.
fn shown_once(made: &NewLogin, what: &str, output: Output) -> anyhow::Result<()> {
    output.result(made, |made| output.line(url(made)))?;
    let name = &made.login.name;
    match made.password {
        Some(_) => output.remark(format!("{name} {what}; its password cannot be shown again")),
        None => output.remark(format!("{name} {what}; connect with the certificate of this common name")),
    }
    match made.login.scope {
        LoginScope::AnyTenant { switch: Switch::Never } => output.remark("put a tenant in place of TENANT"),
        LoginScope::AnyTenant { .. } => {
            output.remark("put a tenant in place of TENANT, or leave `.TENANT` out and name it on the open connection");
        }
        LoginScope::Tenant { .. } | LoginScope::Admin => {}
    }
    Ok(())
}

/// None of the parts has a character that a URL would need escaped, except a database's name.
fn url(made: &NewLogin) -> String {
    let password = made.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
    let database: String = made.database.bytes().map(escaped).collect();
    format!("postgres://{}{password}@{}/{database}", made.user, made.address)
}

fn escaped(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

fn list(logins: &[Model], output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["login", "serves", "switch", "proof", "created (UTC)", "rotated (UTC)"]);
    for login in logins {
        let (serves, switch) = match login.scope {
            LoginScope::Tenant { tenant } => (tenant.to_string(), None),
            LoginScope::AnyTenant { switch } => ("any tenant".to_owned(), Some(switch)),
            LoginScope::Admin => ("the admin database".to_owned(), None),
        };
        table.row([
            (&login.name).into(),
            serves.into(),
            Cell::maybe(switch),
            login.proof.as_str().into(),
            time(login.created_at).into(),
            Cell::maybe(login.rotated_at.map(time)),
        ]);
    }
    output.table(table)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn parse(line: &str) -> Result<CreateLogin, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.create.into_body())
    }

    #[test]
    fn a_login_serves_one_thing() {
        let scope = |line: &str| parse(line).map(|body| body.scope);
        assert!(matches!(scope("create app --tenant acme"), Ok(AskedScope::Tenant { tenant }) if tenant == "acme"));
        assert!(matches!(scope("create app --any-tenant"), Ok(AskedScope::AnyTenant { switch: Switch::Never })));
        let identity = scope("create app --any-tenant --switch identity");
        assert!(matches!(identity, Ok(AskedScope::AnyTenant { switch: Switch::Identity })));
        assert!(matches!(scope("create app --admin"), Ok(AskedScope::Admin {})));
        for wrong in ["", " --admin --any-tenant", " --tenant acme --any-tenant", " --tenant acme --switch tenant"] {
            assert!(parse(&format!("create app{wrong}")).is_err(), "{wrong}");
        }
        assert_eq!(parse("create app --admin --certificate").unwrap().proof, LoginProof::Certificate);
    }

    #[test]
    fn the_url_is_ready_for_use() {
        let login = Model {
            name: "app".parse().unwrap(),
            scope: LoginScope::Tenant { tenant: "ten_01jd8v1n2c3p4q5r6s7t8v9w0x".parse().unwrap() },
            proof: LoginProof::Password,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            rotated_at: None,
        };
        let mut made = NewLogin {
            login,
            password: Some("5ec4e7".to_owned()),
            user: "app.acme".to_owned(),
            address: "127.0.0.1:6432".to_owned(),
            database: "help desk".to_owned(),
        };
        assert_eq!(url(&made), "postgres://app.acme:5ec4e7@127.0.0.1:6432/help%20desk");
        made.password = None;
        assert_eq!(url(&made), "postgres://app.acme@127.0.0.1:6432/help%20desk");
    }
}
