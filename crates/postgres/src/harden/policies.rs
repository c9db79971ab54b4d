//! Row-level security, policies, defaults and privileges of tables: what one table needs takes effect at once.

use guardian_model::config::PolicyForm;

use super::{
    DOOR_IS_OPEN, POLICY_DOOR, POLICY_DOOR_WRITE, POLICY_OPEN, POLICY_TENANT, Roles, Stage, Statement,
    classes::Class,
    planner::{Planner, Reasons, grants, label, sql_name, statement},
};
use crate::{
    adopt::backfill::FILL_TRIGGER,
    facts::{Grant, PolicyFacts, RelationFacts},
    quote::ident,
    register::{Mechanism, normal_form},
};

/// A table of so few pages is read as a whole whatever indexes it has.
const PAGES_TINY: i64 = 4;
/// Of tables this large, statistics may change the form of a policy that is already there.
const PAGES_LARGE: i64 = 64;
/// From this share of the rows on, the planner reads the whole table for the largest tenant.
const SHARE_LARGE: f32 = 0.2;
/// Below this share it does so no longer; the gap keeps a form from flapping.
const SHARE_SMALL: f32 = 0.1;

const TENANT_RIGHTS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];
const GLOBAL_RIGHTS: &[&str] = &["SELECT"];

impl Planner<'_> {
    /// One transaction a table; a table that is as it should be gets none.
    pub(super) fn harden_tables(&mut self) {
        for table in &self.facts.relations {
            let Some(class) = self.classes.get(&table.oid).copied() else { continue };
            let mut statements = Vec::new();
            if class == Class::Tenant {
                statements.extend(self.policies(table));
                statements.extend(row_security(table));
                statements.extend(self.default(table));
                statements.extend(self.end_of_filling(table));
            }
            statements.extend(self.table_grants(table, class));
            if self.has_own_policies(table) {
                // They act already, and every policy that is added to them would.
                statements = statements.into_iter().map(|statement| statement.no_sooner(Stage::Enforce)).collect();
            }
            self.transaction(statements);
        }
    }

    fn policies(&self, table: &RelationFacts) -> Vec<Statement> {
        let (object, name) = (label(table), sql_name(table));
        let subjects = self.subjects(table);
        let to = subjects.iter().map(|role| ident(role)).collect::<Vec<_>>().join(", ");
        let found = |policy: &str| self.facts.policy(table.oid, policy);
        let mut statements = Vec::new();
        let drop = |policy: &str| {
            let sql = format!("DROP POLICY {policy} ON {name}");
            statement(&object, sql, "it is not the policy that Guardian made")
        };
        // While an application is being adopted, the policies hold for Guardian's own roles alone until a table is enforced.
        let staged = self.declaration.adoption.is_some();
        let final_for = |policy: &PolicyFacts| !policy.to_public && policy.roles == subjects;
        let hold = |policy: &str| {
            let sql = format!("ALTER POLICY {policy} ON {name} TO {to}");
            statement(&object, sql, "from here on it holds for the owner as well, and nobody else is let in")
        };
        let open = found(POLICY_OPEN).filter(|policy| is_sound(policy, true, "true"));
        if !open.is_some_and(|policy| final_for(policy) || staged && policy.to_public) {
            statements.extend(found(POLICY_OPEN).map(|_| drop(POLICY_OPEN)));
            let to = if staged { "PUBLIC" } else { &to };
            statements.push(
                statement(
                    &object,
                    format!(
                        "CREATE POLICY {POLICY_OPEN} ON {name} AS PERMISSIVE FOR ALL TO {to} USING (true) WITH CHECK (true)"
                    ),
                    "some permissive policy must let rows through; which ones is for the restrictive policy to say",
                )
                .inert(),
            );
        }
        if staged && !open.is_some_and(final_for) {
            statements.push(hold(POLICY_OPEN));
        }
        let tenant = found(POLICY_TENANT);
        let installed = tenant.and_then(|policy| self.installed_form(policy));
        let (form, reason) = self.form(table, installed);
        let is_for_ours = tenant.is_some_and(|policy| is_for_roles(policy, &self.declaration.roles));
        let is_final = tenant.is_some_and(final_for);
        let is_made = installed == Some(form) && (is_final || staged && is_for_ours);
        if !is_made {
            let predicate = self.predicate(form);
            statements.extend(tenant.map(|_| drop(POLICY_TENANT)));
            let to = if staged { our_roles(&self.declaration.roles) } else { to.clone() };
            let made = statement(
                &object,
                format!(
                    "CREATE POLICY {POLICY_TENANT} ON {name} AS RESTRICTIVE FOR ALL TO {to} USING ({predicate}) \
                     WITH CHECK ({predicate})"
                ),
                format!("only the tenant's rows, whatever other policies say; {reason}"),
            );
            // One that is taken away for a moment must not have been at work.
            statements.push(if tenant.is_none() { made.inert() } else { made });
        }
        if staged && !(is_made && is_final) {
            statements.push(hold(POLICY_TENANT));
        }
        // Partitions are reached through their parent, whose policies count.
        if !table.partition {
            statements.extend(self.door_policies(table, found(POLICY_DOOR), found(POLICY_DOOR_WRITE)));
        }
        statements
    }

    /// Whom the tenant's policies are for, in the order of their names. For anybody else there is no permissive policy, and so
    /// no row. An owner that they apply to is among them, so that it is told that a tenant is missing.
    fn subjects(&self, table: &RelationFacts) -> Vec<String> {
        let roles = &self.declaration.roles;
        let owner = self.facts.role(&table.owner).filter(|owner| !owner.superuser && !owner.bypasses_rls);
        let owner = owner.map(|owner| owner.name.as_str()).filter(|owner| !roles.all().contains(owner));
        let mut subjects: Vec<String> = [roles.app(), roles.definer()].into_iter().chain(owner).map(str::to_owned).collect();
        subjects.sort();
        subjects
    }

    /// Every row for sessions that came through the door, until their time is over. The restrictive policy is not for them.
    fn door_policies(
        &self,
        table: &RelationFacts,
        read: Option<&PolicyFacts>,
        write: Option<&PolicyFacts>,
    ) -> Vec<Statement> {
        let (object, name) = (label(table), sql_name(table));
        let roles = &self.declaration.roles;
        let is_for = |policy: &PolicyFacts, role: &str| policy.roles == [role];
        let drop = |policy: &str| {
            let sql = format!("DROP POLICY {policy} ON {name}");
            statement(&object, sql, "it is not the policy that Guardian made")
        };
        let mut statements = Vec::new();
        if !read.is_some_and(|policy| {
            policy.command == 'r'
                && policy.permissive
                && is_written(policy.using.as_deref(), DOOR_IS_OPEN)
                && is_for(policy, roles.door())
        }) {
            statements.extend(read.map(|_| drop(POLICY_DOOR)));
            let sql = format!(
                "CREATE POLICY {POLICY_DOOR} ON {name} AS PERMISSIVE FOR SELECT TO {} USING ({DOOR_IS_OPEN})",
                ident(roles.door())
            );
            statements.push(
                statement(&object, sql, "sessions that Guardian opened across tenants read every row, in their time")
                    .inert(),
            );
        }
        if !write.is_some_and(|policy| is_sound(policy, true, DOOR_IS_OPEN) && is_for(policy, roles.door_write())) {
            statements.extend(write.map(|_| drop(POLICY_DOOR_WRITE)));
            let sql = format!(
                "CREATE POLICY {POLICY_DOOR_WRITE} ON {name} AS PERMISSIVE FOR ALL TO {} USING ({DOOR_IS_OPEN}) \
                 WITH CHECK ({DOOR_IS_OPEN})",
                ident(roles.door_write())
            );
            statements.push(statement(&object, sql, "those opened for writing change every row").inert());
        }
        statements
    }

    /// Whether row-level security was there before Guardian.
    fn has_own_policies(&self, table: &RelationFacts) -> bool {
        self.declaration.adoption.is_some() && table.rls && self.facts.policy(table.oid, POLICY_TENANT).is_none()
    }

    /// The column's default takes over from the trigger that filled it.
    fn end_of_filling(&self, table: &RelationFacts) -> Option<Statement> {
        self.facts.fill_triggers.contains(&table.oid).then(|| {
            let sql = format!("DROP TRIGGER {FILL_TRIGGER} ON {}", sql_name(table));
            statement(&label(table), sql, "the column's default is the tenant from here on")
        })
    }

    fn predicate(&self, form: PolicyForm) -> String {
        self.mechanism.predicate(&self.declaration.tenant_column, self.declaration.tenant_key, form)
    }

    /// The form of the policy that is there, when it is ours and unchanged, for whomever.
    fn installed_form(&self, policy: &PolicyFacts) -> Option<PolicyForm> {
        [PolicyForm::Direct, PolicyForm::Wrapped].into_iter().find(|form| is_sound(policy, false, &self.predicate(*form)))
    }

    /// How the policy reads the context. An index serves `Direct`, which is evaluated again for each row of a sequential scan;
    /// `Wrapped` is evaluated once a statement, and costs a little more to plan.
    fn form(&self, table: &RelationFacts, installed: Option<PolicyForm>) -> (PolicyForm, String) {
        if let Some(form) = self.declaration.policy_form.get(&table.name) {
            return (*form, "in the form that `application.policy_form` asks for".to_owned());
        }
        if self.mechanism == Mechanism::CapabilityLookup {
            return (PolicyForm::Wrapped, "wrapped, so that the capability is looked up once a statement".to_owned());
        }
        let share = table.tenant.as_ref().and_then(|tenant| tenant.largest_share).unwrap_or(0.0);
        let percent = (share * 100.0).round();
        let large_share = || {
            let reason =
                format!("wrapped, because one tenant holds {percent} % of the rows and is read by sequential scans");
            (PolicyForm::Wrapped, reason)
        };
        match installed {
            Some(PolicyForm::Direct) if table.pages >= PAGES_LARGE && share >= SHARE_LARGE => large_share(),
            Some(PolicyForm::Wrapped) if table.pages >= PAGES_LARGE && share < SHARE_SMALL => {
                (PolicyForm::Direct, "direct, because indexes serve even the largest tenant".to_owned())
            }
            Some(form) => (form, "in the form it has".to_owned()),
            None if share >= SHARE_LARGE => large_share(),
            None if (1..=PAGES_TINY).contains(&table.pages) => {
                let reason = format!("wrapped, because a table of {} is read as a whole", pages(table.pages));
                (PolicyForm::Wrapped, reason)
            }
            None => (PolicyForm::Direct, "direct, because indexes serve it".to_owned()),
        }
    }

    /// The context as the column's default. A partition's own default counts only for rows sent to it directly.
    fn default(&self, table: &RelationFacts) -> Option<Statement> {
        let tenant = table.tenant.as_ref()?;
        let value = self.mechanism.value(self.declaration.tenant_key);
        let is_set = tenant.default.as_deref().is_some_and(|default| normal_form(default) == normal_form(&value));
        if table.partition || tenant.generated || is_set {
            return None;
        }
        let column = ident(&self.declaration.tenant_column);
        let reason = match &tenant.default {
            None => "an application need not name the tenant on insert".to_owned(),
            Some(other) => format!("an application need not name the tenant on insert; the default was {other}"),
        };
        let sql = format!("ALTER TABLE {} ALTER COLUMN {column} SET DEFAULT {value}", sql_name(table));
        let set = statement(&label(table), sql, reason);
        // Another default could not be given back.
        Some(if tenant.default.is_some() && self.declaration.adoption.is_some() { set.last() } else { set })
    }

    fn table_grants(&self, table: &RelationFacts, class: Class) -> Vec<Statement> {
        let roles = &self.declaration.roles;
        let (object, name) = (label(table), sql_name(table));
        let rights = match class {
            Class::Tenant if !table.partition => TENANT_RIGHTS,
            Class::Global if !table.partition => GLOBAL_RIGHTS,
            Class::Tenant | Class::Global | Class::Closed | Class::Undecided => &[],
        };
        let all =
            [(roles.app(), rights), (roles.definer(), rights), (roles.door(), GLOBAL_RIGHTS), (roles.door_write(), rights)];
        let wanted: &[(&str, &[&str])] = if rights.is_empty() { &[] } else { &all };
        let reasons = match class {
            Class::Tenant if table.partition => {
                Reasons { grant: "", revoke: "partitions are reached through their parent only" }
            }
            Class::Tenant => Reasons {
                grant: "rows under the policies; TRUNCATE, TRIGGER and REFERENCES would go past them",
                revoke: "nobody but the application's roles, and they only under the policies",
            },
            Class::Global => Reasons {
                grant: "global: the same for every tenant, read-only",
                revoke: "what one tenant could write here, every tenant would read",
            },
            Class::Closed => Reasons { grant: "", revoke: "closed: no tenant reads it" },
            Class::Undecided => Reasons { grant: "", revoke: "closed until its tenant is decided" },
        };
        if class == Class::Closed {
            // Whoever else reads it does so by a decision that is not about tenants.
            let ours = [roles.app(), roles.definer(), roles.door(), roles.door_write()];
            let is_for_tenants = |grantee: &Option<String>| grantee.as_deref().is_none_or(|name| ours.contains(&name));
            let mut table = table.clone();
            table.grants.retain(|grant| is_for_tenants(&grant.grantee));
            table.column_grantees.retain(is_for_tenants);
            return revoked(&table, &object, &name, wanted, reasons);
        }
        revoked(table, &object, &name, wanted, reasons)
    }
}

