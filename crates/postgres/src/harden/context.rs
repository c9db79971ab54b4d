//! Guardian's own objects in the application's database: the registry of capabilities and the functions that set the context.

use super::{
    Statement,
    planner::{Planner, Reasons, grants, label, sql_name, statement},
};
use crate::{
    quote::ident,
    register::{self, ContextFunction, Mechanism, REGISTER},
};

/// A table of the registry: name, columns, and what the functions' owner may do to it.
struct RegistryTable {
    name: &'static str,
    columns: &'static str,
    rights: &'static [&'static str],
    purpose: &'static str,
}

const CAPABILITY: RegistryTable = RegistryTable {
    name: "capability",
    columns: "hash pg_catalog.bytea PRIMARY KEY, register pg_catalog.text NOT NULL UNIQUE",
    rights: &["SELECT"],
    purpose: "which capability opens which tenant's context; of a capability it holds only the hash",
};

const TICKET: RegistryTable = RegistryTable {
    name: "ticket",
    columns: "hash pg_catalog.bytea PRIMARY KEY, register pg_catalog.text NOT NULL, \
              expires_at pg_catalog.timestamptz NOT NULL",
    rights: &["SELECT", "DELETE"],
    purpose: "single-use, short-lived ways into a tenant's context, for people",
};

const SESSION: RegistryTable = RegistryTable {
    name: "session",
    columns: "hash pg_catalog.bytea PRIMARY KEY, register pg_catalog.text NOT NULL, \
              expires_at pg_catalog.timestamptz NOT NULL",
    rights: &["SELECT", "INSERT", "DELETE"],
    purpose: "the capabilities of sessions that a ticket opened",
};

const SCHEMA_REASONS: Reasons<'_> = Reasons {
    grant: "to call the functions in it",
    revoke: "nobody else needs the registry, and nothing of the application's belongs there",
};

