//! `guardian route`: the routes of the API gateway, and the roles that every tenant has.

use guardian_client::Client;
use guardian_model::{
    HostName, PermissionName, RoleName, RouteName, UpstreamName,
    access_api::{HttpDeclaration, PutRoute, VersionQuery},
    http::{HttpMethod, HttpRole},
};

use super::word_of;
use crate::output::{Cell, Mark, Output, Table};

/// List and change the routes of the API gateway, and the roles of every tenant
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Route {
    /// List the routes, and where each was declared
    #[command(after_help = "Examples:\n  guardian route list\n  guardian route list --json")]
    List,
    /// Create or replace a route, on every gateway at once; it goes before one of guardian.toml with its name
    #[command(after_help = "Examples:
  guardian route put tickets '/tickets/{id}' --method GET --upstream app --permission ticket.read
  guardian route put health /healthz --upstream app --public")]
    Put(Box<Put>),
    /// Delete a route that was put; one of guardian.toml with its name is in force again
    #[command(after_help = "Examples:\n  guardian route delete tickets")]
    Delete {
        /// Its name
        route: RouteName,
        #[command(flatten)]
        version: Version,
    },
    /// List the roles that every tenant has
    #[command(after_help = "Examples:\n  guardian route roles")]
    Roles,
    /// Create or replace a role that every tenant has
    #[command(after_help = "Examples:
  guardian route put-role agent ticket.read ticket.write
  guardian route put-role support billing.refund --reserved")]
    PutRole {
        /// Its name
        role: RoleName,
        /// What it grants
        #[arg(value_name = "PERMISSION", required = true)]
        permissions: Vec<PermissionName>,
        /// A tenant's administrator cannot give it, nor what only such roles grant
        #[arg(long)]
        reserved: bool,
        #[command(flatten)]
        version: Version,
    },
    /// Delete a role that was put; one of guardian.toml with its name is in force again
    #[command(after_help = "Examples:\n  guardian route delete-role agent")]
    DeleteRole {
        /// Its name
        role: RoleName,
        #[command(flatten)]
        version: Version,
    },
}

/// Against changes that somebody else makes meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// Only if this version is still in force, as `list --json` tells it
    #[arg(long = "if-version", value_name = "VERSION")]
    version: Option<u64>,
}

impl Version {
    fn query(&self) -> VersionQuery {
        VersionQuery { version: self.version }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    /// Its name
    route: RouteName,
    /// The path: '/tickets/{id}', '/files/{*rest}'
    path: String,
    /// Where its requests go: an upstream of guardian.toml
    #[arg(long)]
    upstream: UpstreamName,
    /// What somebody needs to be allowed
    #[arg(long, required_unless_present = "public", conflicts_with = "public")]
    permission: Option<PermissionName>,
    /// Anybody may
    #[arg(long)]
    public: bool,
    /// A host it is for; several times for several, left out: all
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<HostName>,
    /// A method; several times for several, left out: all
    #[arg(long = "method", value_name = "METHOD", value_parser = word_of!(HttpMethod))]
    methods: Vec<HttpMethod>,
    /// Requests a minute of one tenant on this route
    #[arg(long, value_name = "COUNT")]
    requests_per_minute: Option<u32>,
    /// Seconds until the answer has to begin
    #[arg(long, value_name = "SECONDS")]
    response_seconds: Option<u32>,
    #[command(flatten)]
    version: Version,
}

impl Route {
    pub(crate) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let (declared, done) = match self {
            Self::List => return output.result(&client.http_declaration().await?, |http| routes(http, output)),
            Self::Roles => return output.result(&client.http_declaration().await?, |http| roles(http, output)),
            Self::Put(put) => {
                let (route, query) = (put.route.clone(), put.version.query());
                let body = put.into_body();
                (client.put_route(&route, &query, &body).await?, format!("the route {route} is in force"))
            }
            Self::Delete { route, version } => {
                (client.delete_route(&route, &version.query()).await?, format!("the route {route} is deleted"))
            }
            Self::PutRole { role, permissions, reserved, version } => {
                let body = HttpRole { permissions: permissions.into_iter().collect(), reserved };
                (client.put_role(&role, &version.query(), &body).await?, format!("the role {role} is in force"))
            }
            Self::DeleteRole { role, version } => {
                (client.delete_role(&role, &version.query()).await?, format!("the role {role} is deleted"))
            }
        };
        output.result(&declared, |_| output.done(done))
    }
}

impl Put {
    fn into_body(self) -> PutRoute {
        PutRoute {
            hosts: self.hosts.into_iter().collect(),
            path: self.path,
            methods: self.methods.into_iter().collect(),
            upstream: self.upstream,
            permission: self.permission,
            public: self.public,
            requests_per_minute_max: self.requests_per_minute,
            response_seconds_max: self.response_seconds,
        }
    }
}

fn routes(http: &HttpDeclaration, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["route", "path", "methods", "hosts", "upstream", "needs", "declared in"]);
    for declared in &http.routes {
        let route = &declared.route;
        let all = |words: Vec<&str>| if words.is_empty() { "all".to_owned() } else { words.join(", ") };
        let place = match &declared.left_out {
            Some(_) => Cell::marked(Some(Mark::Bad), format!("{}: not in force", declared.declared_in.as_str())),
            None => declared.declared_in.as_str().into(),
        };
        table.row([
            (&route.name).into(),
            (&route.path).into(),
            all(route.methods.iter().map(|method| method.as_str()).collect()).into(),
            all(route.hosts.iter().map(HostName::as_str).collect()).into(),
            (&route.upstream).into(),
            route.permission.as_ref().map_or_else(|| "nothing: public".to_owned(), ToString::to_string).into(),
            place,
        ]);
    }
    output.table(table)?;
    for declared in &http.routes {
        if let Some(reason) = &declared.left_out {
            output.remark(format!("{} is not in force, and its requests are refused: {reason}", declared.route.name));
        }
    }
    Ok(())
}

fn roles(http: &HttpDeclaration, output: Output) -> anyhow::Result<()> {
    let mut table = Table::new(["role", "grants", "reserved", "declared in"]);
    for declared in &http.roles {
        let grants: Vec<&str> = declared.role.permissions.iter().map(PermissionName::as_str).collect();
        table.row([
            (&declared.name).into(),
            grants.join(", ").into(),
            if declared.role.reserved { "yes" } else { "no" }.into(),
            declared.declared_in.as_str().into(),
        ]);
    }
    output.table(table)
}
