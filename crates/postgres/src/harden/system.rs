//! What PostgreSQL itself opens to every role, and one role shared by all tenants should not have.

use super::{
    Statement,
    planner::{Planner, statement},
};
use crate::quote::{ident, qualified};

const STATEMENTS_ARE_SHARED: &str = "all tenants' statements are of one role, which sees its own";

impl Planner<'_> {
    /// System functions, and relations outside the application's schema.
    pub(super) fn harden_system(&mut self) {
        let mut statements = Vec::new();
        if self.facts.server.superuser {
            for function in &self.facts.open_system_functions {
                let (successor, reason) = match function.name.as_str() {
                    "pg_terminate_backend" | "pg_cancel_backend" => {
                        (Some("pg_signal_backend"), "all tenants' sessions are of one role, which may end its own")
                    }
                    name if name.starts_with("pg_stat_") => (Some("pg_read_all_stats"), STATEMENTS_ARE_SHARED),
                    name if name.starts_with("dblink") => {
                        (None, "its connections outlive the tenant that opened them, and lead past this server's policies")
                    }
                    _ => (None, "large objects belong to roles, not to tenants"),
                };
                let sql = format!("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC", function.signature);
                statements.push(statement(&function.signature, sql, reason));
                if let Some(successor) = successor {
                    let sql = format!("GRANT EXECUTE ON FUNCTION {} TO {successor}", function.signature);
                    statements.push(statement(&function.signature, sql, "monitoring goes on"));
                }
            }
        } else if !self.facts.open_system_functions.is_empty() {
            let names: Vec<&str> = self.facts.open_system_functions.iter().map(|function| function.name.as_str()).collect();
            self.note(
                "pg_catalog",
                format!("PUBLIC may call {}; only a superuser can take that away", names.join(", ")),
                vec!["let a superuser run `guardian apply` once".to_owned()],
            );
        }
        let app = self.declaration.roles.app();
        for relation in &self.facts.reachable_elsewhere {
            let name = qualified(&relation.schema, &relation.name);
            let object = format!("{}.{}", relation.schema, relation.name);
            if !relation.to_public {
                let sql = format!("REVOKE ALL ON TABLE {name} FROM {}", ident(app));
                statements.push(statement(&object, sql, "it is outside the application's schema, and no policy guards it"));
            } else if relation.shows_statements {
                let sql = format!("REVOKE ALL ON TABLE {name} FROM PUBLIC");
                statements.push(statement(&object, sql, STATEMENTS_ARE_SHARED));
                let sql = format!("GRANT SELECT ON TABLE {name} TO pg_read_all_stats");
                statements.push(statement(&object, sql, "monitoring goes on"));
            } else {
                self.note(
                    object,
                    "it is outside the application's schema and open to PUBLIC, so every tenant reaches it",
                    vec![format!("REVOKE ALL ON TABLE {name} FROM PUBLIC, then grant it to those who need it")],
                );
            }
        }
        self.transaction(statements.into_iter().map(Statement::last).collect());
    }
}
