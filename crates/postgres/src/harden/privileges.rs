//! Schemas, the database and default privileges: nothing can be made in them, and what is new is closed.

use super::planner::{Planner, Reasons, grants, statement};
use crate::quote::ident;

const USAGE: &[&str] = &["USAGE"];

impl Planner<'_> {
    /// First of all, so that no object made later is born open.
    pub(super) fn harden_default_privileges(&mut self) {
        let mut statements = Vec::new();
        for default in &self.facts.default_privileges {
            let kind = match default.kind {
                'r' => "TABLES",
                'S' => "SEQUENCES",
                _ => "FUNCTIONS",
            };
            let schema = default.schema.as_ref().map_or_else(String::new, |schema| format!(" IN SCHEMA {}", ident(schema)));
            let grantee = default.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), ident);
            let sql = format!(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {}{schema} REVOKE ALL ON {kind} FROM {grantee}",
                ident(&default.owner)
            );
            let object = format!("new {} of {}", kind.to_lowercase(), default.owner);
            let closed = statement(&object, sql, "a new table is closed until apply has hardened it");
            statements.push(if default.grantee.is_some() { closed.inert() } else { closed.last() });
        }
        self.transaction(statements);
    }

    /// CREATE and TEMP from everybody, USAGE to the application.
    pub(super) fn harden_schemas(&mut self) {
        let roles = &self.declaration.roles;
        let facts = self.facts;
        let mut statements = Vec::new();
        for schema in facts.schemas.iter().filter(|schema| schema.name != "guardian") {
            let is_ours = schema.name == self.declaration.schema;
            let users = [roles.app(), roles.definer(), roles.door(), roles.door_write()].map(|role| (role, USAGE));
            let wanted: &[(&str, &[&str])] = if is_ours { &users } else { &[] };
            let reasons = Reasons {
                grant: "to name the tables in it",
                revoke: "who can create there can put an object of its own in front of another's",
            };
            // PUBLIC's right to look into a schema opens no object by itself, and others than the application live by it.
            let held: Vec<_> = schema
                .grants
                .iter()
                .filter(|grant| !(grant.grantee.is_none() && grant.privilege == "USAGE"))
                .cloned()
                .collect();
            statements.extend(grants(&schema.name, &format!("SCHEMA {}", ident(&schema.name)), &held, wanted, reasons));
        }
        let database = &facts.database;
        let connects = |grantee: Option<&str>| {
            database.grants.iter().any(|grant| grant.grantee.as_deref() == grantee && grant.privilege == "CONNECT")
        };
        // CONNECT stays whoever has it; the application needs it in some way.
        let held: Vec<_> = database.grants.iter().filter(|grant| grant.privilege != "CONNECT").cloned().collect();
        let reasons = Reasons {
            grant: "",
            revoke: "a temporary object outlives its transaction, and is found before others of its name",
        };
        statements.extend(grants(&database.name, &format!("DATABASE {}", ident(&database.name)), &held, &[], reasons));
        for (role, reason) in [
            (roles.app(), "the application connects"),
            (roles.door(), "sessions through the door connect"),
            (roles.door_write(), "sessions through the door connect"),
        ] {
            if !connects(None) && !connects(Some(role)) {
                let sql = format!("GRANT CONNECT ON DATABASE {} TO {}", ident(&database.name), ident(role));
                statements.push(statement(&database.name, sql, reason).inert());
            }
        }
        self.transaction(statements);
    }
}
