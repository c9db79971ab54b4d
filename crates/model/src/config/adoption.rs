//! `[adoption]`: an application that runs already, as it is taken over without an outage.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An application that runs already.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adoption {
    /// The role that the application connects as today: the owner of its tables, or a member of it.
    pub existing_role: String,
    /// Tables without the tenant column, each with where it is to be found: in the table that says whose its rows are
    /// (`message = "ticket"`), or in another column of its own (`account = { own = "id" }`).
    #[serde(default)]
    pub parents: BTreeMap<String, Parent>,
    /// Milliseconds that a statement of an adoption waits for a lock, and so at most what the application waits behind it.
    #[serde(default = "lock_wait_ms_max")]
    pub lock_wait_ms_max: u32,
    /// How fast a new tenant column is filled.
    #[serde(default)]
    pub backfill: Backfill,
}

const fn lock_wait_ms_max() -> u32 {
    100
}

/// Where a row's tenant is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Parent {
    /// A table, by the one foreign key that leads to it.
    Table(String),
    /// Another column of the same row: the table of the tenants themselves, or one that calls the column otherwise.
    Own {
        /// The column.
        own: String,
    },
    /// A table, by these columns.
    Columns {
        /// The table.
        table: String,
        /// Columns of the child, each with the parent's column that it equals.
        columns: BTreeMap<String, String>,
    },
}

impl Parent {
    /// The other table, if it is one.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Table(table) | Self::Columns { table, .. } => Some(table),
            Self::Own { .. } => None,
        }
    }
}

/// Bounds on the filling of a new tenant column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backfill {
    /// Rows of one transaction, about.
    pub batch_rows: u32,
    /// Rows of one second at most; 0: as fast as it goes.
    pub rows_per_second_max: u32,
    /// It pauses while a standby is this many megabytes of log behind; 0: whatever it is.
    pub replication_lag_mb_max: u32,
    /// It vacuums the table when this share of its rows, in percent, is dead.
    pub dead_rows_percent_max: u8,
}

impl Default for Backfill {
    fn default() -> Self {
        Self { batch_rows: 5_000, rows_per_second_max: 20_000, replication_lag_mb_max: 64, dead_rows_percent_max: 20 }
    }
}

impl Adoption {
    /// What types cannot say. An error names the dotted key it is about.
    pub(super) fn check(&self, application: &str) -> Result<(), (String, String)> {
        let refuse = |key: &str, problem: String| Err((format!("adoption.{key}"), problem));
        let own = crate::placement::ApplicationRoles::of(application);
        if self.existing_role.is_empty() {
            return refuse("existing_role", "must name the role that the application connects as today".to_owned());
        }
        if [&own.app, &own.definer, &own.enter, &own.registry, &own.adopt].contains(&&self.existing_role) {
            let problem = format!("`{}` is one of Guardian's own roles for this application", self.existing_role);
            return refuse("existing_role", problem);
        }
        if !(10..=10_000).contains(&self.lock_wait_ms_max) {
            return refuse("lock_wait_ms_max", "must be 10 to 10000".to_owned());
        }
        if !(100..=100_000).contains(&self.backfill.batch_rows) {
            return refuse("backfill.batch_rows", "must be 100 to 100000".to_owned());
        }
        if !(1..=100).contains(&self.backfill.dead_rows_percent_max) {
            return refuse("backfill.dead_rows_percent_max", "must be 1 to 100".to_owned());
        }
        for (table, parent) in &self.parents {
            if parent.table() == Some(table) {
                return refuse(&format!("parents.{table}"), "a table cannot be its own parent".to_owned());
            }
            if matches!(parent, Parent::Columns { columns, .. } if columns.is_empty()) {
                return refuse(&format!("parents.{table}"), "must name the columns that lead to the parent".to_owned());
            }
        }
        Ok(())
    }
}
