//! Leaving Guardian: facts about a hardened database → the statements that turn it into one with ordinary row-level security.
//!
//! The other direction of [`harden`](crate::harden), and as pure. What is left is the recipe that everybody knows: one policy
//! that compares the tenant column with a setting of the session. It is weaker than what it replaces, and a note says so.
//! No row is touched.

use std::fmt::Write as _;

use guardian_model::KeyType;
use sqlx::PgConnection;

use crate::{
    Mechanism,
    adopt::backfill::FILL_TRIGGER,
    facts::{CollectError, Facts, RelationFacts, RelationKind},
    harden::{
        Batch, Declaration, Hardening, Note, POLICY_DOOR, POLICY_DOOR_WRITE, POLICY_OPEN, POLICY_TENANT, Statement,
        planner::statement, roles::QUIET_LOG,
    },
    quote::{bounded_name, ident, qualified},
    register::REGISTER,
};

/// The session's setting that names the tenant from then on.
pub const SETTING: &str = "app.tenant_id";
/// The policy that is left on each tenant's table.
pub const POLICY: &str = "tenant_isolation";
/// Guardian's schema in the application's database.
const SCHEMA: &str = "guardian";
/// Constraints that hardening made, and what they are called afterwards.
const CHECKS: [(&str, &str); 2] =
    [("guardian_tenant_not_empty", "tenant_not_empty"), ("guardian_tenant_is_own", "tenant_is_own")];
/// Ends the names of indexes that hardening made, and what stands there afterwards.
const KEY_SUFFIX: (&str, &str) = ("_guardian_key", "_tenant_key");

/// The login roles of sessions that Guardian opened and that are still there: of tickets, members of the application's role,
/// and of the door across tenants, members of the door's.
pub async fn session_roles(connection: &mut PgConnection, declaration: &Declaration) -> Result<Vec<String>, CollectError> {
    let roles = &declaration.roles;
    sqlx::query_scalar(
        "SELECT DISTINCT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles AS r
           JOIN pg_catalog.pg_auth_members AS m ON m.member = r.oid JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid
         WHERE g.rolname = $1 AND r.rolname ~ '^tkt_[0-9a-z]{26}$' OR g.rolname IN ($2, $3) AND r.rolname ~ '^door_[0-9a-z]{26}$'
         ORDER BY 1",
    )
    .bind(roles.app())
    .bind(roles.door())
    .bind(roles.door_write())
    .fetch_all(connection)
    .await
    .map_err(|source| CollectError::Query { what: "the roles of sessions that Guardian opened", source })
}

/// Decides everything. The answer is run by [`apply`](crate::apply::apply) and printed by its
/// [`script`](Hardening::script), as a hardening is. On a database where nothing is Guardian's it has no statement.
pub fn plan(facts: &Facts, declaration: &Declaration, sessions: &[String]) -> Hardening {
    let ejection = Ejection { facts, declaration };
    let tables = facts.relations.iter().filter(|table| table.schema != SCHEMA).map(|table| ejection.table(table));
    let rest = [ejection.schema(), ejection.settings(), ejection.roles(sessions)];
    let batches = tables.chain(rest).filter(|statements| !statements.is_empty()).map(Batch::Transaction).collect();
    let mut ejected = Hardening {
        mechanism: Mechanism::choose(facts, declaration.roles.enter()).0,
        mechanism_reason: "what is taken out".to_owned(),
        refusals: Vec::new(),
        batches,
        notes: Vec::new(),
    };
    if !ejected.batches.is_empty() {
        ejected.notes = ejection.notes();
    }
    ejected
}

struct Ejection<'a> {
    facts: &'a Facts,
    declaration: &'a Declaration,
}

