//! What sessions of one role share: large objects, the activity view, signals.

use guardian_postgres::quote::literal;

use super::Field;
use crate::attacks::{
    attack::{Attack, Control, Kind, Success},
    canary::Tenant,
    session::Step,
};
use crate::finding::{Object, ObjectKind};

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    large_object(field, attacks);
    let Some(pid) = field.victim else { return };
    let object = Object::named(ObjectKind::Database, &field.facts.database.name);
    let word = literal(&format!("%{}%", field.marks.word(Tenant::B, 0)));
    let queries = [
        format!("SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE pid = {pid} AND query LIKE {word}"),
        format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_get_activity(NULL) WHERE pid = {pid} AND query LIKE {word}"
        ),
        format!(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_get_backend_idset() AS id \
             WHERE pg_catalog.pg_stat_get_backend_activity(id) LIKE {word} AND pg_catalog.pg_stat_get_backend_pid(id) = {pid}"
        ),
    ];
    for sql in queries {
        let steps = vec![Step::Enter(Tenant::A), Step::Run(sql)];
        attacks.push(Attack::new(Kind::Activity, object.clone(), steps, Success::Positive));
    }
    let cancel = format!("SELECT pg_catalog.pg_cancel_backend({pid})::int");
    attacks.push(Attack::new(Kind::Signal, object, vec![Step::Enter(Tenant::A), Step::Run(cancel)], Success::Positive));
}

fn large_object(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    let word = literal(&field.marks.word(Tenant::B, 0));
    let oid = field.marks.integer(Tenant::B, 0);
    let create = Step::Run(format!("SELECT pg_catalog.lo_from_bytea({oid}, pg_catalog.convert_to({word}, 'UTF8'))"));
    let read = Step::Run(format!("SELECT (pg_catalog.lo_get({oid}) = pg_catalog.convert_to({word}, 'UTF8'))::int"));
    let steps = vec![Step::Enter(Tenant::B), create.clone(), Step::Enter(Tenant::A), read.clone()];
    let own = vec![Step::Enter(Tenant::B), create.clone(), read];
    let Step::Run(create) = create else { return };
    attacks.push(
        Attack::new(Kind::LargeObject, Object::named(ObjectKind::LargeObject, "large objects"), steps, Success::Positive)
            .only_control(Control::Steps(own, Success::Positive))
            .or_control(Control::AdministratorRuns(create, Success::Positive)),
    );
}
