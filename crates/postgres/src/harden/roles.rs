//! The application's roles: none may pass row-level security, and none may become a role that does.

use std::collections::BTreeSet;

use super::{
    Statement,
    planner::{Planner, statement},
};
use crate::{
    facts::{Facts, RoleFacts, RoleSetting},
    quote::ident,
};

/// Bind parameters carry capabilities; the server's log shall not.
pub(crate) const QUIET_LOG: [&str; 2] = ["log_parameter_max_length", "log_parameter_max_length_on_error"];

impl Planner<'_> {
    /// Roles, their memberships and their settings.
    pub(super) fn harden_roles(&mut self) {
        let roles = &self.declaration.roles;
        let purposes = [
            (roles.app(), true, "the application connects as it; it owns nothing, so policies apply to it"),
            (
                roles.definer(),
                false,
                "owns the application's SECURITY DEFINER functions, so that policies apply inside them",
            ),
            (roles.enter(), false, "owns the functions that set the tenant context, and nothing else"),
            (roles.registry(), false, "owns the registry of capabilities"),
            (roles.door(), false, "reads across tenants; its members are sessions that came through the door"),
            (roles.door_write(), false, "the same, and writes"),
        ];
        let mut statements = Vec::new();
        for (name, logs_in, purpose) in purposes {
            statements.extend(match self.facts.role(name) {
                None => vec![create(name, logs_in, purpose)],
                Some(role) => repair(role, logs_in),
            });
            // Nothing is given to the door's.
            if [roles.door(), roles.door_write()].contains(&name) {
                continue;
            }
            // A superuser may give objects to anybody; others only to roles they are a member of.
            if !self.facts.server.superuser && !self.facts.role(name).is_some_and(|role| role.admin_is_member) {
                let sql = format!("GRANT {} TO {}", ident(name), ident(&self.facts.server.admin));
                statements.push(statement(name, sql, "the administrator gives objects to it"));
            }
        }
        statements.extend(self.ownership());
        statements.extend(self.memberships());
        statements.extend(self.settings());
        self.inert_transaction(statements);
        self.transaction(self.end_of_adoption());
    }

    /// The role that served the application meanwhile goes, with all that it owns handed to the role it stood for.
    fn end_of_adoption(&self) -> Vec<Statement> {
        let adopt = self.declaration.roles.adopt();
        if self.facts.role(adopt).is_none() {
            return Vec::new();
        }
        let heir = self.declaration.adoption.as_ref().map_or(&self.facts.server.admin, |adoption| &adoption.existing_role);
        let (name, heir) = (ident(adopt), ident(heir));
        let reason = "the adoption is over: nobody serves the application as its old role";
        [format!("REASSIGN OWNED BY {name} TO {heir}"), format!("DROP OWNED BY {name}"), format!("DROP ROLE {name}")]
            .into_iter()
            .map(|sql| statement(adopt, sql, reason).last())
            .collect()
    }

    fn ownership(&self) -> Option<Statement> {
        let (app, admin) = (self.declaration.roles.app(), &self.facts.server.admin);
        let count = self.facts.owned_by_application;
        (count > 0).then(|| {
            let sql = format!("REASSIGN OWNED BY {} TO {}", ident(app), ident(admin));
            let objects = if count == 1 { "an object".to_owned() } else { format!("{count} objects") };
            statement(app, sql, format!("it owns {objects}, and an owner can switch row-level security off"))
        })
    }

    fn memberships(&self) -> Vec<Statement> {
        let ours: BTreeSet<&str> = self.declaration.roles.all().into_iter().collect();
        let revoke = |(role, member, reason): (&str, &str, &str)| {
            statement(member, format!("REVOKE {} FROM {}", ident(role), ident(member)), reason)
        };
        self.facts
            .memberships
            .iter()
            // Gone with the role itself.
            .filter(|membership| membership.member != self.declaration.roles.adopt())
            .map(|membership| {
                let reason = if ours.contains(membership.member.as_str()) {
                    "SET ROLE would reach it, with all that it may do"
                } else if membership.role == self.declaration.roles.door()
                    || membership.role == self.declaration.roles.door_write()
                {
                    "it reaches every tenant's rows; only sessions that Guardian opened are members"
                } else {
                    "nobody acts as this role but the functions it owns"
                };
                (membership.role.as_str(), membership.member.as_str(), reason)
            })
            .map(revoke)
            .collect()
    }

    fn settings(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        let path = self.search_path();
        let adopt = self.declaration.roles.adopt();
        for setting in self.facts.role_settings.iter().filter(|setting| setting.role != adopt) {
            let name = setting.setting.split_once('=').map_or(setting.setting.as_str(), |(name, _)| name);
            let is_quiet = QUIET_LOG.iter().any(|name| is_off(setting, name));
            // Whatever Guardian did not set: a list of dangerous ones would lack the next one.
            if !is_quiet && !path.as_ref().is_some_and(|path| path.is(setting)) {
                let scope =
                    setting.database.as_ref().map_or_else(String::new, |name| format!(" IN DATABASE {}", ident(name)));
                statements.push(statement(
                    &setting.role,
                    format!("ALTER ROLE {}{scope} RESET {}", ident(&setting.role), dotted(name)),
                    format!("`{name}`: any session of the role may have set it for all others; ALTER DATABASE is for what all should have"),
                ));
            }
        }
        let app = self.declaration.roles.app();
        if let Some(path) = path.filter(|path| !self.facts.role_settings.iter().any(|setting| path.is(setting))) {
            let SearchPath { database, schema, .. } = path;
            let sql =
                format!("ALTER ROLE {} IN DATABASE {} SET search_path = {}", ident(app), ident(database), ident(schema));
            statements.push(statement(app, sql, "so that the application need not name its schema"));
        }
        statements.extend(quiet_log(self.facts, app));
        statements
    }

    /// The application's search path, where PostgreSQL's own default does not find the schema.
    fn search_path(&self) -> Option<SearchPath<'_>> {
        let declaration = self.declaration;
        (declaration.schema != "public").then(|| SearchPath {
            role: declaration.roles.app(),
            database: &self.facts.database.name,
            schema: &declaration.schema,
        })
    }
}

