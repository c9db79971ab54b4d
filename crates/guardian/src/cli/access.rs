//! `guardian access`: who may do what in a tenant.

use std::collections::BTreeSet;

use guardian_client::Client;
use guardian_model::{
    GroupName, PermissionName, RoleName, Subject,
    access_api::{AccessState, ExplainQuery, PutAccessGroup, PutAccessRole, PutAccessUser},
    rbac::AccessExplanation,
};

use super::tenant::TenantRef;
use crate::output::{Cell, Failure, Mark, Output, Table};

/// Say who may do what in a tenant: its roles, groups and users
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Access {
    /// Show a tenant's roles, groups and users
    #[command(after_help = "Examples:\n  guardian access show acme")]
    Show {
        /// Slug or id
        tenant: TenantRef,
    },
    /// Create, replace or delete a role of a tenant's own
    #[command(after_help = "Examples:
  guardian access role acme closer ticket.read ticket.close
  guardian access role acme closer --delete")]
    Role {
        /// Slug or id
        tenant: TenantRef,
        /// Its name
        role: RoleName,
        /// What it grants
        #[arg(value_name = "PERMISSION", required_unless_present = "delete")]
        permissions: Vec<PermissionName>,
        /// Delete it
        #[arg(long, conflicts_with = "permissions")]
        delete: bool,
    },
    /// Create, replace or delete a group of a tenant's users
    #[command(after_help = "Examples:
  guardian access group acme night-shift --role closer
  guardian access group acme night-shift --delete")]
    Group {
        /// Slug or id
        tenant: TenantRef,
        /// Its name
        group: GroupName,
        /// A role that its members have; several times for several
        #[arg(long = "role", value_name = "ROLE", required_unless_present = "delete")]
        roles: Vec<RoleName>,
        /// Delete it
        #[arg(long, conflicts_with = "roles")]
        delete: bool,
    },
    /// Say which roles and groups a user has, as a whole
    #[command(after_help = "Examples:
  guardian access user acme ada@acme.example --role reader --group night-shift
  guardian access user acme ada@acme.example --delete")]
    User {
        /// Slug or id
        tenant: TenantRef,
        /// Who: the subject of its tokens
        subject: Subject,
        /// A role of it; several times for several
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
        /// A group of it; several times for several
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<GroupName>,
        /// Take everything from it
        #[arg(long, conflicts_with_all = ["roles", "groups"])]
        delete: bool,
    },
    /// Explain which role allows somebody something, or why nothing does; exit code 1 when it is refused
    #[command(after_help = "Examples:
  guardian access explain acme ada@acme.example ticket.close
  guardian access explain acme key_01jd8v1n2c3p4q5r6s7t8v9w0x ticket.read --json")]
    Explain {
        /// Slug or id
        tenant: TenantRef,
        /// A user, or the id of an API key
        subject: Subject,
        /// What
        permission: PermissionName,
    },
}

impl Access {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let (state, done) = match self {
            Self::Show { tenant } => {
                return output.result(&client.access(tenant.as_str()).await?, |state| show(state, output));
            }
            Self::Explain { tenant, subject, permission } => {
                let told = client.explain_access(tenant.as_str(), &ExplainQuery { subject, permission }).await?;
                output.result(&told, |told| explained(told, output))?;
                return if told.allowed { Ok(()) } else { Err(Failure::new("refused").into()) };
            }
            Self::Role { tenant, role, delete: true, .. } => {
                (client.delete_access_role(tenant.as_str(), &role).await?, format!("the role {role} is deleted"))
            }
            Self::Role { tenant, role, permissions, delete: false } => {
                let body = PutAccessRole { permissions: permissions.into_iter().collect() };
                (client.put_access_role(tenant.as_str(), &role, &body).await?, format!("the role {role} is in force"))
            }
            Self::Group { tenant, group, delete: true, .. } => {
                (client.delete_access_group(tenant.as_str(), &group).await?, format!("the group {group} is deleted"))
            }
            Self::Group { tenant, group, roles, delete: false } => {
                let body = PutAccessGroup { roles: roles.into_iter().collect() };
                (client.put_access_group(tenant.as_str(), &group, &body).await?, format!("the group {group} is in force"))
            }
            Self::User { tenant, subject, delete: true, .. } => {
                let state = client.delete_access_user(tenant.as_str(), &subject).await?;
                (state, format!("{subject} has nothing any more"))
            }
            Self::User { tenant, subject, roles, groups, delete: false } => {
                let body = PutAccessUser { roles: roles.into_iter().collect(), groups: groups.into_iter().collect() };
                (client.put_access_user(tenant.as_str(), &subject, &body).await?, format!("{subject} has these by now"))
            }
        };
        output.result(&state, |_| output.done(done))
    }
}

fn show(state: &AccessState, output: Output) -> anyhow::Result<()> {
    let mut roles = Table::new(["role", "grants", "of"]);
    for role in &state.roles {
        let of = if role.is_built_in { "every tenant" } else { "this tenant" };
        let of = if role.reserved { format!("{of}, reserved") } else { of.to_owned() };
        roles.row([(&role.name).into(), joined(&role.permissions).into(), of.into()]);
    }
    output.table(roles)?;
    output.line("")?;
    let mut groups = Table::new(["group", "roles"]);
    for group in &state.groups {
        groups.row([(&group.name).into(), joined(&group.roles).into()]);
    }
    output.table(groups)?;
    output.line("")?;
    let mut users = Table::new(["user", "roles", "groups"]);
    for user in &state.users {
        users.row([(&user.subject).into(), joined(&user.roles).into(), joined(&user.groups).into()]);
    }
    output.table(users)
}

fn joined<T: ToString>(words: &BTreeSet<T>) -> String {
    if words.is_empty() { "-".to_owned() } else { words.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

fn explained(told: &AccessExplanation, output: Output) -> anyhow::Result<()> {
    let AccessExplanation { subject, permission, .. } = told;
    let listed = |roles: &[RoleName]| roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(", ");
    if told.allowed {
        output.marked(Mark::Good, format!("{subject} may {permission}"))?;
    } else {
        output.marked(Mark::Bad, format!("{subject} may not {permission}"))?;
    }
    let mut rows: Vec<(&str, Cell)> = Vec::new();
    for grant in &told.grants {
        let through = grant.group.as_ref().map(|group| format!(", through the group {group}")).unwrap_or_default();
        let whose = if grant.is_built_in { "which every tenant has" } else { "of this tenant" };
        rows.push(("the role", format!("{} ({whose}){through}", grant.role).into()));
    }
    if told.is_narrowed {
        rows.push(("but", "the API key is narrowed to other permissions".into()));
    }
    if !told.is_known {
        rows.push(("because", "the tenant names no such user, and has no such API key in force".into()));
    }
    if !told.allowed && !told.other_roles.is_empty() {
        rows.push(("its roles", format!("{}: none of them grants it", listed(&told.other_roles)).into()));
    }
    if !told.allowed && told.grants.is_empty() {
        let would =
            if told.roles_that_would.is_empty() { "no role there is".to_owned() } else { listed(&told.roles_that_would) };
        rows.push(("would grant it", would.into()));
    }
    let routes = if told.routes.is_empty() { "no route".to_owned() } else { told.routes.join(", ") };
    rows.push(("asked for by", routes.into()));
    output.table(Table::of_one(rows))
}
