//! Reading: plainly, without a context, with a forged one, as another role, out of the planner's statistics.

use guardian_postgres::quote;

use super::Field;
use crate::attacks::{
    Objection,
    attack::{Attack, Control, Kind, Success},
    canary::{TEXTS, Tenant},
    context::forgeries,
    session::Step,
};
use crate::facts::{Column, Oid, Privilege, Relation, RelationKind};
use crate::finding::Object;

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>, objections: &mut Vec<Objection>) {
    let roles = other_roles(field);
    for table in field.tables() {
        let object = Object::relation(table);
        of_relation(field, table, &object, attacks);
        for (_, name, is_member) in &roles {
            let mut steps = vec![Step::Enter(Tenant::A)];
            if !is_member {
                steps.push(Step::Run(format!("GRANT {} TO CURRENT_USER", quote::ident(name))));
            }
            steps.push(Step::Run(format!("SET ROLE {}", quote::ident(name))));
            steps.push(Step::Run(field.count(table, Tenant::B)));
            let attack = Attack::new(Kind::SetRole, object.clone(), steps, Success::Positive);
            attacks.push(if *is_member { attack } else { attack.not_in_place("a GRANT locks rows of the catalog") });
        }
        statistics(field, table, attacks);
    }
    for oid in &field.planted.tenants {
        let reason = field.planted.unfilled.get(oid);
        if let (Some(table), Some(reason)) = (field.facts.relation(*oid), reason) {
            objections.push(Objection::new(Object::relation(table), format!("it could not be filled: {reason}")));
        }
    }
    for root in &field.planted.roots {
        // What policies protect is meant to be apart; an open list of tenants may be meant so.
        let Some(table) = field.facts.relation(*root) else { continue };
        if table.rls && field.planted.row_of(*root, Tenant::B).is_some() {
            of_relation(field, table, &Object::relation(table), attacks);
        } else if field.reach.relation(table).select().is_some() {
            let reason = "it is the list of tenants, and no policy is on it: whether tenants may see each other in it is yours to decide";
            objections.push(Objection::new(Object::relation(table), reason));
        }
    }
    for window in field.windows() {
        if field.reach.relation(window).select().is_some() || field.tenancy.is_tenants(window.oid) {
            of_relation(field, window, &Object::relation(window), attacks);
        }
        if window.kind == RelationKind::View && field.reach.relation(window).select().is_some() {
            oracle(field, window, attacks);
        }
        // Who may not enter its schema may still read its statistics.
        if window.kind == RelationKind::MaterializedView {
            statistics(field, window, attacks);
        }
    }
}

/// What is tried on anything with rows.
fn of_relation(field: &Field<'_>, relation: &Relation, object: &Object, attacks: &mut Vec<Attack>) {
    let read = Step::Run(field.count(relation, Tenant::B));
    let own = vec![Step::Enter(Tenant::A), Step::Run(field.count(relation, Tenant::A))];
    let entered = |kind, steps: Vec<Step>| {
        let attack = Attack::new(kind, object.clone(), steps, Success::Positive).or_control(Control::Victim);
        if field.reach.relation(relation).select().is_some() {
            attack.requires(own.clone(), Success::Positive)
        } else {
            attack
        }
    };
    attacks.push(entered(Kind::Read, vec![Step::Enter(Tenant::A), read.clone()]));
    let victim = Control::Victim;
    if !field.context.is_none() {
        let bare = Attack::new(Kind::WithoutContext, object.clone(), vec![read.clone()], Success::Positive);
        attacks.push(bare.or_control(victim.clone()));
        let reset = vec![Step::Enter(Tenant::A), Step::Run("RESET ALL".to_owned()), read.clone()];
        attacks.push(Attack::new(Kind::AfterReset, object.clone(), reset, Success::Positive).or_control(victim.clone()));
    }
    for forgery in forgeries(field.facts, field.context, field.marks) {
        let steps = vec![Step::Enter(Tenant::A), Step::Run(forgery), read.clone()];
        attacks.push(Attack::new(Kind::ForgedContext, object.clone(), steps, Success::Positive).or_control(victim.clone()));
    }
    let name = quote::qualified(&relation.schema, &relation.name);
    // COPY names columns where not all of them are granted.
    let columns: Vec<String> =
        field.columns_with(relation, Privilege::Select).iter().map(|column| quote::ident(&column.name)).collect();
    let copy = Step::CopyOut(format!("COPY (SELECT {} FROM {name}) TO STDOUT", columns.join(", ")));
    // Without SELECT the server refuses it as it does a query.
    if field.reach.relation(relation).select().is_some() && !columns.is_empty() {
        let attack = Attack::new(Kind::Copy, object.clone(), vec![Step::Enter(Tenant::A), copy.clone()], Success::CopiesB);
        let own = vec![Step::Enter(Tenant::A), copy];
        let attack = attack.or_control(victim).requires(own, Success::CopiesA);
        attacks.push(attack.not_in_place("it would read the whole of the table"));
    }
    if !field.context.is_none() && field.reach.relation(relation).select().is_some() {
        prepared(field, relation, object, attacks);
    }
}