/// The setting of a search path of one schema.
struct SearchPath<'a> {
    role: &'a str,
    database: &'a str,
    schema: &'a str,
}

impl SearchPath<'_> {
    /// Whether this is the setting; the server quotes the name only where it must.
    fn is(&self, setting: &RoleSetting) -> bool {
        let value = setting.setting.strip_prefix("search_path=");
        setting.role == self.role
            && setting.database.as_deref() == Some(self.database)
            && value.is_some_and(|value| value == self.schema || value == ident(self.schema))
    }
}

/// A login role whose bind parameters carry capabilities is kept out of the server's log, where that can be set.
pub(crate) fn quiet_log(facts: &Facts, role: &str) -> Vec<Statement> {
    let is_set = |name: &&str| facts.role_settings.iter().any(|setting| setting.role == role && is_off(setting, name));
    let settings = QUIET_LOG.into_iter().filter(|name| facts.server.superuser && !is_set(name));
    let reason = "bind parameters carry capabilities, and the server's log shows them";
    settings.map(|name| statement(role, format!("ALTER ROLE {} SET {name} = 0", ident(role)), reason)).collect()
}

/// Whether the role has set the parameter to 0 for every database.
fn is_off(setting: &RoleSetting, name: &str) -> bool {
    setting.database.is_none() && setting.setting == format!("{name}=0")
}

/// A parameter's name, of one or two parts.
fn dotted(name: &str) -> String {
    name.split('.').map(ident).collect::<Vec<_>>().join(".")
}

fn create(name: &str, logs_in: bool, purpose: &str) -> Statement {
    let login = if logs_in { "LOGIN" } else { "NOLOGIN" };
    let sql = format!("CREATE ROLE {} {login} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS", ident(name));
    statement(name, sql, purpose)
}

fn repair(role: &RoleFacts, logs_in: bool) -> Vec<Statement> {
    let wrong = [
        (role.superuser, "NOSUPERUSER", "a superuser passes every policy"),
        (role.bypasses_rls, "NOBYPASSRLS", "it passes every policy"),
        (role.creates_roles, "NOCREATEROLE", "it could make itself a member of another role"),
        (role.creates_databases, "NOCREATEDB", "it owns nothing"),
        (role.replicates, "NOREPLICATION", "a replication connection reads every tenant's rows"),
        (role.logs_in && !logs_in, "NOLOGIN", "nobody connects as this role"),
        (!role.logs_in && logs_in, "LOGIN", "the application connects as it"),
    ];
    wrong
        .into_iter()
        .filter(|(is_wrong, _, _)| *is_wrong)
        .map(|(_, attribute, reason)| statement(&role.name, format!("ALTER ROLE {} {attribute}", ident(&role.name)), reason))
        .collect()
}