/// Grants on columns go, and the table's become what is wanted.
fn revoked(
    table: &RelationFacts,
    object: &str,
    name: &str,
    wanted: &[(&str, &[&str])],
    reasons: Reasons<'_>,
) -> Vec<Statement> {
    let mut statements = column_grants(table, object, name);
    statements.extend(grants(object, &format!("TABLE {name}"), &still_held(table), wanted, reasons));
    statements
}

/// What is held once [`column_grants`] has been revoked.
pub(super) fn still_held(relation: &RelationFacts) -> Vec<Grant> {
    relation.grants.iter().filter(|grant| !relation.column_grantees.contains(&grant.grantee)).cloned().collect()
}

/// Revoking all on a table also takes grants on its columns.
pub(super) fn column_grants(relation: &RelationFacts, object: &str, name: &str) -> Vec<Statement> {
    relation
        .column_grantees
        .iter()
        .map(|grantee| {
            let is_public = grantee.is_none();
            let grantee = grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), ident);
            let sql = format!("REVOKE ALL ON TABLE {name} FROM {grantee} CASCADE");
            let taken = statement(object, sql, "grants on single columns go past what the table grants");
            if is_public { taken.last() } else { taken.inert() }
        })
        .collect()
}

fn row_security(table: &RelationFacts) -> Vec<Statement> {
    let (object, name) = (label(table), sql_name(table));
    let mut statements = Vec::new();
    if !table.rls {
        let sql = format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY");
        // The table's owner passes it until it is forced.
        statements.push(statement(&object, sql, "without it, policies are not looked at").inert());
    }
    if !table.rls_forced {
        let sql = format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY");
        statements.push(statement(&object, sql, "without it, the table's owner sees every row"));
    }
    statements
}

/// The roles of the application's sessions, as SQL names them.
pub(crate) fn our_roles(roles: &Roles) -> String {
    format!("{}, {}", ident(roles.app()), ident(roles.definer()))
}

/// Whether a policy is for the roles of the application's sessions, and nobody else.
pub(crate) fn is_for_roles(policy: &PolicyFacts, roles: &Roles) -> bool {
    let mut ours = [roles.app(), roles.definer()];
    ours.sort_unstable();
    !policy.to_public && policy.roles == ours
}

fn is_sound(policy: &PolicyFacts, permissive: bool, predicate: &str) -> bool {
    let is_ours = |expression: &Option<String>| {
        expression.as_deref().is_some_and(|expression| normal_form(expression) == normal_form(predicate))
    };
    policy.permissive == permissive && policy.command == '*' && is_ours(&policy.using) && is_ours(&policy.check)
}

fn is_written(expression: Option<&str>, wanted: &str) -> bool {
    expression.is_some_and(|expression| normal_form(expression) == normal_form(wanted))
}

fn pages(count: i64) -> String {
    if count == 1 { "1 page".to_owned() } else { format!("{count} pages") }
}
