//! Counts for `guardian status`.

use std::collections::BTreeMap;

use crate::{
    Store,
    error::{Doing, StoreError},
};

/// How much there is of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Tenants by the word of their state; states without tenants are left out.
    pub tenants: BTreeMap<String, i64>,
    /// Operations that are not over.
    pub operations_live: i64,
    /// Incidents that are open.
    pub incidents_open: i64,
}

impl Store {
    /// Counts tenants, live operations and open incidents.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        const DOING: &str = "count tenants";
        let tenants: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM tenant GROUP BY state").fetch_all(&self.pool).await.doing(DOING)?;
        let (operations_live, incidents_open) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM operation WHERE state IN ('running', 'undoing', 'stuck')),
                    (SELECT count(*) FROM incident WHERE closed_at IS NULL)",
        )
        .fetch_one(&self.pool)
        .await
        .doing(DOING)?;
        Ok(Counts { tenants: tenants.into_iter().collect(), operations_live, incidents_open })
    }

    /// Whether the control database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await.doing("answer").map(drop)
    }
}
