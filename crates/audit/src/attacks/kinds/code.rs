//! Code that runs with its owner's rights, and sequences.

use guardian_postgres::quote;

use super::Field;
use crate::attacks::{
    Objection,
    attack::{Attack, Control, Kind, Success},
    canary::Tenant,
    session::Step,
};
use crate::facts::{Function, RelationKind, Volatility};
use crate::finding::{Object, ObjectKind};

/// Words in a function's text that say it may reach beyond the database.
const OUTWARD: [&str; 7] = ["dblink", "http", "program", "pg_read_", "lo_export", "lo_import", "aws_"];

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>, objections: &mut Vec<Objection>) {
    for function in field.facts.functions.iter().filter(|function| is_definers(field, function)) {
        match refuse(function) {
            Some(reason) => objections.push(Objection::new(Object::function(function), reason)),
            None => calls(field, function, attacks),
        }
    }
    for extension in field.facts.extensions.iter().filter(|extension| extension.name == "dblink") {
        let mut functions = field.facts.functions.iter().filter(|one| one.extension == Some(extension.oid));
        if functions.any(|one| one.name == "dblink_connect" && field.reach.function(one).is_some()) {
            let reason = "the role may call it, and with somebody's password it reaches any database: not tried";
            objections.push(Objection::new(Object::named(ObjectKind::Extension, &extension.name), reason));
        }
    }
    sequences(field, attacks);
}

/// What a function does with its caller's rights its caller could do without it.
fn is_definers(field: &Field<'_>, function: &Function) -> bool {
    function.definer
        && function.extension.is_none()
        && !matches!(function.schema.as_str(), "pg_catalog" | "information_schema")
        && !(function.schema == "guardian" && field.context.is_guardian())
        && !matches!(function.returns.as_str(), "trigger" | "event_trigger")
        && field.reach.role(function.owner).is_none_or(|_| !field.reach.applications().contains(&function.owner))
        && field.reach.function(function).is_some()
}

fn refuse(function: &Function) -> Option<String> {
    if function.kind != 'f' {
        return Some("procedures and aggregates with their owner's rights are not called".to_owned());
    }
    if function.language_untrusted || matches!(function.language.as_str(), "c" | "internal") {
        return Some(format!("it is written in {}, and may do anything to the machine", function.language));
    }
    let body = function.body.as_deref().unwrap_or_default().to_lowercase();
    let outward = OUTWARD.iter().find(|word| body.contains(**word))?;
    Some(format!("its text names {outward:?}: it may reach beyond this database, so it is not called"))
}

/// Whether the function is called at all.
pub(crate) fn is_called(field: &Field<'_>, function: &Function) -> bool {
    is_definers(field, function) && refuse(function).is_none()
}

/// Argument lists worth trying: B's own values, patterns that match anything, nothing.
pub(crate) fn argument_lists(field: &Field<'_>, function: &Function) -> Vec<Vec<String>> {
    let Some(types) = field.signatures.get(&function.oid) else { return Vec::new() };
    let of_b = |written: &String| {
        let key = field.marks.key_literal(Tenant::B, base_of(written), written);
        key.filter(|_| written == "uuid" || field.marks.form.key_type().sql_type() == written).or_else(|| {
            let mut values = field.planted.values_of(Tenant::B);
            values
                .find(|(column, value)| column.written_type == *written && *value != "NULL")
                .map(|(_, value)| value.to_owned())
        })
    };
    let wide = |written: &String| match written.as_str() {
        "text" | "character varying" => Some("'%'".to_owned()),
        "integer" | "bigint" | "smallint" | "numeric" => Some(format!("1000::{written}")),
        "boolean" => Some("true".to_owned()),
        _ => of_b(written),
    };
    let null = |written: &String| format!("NULL::{written}");
    let mut lists: Vec<Vec<String>> = vec![
        types.iter().map(|written| of_b(written).unwrap_or_else(|| null(written))).collect(),
        types.iter().map(|written| wide(written).unwrap_or_else(|| null(written))).collect(),
        types.iter().map(null).collect(),
    ];
    lists.dedup();
    lists
}

fn base_of(written: &str) -> u32 {
    match written {
        "uuid" => crate::attacks::canary::UUID,
        "bigint" => crate::attacks::canary::INT8,
        "integer" => crate::attacks::canary::INT4,
        "smallint" => crate::attacks::canary::INT2,
        _ => crate::attacks::canary::TEXTS[0],
    }
}

/// `schema.f(arguments)`
pub(crate) fn call(function: &Function, arguments: &[String]) -> String {
    format!("{}({})", quote::qualified(&function.schema, &function.name), arguments.join(", "))
}

fn calls(field: &Field<'_>, function: &Function, attacks: &mut Vec<Attack>) {
    let pattern = quote::literal(&field.marks.pattern(Tenant::B));
    for arguments in argument_lists(field, function) {
        // What was passed in shows nothing when it comes out again.
        let seen = arguments
            .iter()
            .filter(|argument| !argument.starts_with("NULL"))
            .fold("f::text".to_owned(), |seen, argument| format!("pg_catalog.replace({seen}, ({argument})::text, '')"));
        let sql = format!("SELECT pg_catalog.count(*) FROM {} AS f WHERE {seen} ~* {pattern}", call(function, &arguments));
        let steps = vec![Step::Enter(Tenant::A), Step::Run(sql)];
        let attack = Attack::new(Kind::Function, Object::function(function), steps, Success::Positive)
            .or_control(Control::Victim)
            .moot_without_control();
        attacks.push(if function.volatility == Volatility::Volatile {
            attack.not_in_place("it is volatile: what it does need not roll back")
        } else {
            attack
        });
    }
}

fn sequences(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    let sequences = field.facts.relations.iter().filter(|one| one.kind == RelationKind::Sequence && one.extension.is_none());
    for sequence in sequences {
        let owned = field.facts.sequence(sequence.oid).and_then(|one| one.owned_by);
        if owned.is_some_and(|(table, _)| !field.planted.tenants.contains(&table))
            || crate::attacks::plant::is_systems(&sequence.schema)
        {
            continue;
        }
        let name = quote::qualified(&sequence.schema, &sequence.name);
        let object = Object::relation(sequence);
        let read = format!("SELECT last_value FROM {name}");
        let set = format!("SELECT pg_catalog.setval({}, 1)", quote::literal(&name));
        let steps = |sql: String| vec![Step::Enter(Tenant::A), Step::Run(sql)];
        attacks.push(Attack::new(Kind::SequenceRead, object.clone(), steps(read), Success::Completes));
        let set = Attack::new(Kind::SequenceSet, object, steps(set), Success::Completes);
        attacks.push(set.not_in_place("a sequence does not roll back"));
    }
}