impl Ejection<'_> {
    /// One table, in one transaction: at no instant is it open.
    fn table(&self, table: &RelationFacts) -> Vec<Statement> {
        let (object, name) = (format!("{}.{}", table.schema, table.name), qualified(&table.schema, &table.name));
        let policies = || self.facts.policies.iter().filter(|policy| policy.table == table.oid);
        let mut statements = Vec::new();
        let ours = [POLICY_TENANT, POLICY_OPEN, POLICY_DOOR, POLICY_DOOR_WRITE];
        if policies().any(|policy| policy.name == POLICY_TENANT) {
            if policies().any(|policy| policy.name == POLICY) {
                let sql = format!("DROP POLICY {POLICY} ON {name}");
                statements.push(statement(&object, sql, "of an earlier time without Guardian; it is made anew"));
            }
            let column = ident(&self.declaration.tenant_column);
            let predicate = format!("{column} = {}", self.value());
            let others =
                policies().any(|policy| policy.permissive && !ours.contains(&&*policy.name) && policy.name != POLICY);
            let (kind, reason) = if others {
                ("RESTRICTIVE", "only the tenant's rows, whatever the policies say that were there before")
            } else {
                ("PERMISSIVE", "only the rows of the tenant that the session names; none when it names none")
            };
            let sql = format!(
                "CREATE POLICY {POLICY} ON {name} AS {kind} FOR ALL TO PUBLIC USING ({predicate}) WITH CHECK ({predicate})"
            );
            statements.push(statement(&object, sql, reason));
        }
        for policy in ours.into_iter().filter(|ours| policies().any(|policy| policy.name == *ours)) {
            let sql = format!("DROP POLICY {policy} ON {name}");
            statements.push(statement(&object, sql, "it is Guardian's"));
        }
        if self.facts.fill_triggers.contains(&table.oid) {
            let sql = format!("DROP TRIGGER {FILL_TRIGGER} ON {name}");
            statements.push(statement(
                &object,
                sql,
                "an adoption that is not over: nobody fills the tenant column any more",
            ));
        }
        let default = table.tenant.as_ref().and_then(|tenant| tenant.default.as_deref());
        if default.is_some_and(|default| default.contains(REGISTER) || default.contains("guardian.")) {
            let column = ident(&self.declaration.tenant_column);
            let sql = format!("ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT {}", self.value());
            statements.push(statement(&object, sql, "an application that does not name the tenant on insert goes on so"));
        }
        for (ours, ordinary) in CHECKS.iter().filter(|_| table.parents.is_empty()) {
            if table.checks.iter().any(|check| check.name == *ours) {
                let sql = format!("ALTER TABLE {name} RENAME CONSTRAINT {ours} TO {ordinary}");
                statements.push(statement(&object, sql, "the name of an ordinary constraint"));
            }
        }
        for key in self.facts.keys.iter().filter(|key| key.table == table.oid) {
            if let Some(start) = key.name.strip_suffix(KEY_SUFFIX.0) {
                let new = bounded_name(&format!("{start}{}", KEY_SUFFIX.1));
                let sql = format!("ALTER INDEX {} RENAME TO {}", qualified(&table.schema, &key.name), ident(&new));
                statements.push(statement(&object, sql, "the name of an ordinary index"));
            }
        }
        statements
    }

    /// The tenant that the session names, or NULL.
    fn value(&self) -> String {
        let key_type = match self.declaration.tenant_key {
            KeyType::Uuid => "pg_catalog.uuid",
            KeyType::Bigint => "pg_catalog.int8",
            KeyType::Text => "pg_catalog.text",
        };
        format!("(NULLIF(pg_catalog.current_setting('{SETTING}', true), ''))::{key_type}")
    }

    /// The functions, the registry, the ledger. Without CASCADE: what of the application's hangs on them is named, not dropped.
    fn schema(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        for function in self.facts.functions.iter().filter(|function| function.schema == SCHEMA) {
            let kind = if function.kind == 'p' { "PROCEDURE" } else { "FUNCTION" };
            let signature = format!("{}({})", qualified(SCHEMA, &function.name), function.arguments);
            let sql = format!("DROP {kind} {signature}");
            statements.push(statement(&signature, sql, "nobody enters a tenant's context by a capability any more"));
        }
        for table in self.facts.relations.iter().filter(|table| table.schema == SCHEMA) {
            let kind = match table.kind {
                RelationKind::Table | RelationKind::Partitioned => "TABLE",
                RelationKind::View => "VIEW",
                RelationKind::MaterializedView => "MATERIALIZED VIEW",
                RelationKind::ForeignTable => "FOREIGN TABLE",
                RelationKind::Sequence if table.owned_by.is_some() => continue,
                RelationKind::Sequence => "SEQUENCE",
            };
            let name = qualified(SCHEMA, &table.name);
            let reason = match table.name.as_str() {
                "migration" => "the ledger of `guardian migrate`: which file ran where",
                _ => "the registry of capabilities",
            };
            statements.push(statement(&name, format!("DROP {kind} {name}"), reason));
        }
        if self.facts.schemas.iter().any(|schema| schema.name == SCHEMA) {
            statements.push(statement(SCHEMA, format!("DROP SCHEMA {SCHEMA}"), "nothing is left in it"));
        }
        let enter = self.declaration.roles.enter();
        if self.facts.server.register_grantees.iter().any(|grantee| grantee.as_deref() == Some(enter)) {
            let sql = format!("REVOKE SET ON PARAMETER {REGISTER} FROM {}", ident(enter));
            statements.push(statement(REGISTER, sql, "nobody sets the tenant context by it any more"));
        }
        statements
    }

    fn settings(&self) -> Vec<Statement> {
        let app = self.declaration.roles.app();
        let is_ours = |setting: &str| QUIET_LOG.iter().any(|name| setting == format!("{name}=0"));
        let found = self.facts.role_settings.iter().filter(|found| found.role == app && found.database.is_none());
        found
            .filter(|found| is_ours(&found.setting))
            .filter_map(|found| found.setting.split_once('='))
            .map(|(name, _)| {
                let sql = format!("ALTER ROLE {} RESET {name}", ident(app));
                statement(app, sql, "bind parameters carry no capabilities any more")
            })
            .collect()
    }

    /// The application's own role stays, with its password and its rights, and so does the one that owns functions.
    fn roles(&self, sessions: &[String]) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let mut statements: Vec<_> = sessions
            .iter()
            .map(|role| statement(role, format!("DROP ROLE {}", ident(role)), "the login of a `guardian psql`"))
            .collect();
        let owns_functions =
            self.facts.functions.iter().any(|function| function.schema != SCHEMA && function.owner == roles.definer());
        let definer = (!owns_functions).then(|| roles.definer());
        let ours = [roles.enter(), roles.registry(), roles.door(), roles.door_write(), roles.adopt()];
        for role in ours.into_iter().chain(definer) {
            let Some(found) = self.facts.role(role) else { continue };
            let (name, admin) = (ident(role), ident(&self.facts.server.admin));
            if !self.facts.server.superuser && !found.admin_is_member {
                let sql = format!("GRANT {name} TO {admin}");
                statements.push(statement(role, sql, "only a member may take back what it has"));
            }
            let sql = format!("REASSIGN OWNED BY {name} TO {admin}");
            statements.push(statement(role, sql, "should something of yours be given to it, it is not lost"));
            statements.push(statement(role, format!("DROP OWNED BY {name}"), "its rights; it owns nothing any more"));
            statements.push(statement(role, format!("DROP ROLE {name}"), "it has no purpose without Guardian"));
        }
        statements
    }

    fn notes(&self) -> Vec<Note> {
        let (app, definer) = (self.declaration.roles.app(), self.declaration.roles.definer());
        let mut notes = vec![
            note(
                SETTING,
                "any SQL can set it: whoever can inject SQL as one tenant can read and write every other tenant's rows, and a \
                 pooled connection that keeps the setting serves the next request as the last one's tenant",
                vec![
                    format!("set it in each transaction: SELECT set_config('{SETTING}', $1, true)"),
                    "without it there are no rows, and an insert is refused".to_owned(),
                ],
            ),
            note(
                app,
                "stays, with its password and its rights on tables: the application connects as it, directly",
                vec![format!("give it another password, for Guardian's store knows this one: ALTER ROLE {} PASSWORD …", ident(app))],
            ),
            note(
                "guardian.migration",
                "goes with its schema: note which files have run, for the tool that is to go on with them",
                vec!["SELECT place, name, applied_at FROM guardian.migration ORDER BY 3".to_owned()],
            ),
            note(
                "tenants of isolation schema and database",
                "their roles stay ordinary roles, whose passwords only Guardian's store knows; each database of its own has a \
                 ledger in its schema `guardian`",
                vec!["set their passwords (`guardian tenant show` names the role), and run `guardian eject --url` on each database".to_owned()],
            ),
            note(
                "what PUBLIC could do before",
                "stays revoked: rights on tables, functions that end others' sessions, large objects, statistics of statements",
                vec!["grant again what somebody misses".to_owned()],
            ),
        ];
        if self.facts.functions.iter().any(|function| function.schema != SCHEMA && function.owner == definer) {
            let text = "stays, because it owns functions that run with its rights, under the same policies";
            notes.push(note(definer, text, Vec::new()));
        }
        let mut named = String::new();
        for function in self.facts.functions.iter().filter(|function| function.schema != SCHEMA && function.reads_settings) {
            // Writing to a string cannot fail.
            let _ = write!(named, "{}{}.{}", if named.is_empty() { "" } else { ", " }, function.schema, function.name);
        }
        if !named.is_empty() {
            let text = format!("they read a setting: if it is Guardian's, let them read {SETTING}");
            notes.push(note(&named, text, Vec::new()));
        }
        notes
    }
}

fn note(object: &str, text: impl Into<String>, ways_out: Vec<String>) -> Note {
    Note { object: object.to_owned(), text: text.into(), ways_out }
}
