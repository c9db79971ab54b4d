//! `guardian.toml`: what a user declares, and the refusal of anything that is not understood.
//!
//! Parsing is pure; reading the file and the environment is the binary's business.

mod adoption;
mod audit;
mod error;
mod gateway;
mod http;
mod issuer;
mod migrations;
mod schema;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use adoption::{Adoption, Backfill, Parent};
pub use audit::AuditSchedule;
pub use error::ConfigError;
pub use gateway::{Gateway, Tls};
pub use http::{Http, HttpTls, NamedCertificate};
pub use issuer::{Algorithm, Issuer, IssuerDeclaration, Keys};
pub use migrations::{PARALLEL_MAX, REST_RING, Ring, Rollout, SHARED_RING, SharedTurn};
pub use schema::json_schema;

use crate::{
    ClusterName, Isolation, KeyType, Limits, Place, Pooling, Slug, Tier, TierName,
    tier::{WEIGHT_DEFAULT, WEIGHT_MAX},
};

/// Each takes some megabytes of disk.
const WARM_DATABASES_MAX: u8 = 100;

/// The whole of `guardian.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "guardian.toml")]
pub struct Config {
    /// The control plane.
    #[serde(default)]
    pub control: Control,
    /// The PostgreSQL servers that hold tenants' data. Left out: one named `local`, run by Guardian itself.
    #[serde(default)]
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// The application whose tenants Guardian keeps apart.
    pub application: Application,
    /// The adoption of an application that runs already; left out once it is finished.
    #[serde(default)]
    pub adoption: Option<Adoption>,
    /// The SQL gateway.
    #[serde(default)]
    pub gateway: Gateway,
    /// The API gateway.
    #[serde(default)]
    pub http: Http,
    /// The audit of the shared tables on a schedule.
    #[serde(default)]
    pub audit: AuditSchedule,
    /// The application's migrations over all places.
    #[serde(default)]
    pub migrations: Rollout,
    /// Whose signed identities the gateways believe, by a name of your choice.
    #[serde(default)]
    pub issuers: BTreeMap<String, IssuerDeclaration>,
    /// Tiers by name. A tier declared here cannot be changed over the API.
    #[serde(default)]
    pub tiers: BTreeMap<TierName, TierDeclaration>,
}

/// The control plane.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Guardian's own database (`postgres://…`). Left out: a database on the local cluster, which `guardian up` runs itself.
    pub database_url: Option<String>,
    /// Where the API listens.
    pub listen: String,
    /// The file with the master key (64 hexadecimal digits, mode 0600); `GUARDIAN_MASTER_KEY` outranks it.
    /// Left out: `master.key` in the state folder, made on first start for the local cluster.
    pub master_key_file: Option<String>,
    /// The file with the master key that was in use before, while `guardian key rotate` seals everything anew;
    /// `GUARDIAN_MASTER_KEY_PREVIOUS` outranks it. Left out: there is only one key.
    pub master_key_file_previous: Option<String>,
    /// Seconds between the deletion of a tenant and the removal of its data.
    pub delete_grace_seconds: u32,
    /// Seconds after which another process may take over an operation whose worker has fallen silent.
    pub lease_seconds: u16,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            database_url: None,
            listen: "127.0.0.1:7117".to_owned(),
            master_key_file: None,
            master_key_file_previous: None,
            delete_grace_seconds: 7 * 24 * 3600,
            lease_seconds: 10,
        }
    }
}

/// A PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// An administrator's URL (`postgres://…`), or `local` for the cluster that `guardian up` runs itself.
    ///
    /// Its `sslmode` also says how the SQL gateway speaks to the server. Left out: in clear over a unix socket or to a loopback
    /// address, `verify-full` with the system's authorities to any other. `disable`: in clear. Every other mode is `verify-full`
    /// for the gateway, because the weaker ones stop nobody who can redirect a connection. `sslrootcert` names a file (absolute,
    /// PEM) of the authorities to believe instead of the system's.
    pub url: String,
    /// The slug of the one tenant (isolation `cluster`) this server is for.
    #[serde(default)]
    pub reserved_for: Option<Slug>,
    /// How many databases with the application's migrations wait here for new `database` and `cluster` tenants, up to 100; they
    /// are made again in the background. With 0 there is only the template that new ones are copied from. Left out: neither.
    #[serde(default)]
    pub warm_databases: Option<u8>,
}

