//! Rows that could not live under the policies: without a tenant, or with a key that the register cannot carry.
//!
//! The only facts read from the user's own tables, and only from those that are not hardened yet.

use guardian_model::KeyType;
use serde::Deserialize;
use sqlx::PgConnection;

use super::{
    Oid, PolicyFacts, RelationFacts, RelationKind,
    collect::{CollectError, Scope, rows},
};
use crate::{
    harden::POLICY_TENANT,
    quote::{ident, qualified},
};

#[derive(Deserialize)]
struct Counted {
    oid: Oid,
    nulls: i64,
    unfit: i64,
}

/// The server's parser recurses into each branch of a union.
const TABLES_AT_ONCE: usize = 500;

/// Fills in `nulls` and `unfit`.
pub(super) async fn count(
    connection: &mut PgConnection,
    scope: &Scope<'_>,
    relations: &mut [RelationFacts],
    policies: &[PolicyFacts],
) -> Result<(), CollectError> {
    let column = ident(&scope.declaration.tenant_column);
    let unfit = match scope.declaration.tenant_key {
        KeyType::Uuid => None,
        KeyType::Bigint => Some(format!("{column} < 0")),
        KeyType::Text => Some(format!("{column}::text !~ '^[0-9A-Za-z_.-]{{1,200}}$'")),
    };
    let wanted_types = scope.declaration.column_types();
    let queries: Vec<String> = relations
        .iter()
        .filter(|relation| !relation.partition && !relation.extension && relation.schema != "guardian")
        .filter_map(|relation| {
            let tenant = relation.tenant.as_ref()?;
            let hardened = policies.iter().any(|policy| policy.table == relation.oid && policy.name == POLICY_TENANT);
            let unfit = unfit.as_deref().filter(|_| !hardened && wanted_types.contains(&tenant.base_type.as_str()));
            if tenant.not_null && unfit.is_none() {
                return None;
            }
            let only = if relation.kind == RelationKind::Partitioned { "" } else { "ONLY " };
            Some(format!(
                "SELECT {}::int8 AS oid, count(*) FILTER (WHERE {column} IS NULL) AS nulls, \
                 count(*) FILTER (WHERE {}) AS unfit FROM {only}{}",
                relation.oid,
                unfit.unwrap_or("false"),
                qualified(&relation.schema, &relation.name)
            ))
        })
        .collect();
    for batch in queries.chunks(TABLES_AT_ONCE) {
        let counted: Vec<Counted> = rows(connection, "the tenant keys", &batch.join(" UNION ALL "), |query| query).await?;
        for Counted { oid, nulls, unfit } in counted {
            for relation in relations.iter_mut().filter(|relation| relation.oid == oid) {
                if let Some(tenant) = &mut relation.tenant {
                    tenant.nulls = nulls;
                    tenant.unfit = unfit;
                }
            }
        }
    }
    Ok(())
}
