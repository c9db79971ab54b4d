//! Grants in a place that belongs to one tenant (schema or database isolation): its role owns nothing, reaches nothing else,
//! and needs no policies.

use guardian_model::TenantKey;

use super::{
    Declaration, Statement, functions,
    planner::{Reasons, grants, label, sql_name, statement},
    policies::{column_grants, still_held},
};
use crate::{
    facts::{Grant, PlaceFacts, RelationKind},
    quote::{ident, literal},
};

const NOTHING: &[&str] = &[];
const READ: &[&str] = &["SELECT"];
const WRITE: &[&str] = &["DELETE", "INSERT", "SELECT", "UPDATE"];

/// What the place's role lacks or has too much there. Empty once it was applied, until something is new.
pub fn grant_place(facts: &PlaceFacts, declaration: &Declaration, key: &TenantKey) -> Vec<Statement> {
    let PlaceFacts { role, database, schema, relations, functions } = facts;
    let granted = |object: &str, on: String, held: &[Grant], rights: &[&str], grant: &str, revoke: &str| {
        grants(object, &on, held, &[(role, rights)], Reasons { grant, revoke })
    };
    // Whether PUBLIC may connect is decided where the database is made.
    let held: Vec<_> =
        database.grants.iter().filter(|grant| grant.grantee.is_some() || grant.privilege == "TEMPORARY").cloned().collect();
    let (on, temporary) =
        (format!("DATABASE {}", ident(&database.name)), "a temporary object is found before others of its name");
    let mut statements = granted(&database.name, on, &held, &["CONNECT"], "the tenant's role connects", temporary);
    let on = format!("SCHEMA {}", ident(&schema.name));
    statements.extend(granted(
        &schema.name,
        on,
        &schema.grants,
        &["USAGE"],
        "to name the tables in it",
        "the place is one tenant's",
    ));
    for relation in relations.iter().filter(|relation| !relation.extension) {
        let (object, name) = (label(relation), sql_name(relation));
        let is_global = declaration.global.contains_key(&relation.name) && relation.tenant.is_none();
        let is_closed = declaration.closed.contains_key(&relation.name) && relation.tenant.is_none();
        let (kind, rights, reason) = match relation.kind {
            RelationKind::Sequence => ("SEQUENCE", &["USAGE"][..], "column defaults draw from it"),
            RelationKind::MaterializedView | RelationKind::ForeignTable => ("TABLE", READ, "read-only by nature"),
            RelationKind::Table | RelationKind::Partitioned if is_closed => ("TABLE", NOTHING, "closed: no tenant reads it"),
            RelationKind::Table | RelationKind::Partitioned if is_global => ("TABLE", READ, "global: read-only"),
            RelationKind::Table | RelationKind::Partitioned | RelationKind::View => {
                ("TABLE", WRITE, "the tenant's own rows; no TRUNCATE, TRIGGER or REFERENCES")
            }
        };
        statements.extend(column_grants(relation, &object, &name));
        statements.extend(granted(&object, format!("{kind} {name}"), &still_held(relation), rights, reason, "nobody else"));
        if let Some(tenant) = relation.tenant.as_ref().filter(|tenant| !tenant.generated && !relation.partition) {
            let value = format!("{}::{}", literal(&key.to_string()).trim_start(), key.key_type().sql_type());
            if tenant.default.as_deref().map(normal_literal) != Some(normal_literal(&value)) {
                let column = ident(&declaration.tenant_column);
                let sql = format!("ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {value}");
                statements.push(statement(&object, sql, "an application need not name the tenant on insert"));
            }
        }
    }
    for function in functions {
        let (object, name) = (functions::label(function), functions::sql_name(function));
        if function.definer {
            let sql = format!("ALTER {name} SECURITY INVOKER");
            let reason = "the tenant's role has all rights it needs here; its owner's reach into other places";
            statements.push(statement(&object, sql, reason));
        }
        statements.extend(granted(&object, name, &function.grants, &["EXECUTE"], "the application calls it", "nobody else"));
    }
    statements
}

/// `5`, `5::bigint` and `'5'::bigint` are the same default.
fn normal_literal(expression: &str) -> String {
    expression
        .chars()
        .filter(|c| !matches!(c, '\'' | '(' | ')'))
        .collect::<String>()
        .split("::")
        .next()
        .unwrap_or_default()
        .to_owned()
}