/// The application and its schema.
#[derive(Debug, Clone, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Names the application's roles (`helpdesk_app` …); 1 to 30 of a-z, 0-9 and _, starting with a letter.
    pub name: String,
    /// The cluster that holds the shared tables; may be left out when there is only one.
    #[serde(default)]
    pub cluster: Option<ClusterName>,
    /// The database that holds the shared tables; the application's name when left out.
    #[serde(default)]
    pub database: Option<String>,
    /// The schema that holds the shared tables.
    #[serde(default = "public")]
    pub schema: String,
    /// The folder of SQL migrations (`0001_name.sql` …), relative to `guardian.toml`.
    #[serde(default)]
    pub migrations: Option<String>,
    /// The column that names the tenant.
    #[serde(default = "tenant_id")]
    pub tenant_column: String,
    /// Its type.
    #[serde(default)]
    pub tenant_key: KeyType,
    /// Tables that belong to no tenant, each with the reason. The application may read them, not write them.
    #[serde(default)]
    pub global: BTreeMap<String, String>,
    /// Tables that belong to no tenant and that no tenant reads either, each with the reason: people and their passwords, for
    /// example. The application reaches them by a role of its own, past the SQL gateway.
    #[serde(default)]
    pub closed: BTreeMap<String, String>,
    /// What becomes of unique and primary keys without the tenant column, by constraint or index name.
    #[serde(default)]
    pub keys: BTreeMap<String, KeyDecision>,
    /// The form of the policy by table; left out: chosen from statistics.
    #[serde(default)]
    pub policy_form: BTreeMap<String, PolicyForm>,
}

fn public() -> String {
    "public".to_owned()
}

fn tenant_id() -> String {
    "tenant_id".to_owned()
}

/// What becomes of a unique or primary key without the tenant column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyDecision {
    /// Put the tenant column in front.
    Composite,
    /// Keep it unique over all tenants, for this reason; a tenant can then learn that a value is taken.
    Global(String),
}

/// How a policy reads the tenant context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyForm {
    /// `col = current_setting(…)::type`: best for index access.
    Direct,
    /// `col = (SELECT current_setting(…)::type)`: best for sequential scans.
    Wrapped,
}

/// A tier, as declared.
#[derive(Debug, Clone, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierDeclaration {
    /// Where its tenants' data lives.
    pub isolation: Isolation,
    /// Relative share under contention, 1 to 1000.
    #[serde(default = "weight")]
    pub weight: u16,
    /// Bounds on one tenant.
    #[serde(default)]
    pub limits: Limits,
    /// How long the SQL gateway lends a server connection to a client.
    #[serde(default)]
    pub pooling: Pooling,
    /// Feature flags.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
}

const fn weight() -> u16 {
    WEIGHT_DEFAULT
}

/// The name of the cluster that Guardian runs itself.
pub const LOCAL: &str = "local";