impl Planner<'_> {
    /// The schema, the registry, the right to set the register, the functions.
    pub(super) fn harden_context(&mut self) {
        let statements = self.schema().into_iter().chain(self.registry()).collect::<Vec<_>>();
        let parameter = self.parameter();
        let functions = self.context_functions();
        let mut all = self.lend_create(statements, &[self.declaration.roles.registry()]);
        all.extend(parameter);
        all.extend(self.lend_create(functions, &[self.declaration.roles.enter()]));
        self.inert_transaction(all);
    }

    /// An owner must be able to create in the schema at the moment an object is given to it, unless a superuser gives.
    fn lend_create(&self, statements: Vec<Statement>, owners: &[&str]) -> Vec<Statement> {
        self.lend_create_in("guardian", statements, owners)
    }

    pub(super) fn lend_create_in(&self, schema: &str, statements: Vec<Statement>, owners: &[&str]) -> Vec<Statement> {
        let gives = statements.iter().any(|statement| statement.sql.contains(" OWNER TO "));
        if self.facts.server.superuser || !gives {
            return statements;
        }
        // The schema itself may be made by the first of the statements.
        let at = usize::from(statements.first().is_some_and(|statement| statement.sql.starts_with("CREATE SCHEMA")));
        let owners = owners.iter().map(|owner| ident(owner)).collect::<Vec<_>>().join(", ");
        let mut all = statements;
        let lend = format!("GRANT USAGE, CREATE ON SCHEMA {} TO {owners}", ident(schema));
        let reason = "whoever gets an object must be allowed to create it, for the length of this transaction";
        all.insert(at, statement(schema, lend, reason));
        let take_back = format!("REVOKE CREATE ON SCHEMA {} FROM {owners}", ident(schema));
        all.push(statement(schema, take_back, "the transaction is over"));
        all
    }

    fn schema(&self) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let found = self.facts.schemas.iter().find(|schema| schema.name == "guardian");
        let mut statements = Vec::new();
        if found.is_none() {
            statements.push(statement("guardian", "CREATE SCHEMA guardian", "holds Guardian's own objects"));
        }
        let admin = &self.facts.server.admin;
        let is_safe = |owner: &String| owner == admin || self.facts.role(owner).is_some_and(|role| role.superuser);
        if found.is_some_and(|schema| !is_safe(&schema.owner)) {
            let sql = format!("ALTER SCHEMA guardian OWNER TO {}", ident(admin));
            statements.push(statement("guardian", sql, "a schema's owner may drop whatever is in it"));
        }
        let held = found.map_or(&[][..], |schema| &schema.grants);
        let wanted: [(&str, &[&str]); 4] = [
            (roles.app(), &["USAGE"]),
            (roles.definer(), &["USAGE"]),
            (roles.enter(), &["USAGE"]),
            (roles.registry(), &["USAGE"]),
        ];
        statements.extend(grants("guardian", "SCHEMA guardian", held, &wanted, SCHEMA_REASONS));
        statements
    }

    fn registry(&self) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let mut tables = vec![CAPABILITY, TICKET];
        if self.mechanism == Mechanism::CapabilityLookup {
            tables.push(SESSION);
        }
        let mut statements = Vec::new();
        for RegistryTable { name, columns, rights, purpose } in tables {
            let object = format!("guardian.{name}");
            let found = self.facts.relations.iter().find(|table| table.schema == "guardian" && table.name == name);
            if found.is_none() {
                statements.push(statement(&object, format!("CREATE TABLE guardian.{name} ({columns})"), purpose));
            }
            if found.is_none_or(|table| table.owner != roles.registry()) {
                let sql = format!("ALTER TABLE guardian.{name} OWNER TO {}", ident(roles.registry()));
                statements.push(statement(&object, sql, "its owner is nobody that can log in"));
            }
            let held = found.map_or(&[][..], |table| &table.grants);
            let reasons = Reasons {
                grant: "the functions that set the context work on it",
                revoke: "who can write it can enter any tenant",
            };
            statements.extend(grants(&object, &format!("guardian.{name}"), held, &[(roles.enter(), rights)], reasons));
        }
        // Whatever else stands in the schema (the ledger of migrations) is the administrator's alone.
        for other in self.facts.relations.iter().filter(|other| {
            other.schema == "guardian" && ![CAPABILITY.name, TICKET.name, SESSION.name].contains(&other.name.as_str())
        }) {
            let reasons = Reasons { grant: "", revoke: "only the administrator needs it" };
            statements.extend(grants(&label(other), &sql_name(other), &other.grants, &[], reasons));
        }
        statements
    }

    fn parameter(&self) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let mut statements = Vec::new();
        let grantees = &self.facts.server.register_grantees;
        let closed = [None, Some(roles.app()), Some(roles.definer()), Some(roles.registry())];
        for grantee in grantees.iter().filter(|grantee| closed.contains(&grantee.as_deref())) {
            let name = grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), ident);
            let sql = format!("REVOKE SET ON PARAMETER {REGISTER} FROM {name}");
            statements.push(statement(REGISTER, sql, "who can set the register can claim to be any tenant"));
        }
        let is_granted = grantees.iter().any(|grantee| grantee.as_deref() == Some(roles.enter()));
        if self.mechanism == Mechanism::GrantedRegister && !is_granted {
            let sql = format!("GRANT SET ON PARAMETER {REGISTER} TO {}", ident(roles.enter()));
            statements.push(statement(REGISTER, sql, "only its functions set the tenant context"));
        }
        statements
    }

    fn context_functions(&self) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let mut statements = Vec::new();
        for function in register::functions(self.mechanism, self.declaration.tenant_key) {
            let ContextFunction { name, arguments, .. } = function;
            let object = format!("guardian.{name}");
            let signature = format!("guardian.{name}({arguments})");
            let found = self
                .facts
                .functions
                .iter()
                .find(|found| found.schema == "guardian" && found.name == name && found.arguments == arguments);
            let is_as_written = found.is_some_and(|found| {
                found.body.as_deref() == Some(&function.body)
                    && found.definer
                    && !found.leakproof
                    && found.volatility == function.volatility
                    && found.settings == function.settings
            });
            if !is_as_written {
                statements.push(statement(&object, function.create(), purpose(name)));
            }
            let superuser_owns = self.mechanism == Mechanism::SuperuserFunction;
            let owner = if superuser_owns { self.facts.server.admin.as_str() } else { roles.enter() };
            let is_owned = found.is_some_and(|found| {
                let owner_is_superuser = self.facts.role(&found.owner).is_some_and(|role| role.superuser);
                if superuser_owns { owner_is_superuser } else { found.owner == owner }
            });
            if !is_owned {
                let reason =
                    if superuser_owns { "only a superuser may set the register" } else { "it holds no other right" };
                let sql = format!("ALTER FUNCTION {signature} OWNER TO {}", ident(owner));
                statements.push(statement(&object, sql, reason));
            }
            let mut wanted: Vec<(&str, &[&str])> = vec![(roles.app(), &["EXECUTE"])];
            if name == "tenant_key" {
                wanted.push((roles.definer(), &["EXECUTE"]));
            }
            let public = [crate::facts::Grant { grantee: None, privilege: "EXECUTE".to_owned(), grantable: false }];
            let held = found.map_or(&public[..], |found| &found.grants);
            let reasons = Reasons {
                grant: "a session enters its tenant by it",
                revoke: "only the application's sessions enter tenants",
            };
            statements.extend(grants(&object, &format!("FUNCTION {signature}"), held, &wanted, reasons));
        }
        statements
    }
}

fn purpose(function: &str) -> &'static str {
    match function {
        "enter" => "enters the tenant whose capability is presented; nothing else sets the context",
        "redeem" => "enters a tenant by a ticket, once",
        _ => "the tenant of the capability that the session presented",
    }
}
