//! The role that serves the application while it is adopted: the old role in effect, and subject to the policies of every
//! table that is enforced already.

use crate::{
    facts::Facts,
    harden::{Batch, Declaration, Refusal, Statement, planner::statement, roles::quiet_log},
    quote::ident,
};

/// What forbids to stand in for the application's role.
pub(super) fn refusals(facts: &Facts, declaration: &Declaration) -> Vec<Refusal> {
    let refuse = |problem: &str, way_out: String| {
        vec![Refusal { object: "adoption.existing_role".to_owned(), problem: problem.to_owned(), ways_out: vec![way_out] }]
    };
    let Some(adoption) = &declaration.adoption else {
        return refuse(
            "guardian.toml does not say which role the application connects as today",
            "[adoption]\nexisting_role = \"shop_owner\"".to_owned(),
        );
    };
    let name = &adoption.existing_role;
    let Some(role) = facts.role(name) else {
        return refuse(&format!("there is no role `{name}` on the server"), "correct the name in guardian.toml".to_owned());
    };
    if role.superuser || role.replicates || role.creates_roles {
        let what = if role.superuser { "a superuser" } else { "more than an application needs" };
        return refuse(
            &format!("`{name}` is {what}: whoever stands in for it could switch every protection off"),
            format!(
                "ALTER ROLE {} NOSUPERUSER NOCREATEROLE NOREPLICATION, or give the tables to a role of their own: \
                     REASSIGN OWNED BY … TO …",
                ident(name)
            ),
        );
    }
    Vec::new()
}

/// Makes the role and lets it log in. `serve`: as a member of the application's role; otherwise of Guardian's alone.
pub(super) fn batches(facts: &Facts, declaration: &Declaration, serve: bool) -> Option<Batch> {
    let adoption = declaration.adoption.as_ref()?;
    let roles = &declaration.roles;
    let (adopt, app, existing) = (roles.adopt(), roles.app(), adoption.existing_role.as_str());
    let found = facts.role(adopt);
    if found.is_none() && !serve {
        return None;
    }
    let name = ident(adopt);
    let mut statements = Vec::new();
    if found.is_none() {
        let sql = format!("CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS");
        statements.push(statement(adopt, sql, "the gateway serves the application as it until every table is enforced"));
        if !facts.server.superuser {
            let sql = format!("GRANT {name} TO {}", ident(&facts.server.admin));
            statements.push(statement(adopt, sql, "the administrator gives away what it owns when the adoption is over"));
        }
    } else if found.is_some_and(|role| !role.logs_in) {
        statements.push(statement(adopt, format!("ALTER ROLE {name} LOGIN"), "the gateway logs in as it"));
    }
    let is_member = |role: &str| facts.memberships.iter().any(|one| one.role == role && one.member == adopt);
    if !is_member(app) {
        let sql = format!("GRANT {} TO {name}", ident(app));
        statements.push(statement(adopt, sql, "policies apply to it on a table from the moment that they are forced"));
    }
    match (is_member(existing), serve) {
        (false, true) => {
            let sql = format!("GRANT {} TO {name}", ident(existing));
            statements.push(statement(adopt, sql, "it may do what the application may do today"));
        }
        (true, false) => {
            let sql = format!("REVOKE {} FROM {name}", ident(existing));
            statements.push(statement(adopt, sql, "every table is enforced: nobody stands in for the owner any more"));
        }
        (_, _) => {}
    }
    statements.extend(quiet_log(facts, adopt));
    let statements: Vec<_> = statements.into_iter().map(Statement::inert).collect();
    (!statements.is_empty()).then_some(Batch::Transaction(statements))
}