impl Config {
    /// Reads and checks a configuration; `file` is only named in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|source| ConfigError::from_toml(file, text, &source))?;
        if config.clusters.is_empty()
            && let Ok(name) = LOCAL.parse()
        {
            config.clusters.insert(name, Cluster { url: LOCAL.to_owned(), reserved_for: None, warm_databases: None });
        }
        config.check().map_err(|(key, problem)| ConfigError::new(file, text, &key, &problem))?;
        Ok(config)
    }

    /// Reads and checks `[gateway]` and `[http]` alone, for a gateway that runs by itself; the rest of the file is not looked
    /// at.
    pub fn parse_gateway(file: &str, text: &str) -> Result<(Gateway, Http), ConfigError> {
        #[derive(Deserialize)]
        struct Only {
            #[serde(default)]
            gateway: Gateway,
            #[serde(default)]
            http: Http,
        }
        let Only { gateway, http } = toml::from_str(text).map_err(|source| ConfigError::from_toml(file, text, &source))?;
        let checked = gateway.check().and_then(|()| http.check());
        checked.map_err(|(key, problem)| ConfigError::new(file, text, &key, &problem))?;
        Ok((gateway, http))
    }

    /// Whether Guardian has to run a cluster of its own.
    pub fn needs_local_cluster(&self) -> bool {
        self.control.database_url.is_none() || self.clusters.values().any(|cluster| cluster.url == LOCAL)
    }

    /// The place of the shared tables.
    pub fn shared_place(&self) -> Place {
        let cluster = self.application.cluster.clone().or_else(|| self.clusters.keys().next().cloned());
        Place {
            // `check` has refused a configuration without a cluster.
            cluster: cluster.unwrap_or_else(|| unreachable!("a checked configuration has a cluster")),
            database: self.application.database.clone().unwrap_or_else(|| self.application.name.clone()),
            schema: self.application.schema.clone(),
        }
    }

    /// The cluster reserved for a tenant.
    pub fn cluster_reserved_for(&self, slug: &Slug) -> Option<&ClusterName> {
        self.clusters.iter().find(|(_, cluster)| cluster.reserved_for.as_ref() == Some(slug)).map(|(name, _)| name)
    }

    /// The declared tiers as the store keeps them.
    pub fn declared_tiers(&self) -> Vec<Tier> {
        self.tiers
            .iter()
            .map(|(name, tier)| Tier {
                name: name.clone(),
                isolation: tier.isolation,
                weight: tier.weight,
                limits: tier.limits,
                pooling: tier.pooling,
                features: tier.features.clone(),
                declared: true,
            })
            .collect()
    }

    /// What types cannot say. An error names the dotted key it is about.
    fn check(&self) -> Result<(), (String, String)> {
        let name = &self.application.name;
        let name_is_sound = name.len() <= 30
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !name_is_sound {
            return Err(("application.name".to_owned(), "use 1 to 30 of a-z, 0-9 and _, starting with a letter".to_owned()));
        }
        if let Err(error) = self.control.listen.parse::<std::net::SocketAddr>() {
            return Err(("control.listen".to_owned(), format!("{error}; write `127.0.0.1:7117`")));
        }
        if self.control.lease_seconds == 0 {
            return Err(("control.lease_seconds".to_owned(), "must be 1 or more".to_owned()));
        }
        if self.application.tenant_column.is_empty() {
            return Err(("application.tenant_column".to_owned(), "must name a column".to_owned()));
        }
        match &self.application.cluster {
            Some(cluster) if !self.clusters.contains_key(cluster) => {
                let known = self.clusters.keys().map(ClusterName::as_str).collect::<Vec<_>>().join("`, `");
                return Err((
                    "application.cluster".to_owned(),
                    format!("there is no [clusters.{cluster}]; known: `{known}`"),
                ));
            }
            Some(cluster) if self.clusters[cluster].reserved_for.is_some() => {
                let problem = format!("[clusters.{cluster}] is reserved for one tenant and cannot hold the shared tables");
                return Err(("application.cluster".to_owned(), problem));
            }
            None if self.clusters.len() > 1 => {
                let problem = "name the cluster of the shared tables: there are several".to_owned();
                return Err(("application.cluster".to_owned(), problem));
            }
            Some(_) | None => {}
        }
        for (name, cluster) in &self.clusters {
            if cluster.url != LOCAL && !cluster.url.starts_with("postgres://") && !cluster.url.starts_with("postgresql://") {
                let problem = "must be a `postgres://` URL, or `local`".to_owned();
                return Err((format!("clusters.{name}.url"), problem));
            }
            if cluster.warm_databases.is_some_and(|count| count > WARM_DATABASES_MAX) {
                return Err((format!("clusters.{name}.warm_databases"), format!("must be {WARM_DATABASES_MAX} or less")));
            }
        }
        self.gateway.check()?;
        self.http.check()?;
        self.migrations.check()?;
        if let Some(adoption) = &self.adoption {
            adoption.check(name)?;
        }
        issuer::check_all(&self.issuers)?;
        for (name, tier) in &self.tiers {
            if tier.weight == 0 || tier.weight > WEIGHT_MAX {
                return Err((format!("tiers.{name}.weight"), format!("must be 1 to {WEIGHT_MAX}")));
            }
        }
        let reasons = self.application.global.iter().map(|(table, reason)| (format!("application.global.{table}"), reason));
        let closed = self.application.closed.iter().map(|(table, reason)| (format!("application.closed.{table}"), reason));
        if let Some(both) = self.application.closed.keys().find(|table| self.application.global.contains_key(*table)) {
            let problem = "it is global, too: either every tenant reads it, or none does".to_owned();
            return Err((format!("application.closed.{both}"), problem));
        }
        for (key, reason) in closed {
            if reason.trim().is_empty() {
                return Err((key, "say why it is closed; the reason is shown in every report".to_owned()));
            }
        }
        let keys = self.application.keys.iter().filter_map(|(key, decision)| match decision {
            KeyDecision::Global(reason) => Some((format!("application.keys.{key}"), reason)),
            KeyDecision::Composite => None,
        });
        for (key, reason) in reasons.chain(keys) {
            if reason.trim().is_empty() {
                return Err((key, "say why it is global; the reason is shown in every report".to_owned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
