//! Grants in a place that belongs to one tenant (schema or database isolation): its role owns nothing, reaches nothing else,
//! and needs no policies.

use guardian_model::TenantKey;

use super::{
    Declaration, Statement, functions,
    planner::{label, sql_name, statement},
};
use crate::{
    facts::{PlaceFacts, RelationKind},
    quote::{ident, literal},
};

/// What `role` needs in the place, and no more. Run it again after each migration: every statement is harmless twice.
pub fn grant_place(facts: &PlaceFacts, declaration: &Declaration, role: &str, key: &TenantKey) -> Vec<Statement> {
    let role = ident(role);
    let schema = ident(&facts.schema);
    let mut statements = vec![
        statement(
            &facts.database,
            format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", ident(&facts.database)),
            "a temporary object is found before others of its name",
        ),
        statement(
            &facts.database,
            format!("GRANT CONNECT ON DATABASE {} TO {role}", ident(&facts.database)),
            "the tenant's role connects",
        ),
        statement(&facts.schema, format!("REVOKE ALL ON SCHEMA {schema} FROM PUBLIC"), "the place is one tenant's"),
        statement(&facts.schema, format!("REVOKE CREATE ON SCHEMA {schema} FROM {role}"), "the role owns nothing"),
        statement(&facts.schema, format!("GRANT USAGE ON SCHEMA {schema} TO {role}"), "to name the tables in it"),
    ];
    for relation in facts.relations.iter().filter(|relation| !relation.extension) {
        let (object, name) = (label(relation), sql_name(relation));
        let is_global = declaration.global.contains_key(&relation.name) && relation.tenant.is_none();
        let (kind, rights, reason) = match relation.kind {
            RelationKind::Sequence => ("SEQUENCE", "USAGE", "column defaults draw from it"),
            RelationKind::MaterializedView | RelationKind::ForeignTable => ("TABLE", "SELECT", "read-only by nature"),
            RelationKind::Table | RelationKind::Partitioned if is_global => ("TABLE", "SELECT", "global: read-only"),
            RelationKind::Table | RelationKind::Partitioned | RelationKind::View => {
                ("TABLE", "SELECT, INSERT, UPDATE, DELETE", "the tenant's own rows; no TRUNCATE, TRIGGER or REFERENCES")
            }
        };
        statements.push(statement(&object, format!("REVOKE ALL ON {kind} {name} FROM PUBLIC, {role}"), "nobody else"));
        statements.push(statement(&object, format!("GRANT {rights} ON {kind} {name} TO {role}"), reason));
        if let Some(tenant) = relation.tenant.as_ref().filter(|tenant| !tenant.generated && !relation.partition) {
            let value = format!("{}::{}", literal(&key.to_string()).trim_start(), key.key_type().sql_type());
            if tenant.default.as_deref().map(normal_literal) != Some(normal_literal(&value)) {
                let column = ident(&declaration.tenant_column);
                let sql = format!("ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {value}");
                statements.push(statement(&object, sql, "an application need not name the tenant on insert"));
            }
        }
    }
    for function in &facts.functions {
        let (object, name) = (functions::label(function), functions::sql_name(function));
        if function.definer {
            let sql = format!("ALTER {name} SECURITY INVOKER");
            let reason = "the tenant's role has all rights it needs here; its owner's reach into other places";
            statements.push(statement(&object, sql, reason));
        }
        statements.push(statement(&object, format!("REVOKE ALL ON {name} FROM PUBLIC"), "nobody else"));
        statements.push(statement(&object, format!("GRANT EXECUTE ON {name} TO {role}"), "the application calls it"));
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