/// A pooled session: the plan is made in B's context, and A's statement runs it.
fn prepared(field: &Field<'_>, relation: &Relation, object: &Object, attacks: &mut Vec<Attack>) {
    let execute = || Step::Run("EXECUTE guardian_probe".to_owned());
    let prepare = vec![
        Step::Run("SET plan_cache_mode = force_generic_plan".to_owned()),
        Step::Enter(Tenant::B),
        Step::Run(format!("PREPARE guardian_probe AS {}", field.count(relation, Tenant::B))),
        execute(),
    ];
    let control = Control::Steps(prepare.clone(), Success::Positive);
    // PREPARE must come first for the session to know that it has something to forget.
    let mut steps = prepare;
    steps.extend([Step::Enter(Tenant::A), execute()]);
    attacks.push(Attack::new(Kind::PreparedPlan, object.clone(), steps, Success::Positive).only_control(control));
}

/// Roles that the session can become, with whether it is a member already.
fn other_roles(field: &Field<'_>) -> Vec<(Oid, String, bool)> {
    let others = field.reach.sessions_as().filter(|(oid, _)| !field.reach.applications().contains(oid));
    others
        .map(|(oid, path)| {
            let is_member = !path.steps.iter().any(|step| step.starts_with("may grant itself"));
            (oid, field.facts.role_name(oid), is_member)
        })
        .collect()
}

/// A cast that fails on B's row alone, and quotes it: without `security_barrier` PostgreSQL may ask it before the view's own
/// condition. It costs less than most conditions, and an index must not do the view's work first.
fn oracle(field: &Field<'_>, view: &Relation, attacks: &mut Vec<Attack>) {
    let Some(filter) = field.tenant_filter(view, Tenant::B) else { return };
    let tenant = field.tenancy.column(view.oid).map(|column| column.number);
    let columns = field.columns_with(view, Privilege::Select);
    let is_text = |column: &&&Column| TEXTS.contains(&column.base_type) && Some(column.number) != tenant;
    let text = columns.iter().find(is_text).map(|column| quote::ident(&column.name));
    let own = columns.iter().find(|column| Some(column.number) == tenant);
    let own = own.map(|column| format!("{}::text", quote::ident(&column.name)));
    let name = quote::qualified(&view.schema, &view.name);
    for shown in text.into_iter().chain(own) {
        let ask = format!("SELECT pg_catalog.count(*) FROM {name} WHERE (CASE WHEN {filter} THEN {shown} END)::boolean");
        let steps = vec![
            Step::Enter(Tenant::A),
            Step::Run("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off".to_owned()),
            Step::Run(ask),
        ];
        let attack = Attack::new(Kind::ErrorOracle, Object::relation(view), steps, Success::BetraysB);
        attacks.push(attack.or_control(Control::Victim).moot_without_control());
    }
}

fn statistics(field: &Field<'_>, relation: &Relation, attacks: &mut Vec<Attack>) {
    let steps = vec![Step::Enter(Tenant::A), Step::Run(statistics_of(field, relation))];
    let attack = Attack::new(Kind::Statistics, Object::relation(relation), steps, Success::Positive);
    attacks.push(attack.moot_without_control().not_in_place("ANALYZE would have to run first"));
}

fn statistics_of(field: &Field<'_>, table: &Relation) -> String {
    let pattern = quote::literal(&field.marks.pattern(Tenant::B));
    let (schema, name) = (quote::literal(&table.schema), quote::literal(&table.name));
    format!(
        "SELECT pg_catalog.count(*) FROM (SELECT s::text AS seen FROM pg_catalog.pg_stats AS s WHERE s.schemaname = {schema} \
         AND s.tablename = {name} UNION ALL SELECT s::text FROM pg_catalog.pg_stats_ext AS s WHERE s.schemaname = {schema} \
         AND s.tablename = {name}) AS statistics WHERE seen ~* {pattern}"
    )
}
