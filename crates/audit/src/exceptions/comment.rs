//! Exceptions as comments: `COMMENT ON TABLE t IS 'guardian:allow GRD-PG-014 until 2027-01-31 because it holds test rows'`.
//!
//! Whoever owns an object may comment on it, so a comment counts only where the audited role could not have written it.

use jiff::civil::Date;

use super::{Exception, Exceptions, Origin, Refused, Target};
use crate::{
    facts::{Comment, Facts, Oid},
    finding::{Object, ObjectKind},
    reach::Reach,
};

const MARK: &str = "guardian:allow";
const FORM: &str = "the form is `guardian:allow GRD-PG-000 until 2027-01-31 because REASON`, on a line of its own";

/// Every exception that stands in a comment.
pub fn of_comments(facts: &Facts, reach: &Reach<'_>) -> Exceptions {
    let mut exceptions = Exceptions::default();
    for comment in &facts.comments {
        let Some((object, writer)) = object_of(facts, comment) else { continue };
        let own = writer.way(facts, reach);
        for line in comment.text.lines().map(str::trim).filter(|line| line.contains(MARK)) {
            let refuse = |reason: String| Refused { on: object.clone(), text: line.to_owned(), reason };
            match (parse(line), &own) {
                (Err(reason), _) => exceptions.refused.push(refuse(reason.to_owned())),
                (Ok(_), Some(way)) => {
                    exceptions.refused.push(refuse(format!("the application could have written it itself ({way})")));
                }
                (Ok((rule, until, reason)), None) => exceptions.granted.push(Exception {
                    rule: rule.to_owned(),
                    target: Target::Object(object.clone()),
                    until,
                    reason: reason.to_owned(),
                    origin: Origin::Comment(object.clone()),
                }),
            }
        }
    }
    exceptions
}

fn parse(line: &str) -> Result<(&str, Date, &str), &'static str> {
    let rest = line.strip_prefix(MARK).ok_or(FORM)?;
    let (rule, rest) = rest.trim_start().split_once(" until ").ok_or(FORM)?;
    let (until, reason) =
        rest.trim_start().split_once(" because").ok_or("it gives no reason: `because REASON` is missing")?;
    let rule = rule.trim();
    if rule.is_empty() || rule.contains(char::is_whitespace) {
        return Err(FORM);
    }
    let until = until.trim().parse().map_err(|_| "what follows `until` is no date such as 2027-01-31")?;
    match reason.trim() {
        "" => Err("it gives no reason"),
        reason => Ok((rule, until, reason)),
    }
}

/// Who may comment on an object, besides superusers.
enum Writer {
    Owner(Oid),
    /// Who may make roles.
    RoleMaker,
}

impl Writer {
    /// How the audited role gets to be the writer.
    fn way(&self, facts: &Facts, reach: &Reach<'_>) -> Option<String> {
        let attribute = |is: fn(&crate::facts::Role) -> bool| {
            reach.sessions_as().find(|(role, _)| facts.role(*role).is_some_and(is)).map(|(_, path)| path)
        };
        let path = match self {
            Self::Owner(owner) => reach.role(*owner),
            Self::RoleMaker => attribute(|role| role.creates_roles),
        };
        path.or_else(|| attribute(|role| role.superuser)).map(ToString::to_string)
    }
}

/// The object of a comment; `None`: not of a kind that any finding is about.
fn object_of(facts: &Facts, comment: &Comment) -> Option<(Object, Writer)> {
    let Comment { catalog, oid, column, .. } = comment;
    let named = |kind, name: &str, owner| Some((Object::named(kind, name), Writer::Owner(owner)));
    let part = |kind, name: &str, table: Oid| {
        let relation = facts.relation(table)?;
        Some((Object::part(kind, name, relation), Writer::Owner(relation.owner)))
    };
    match catalog.as_str() {
        "pg_class" => match (facts.relation(*oid), i16::try_from(*column).ok()?) {
            (Some(relation), 0) => Some((Object::relation(relation), Writer::Owner(relation.owner))),
            (Some(_), number) => part(ObjectKind::Column, &facts.column(*oid, number)?.name, *oid),
            (None, _) => {
                let index = facts.indexes.iter().find(|index| index.oid == *oid)?;
                let table = facts.relation(index.table)?;
                let object = Object::in_schema(ObjectKind::Index, &table.schema, &index.name);
                Some((object, Writer::Owner(table.owner)))
            }
        },
        "pg_policy" => {
            facts.policies.iter().find(|it| it.oid == *oid).and_then(|it| part(ObjectKind::Policy, &it.name, it.table))
        }
        "pg_constraint" => facts
            .constraints
            .iter()
            .find(|it| it.oid == *oid)
            .and_then(|it| part(ObjectKind::Constraint, &it.name, it.table)),
        "pg_trigger" => {
            facts.triggers.iter().find(|it| it.oid == *oid).and_then(|it| part(ObjectKind::Trigger, &it.name, it.table))
        }
        "pg_rewrite" => facts
            .rewrite_rules
            .iter()
            .find(|it| it.oid == *oid)
            .and_then(|it| part(ObjectKind::RewriteRule, &it.name, it.relation)),
        "pg_proc" => facts.function(*oid).map(|it| (Object::function(it), Writer::Owner(it.owner))),
        "pg_namespace" => {
            facts.schemas.iter().find(|it| it.oid == *oid).and_then(|it| named(ObjectKind::Schema, &it.name, it.owner))
        }
        "pg_database" => {
            facts.databases.iter().find(|it| it.oid == *oid).and_then(|it| named(ObjectKind::Database, &it.name, it.owner))
        }
        "pg_authid" => facts.role(*oid).map(|it| (Object::role(it), Writer::RoleMaker)),
        "pg_extension" => facts.extension(*oid).and_then(|it| named(ObjectKind::Extension, &it.name, it.owner)),
        "pg_foreign_server" => {
            facts.foreign_server(*oid).and_then(|it| named(ObjectKind::ForeignServer, &it.name, it.owner))
        }
        "pg_event_trigger" => facts
            .event_triggers
            .iter()
            .find(|it| it.oid == *oid)
            .and_then(|it| named(ObjectKind::EventTrigger, &it.name, it.owner)),
        "pg_publication" => facts
            .publications
            .iter()
            .find(|it| it.oid == *oid)
            .and_then(|it| named(ObjectKind::Publication, &it.name, it.owner)),
        "pg_subscription" => facts
            .subscriptions
            .iter()
            .find(|it| it.oid == *oid)
            .and_then(|it| named(ObjectKind::Subscription, &it.name, it.owner)),
        _ => None,
    }
}
