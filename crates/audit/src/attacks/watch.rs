//! What changes for tenant A when tenant B gets rows; and whether a database looks like production.

use std::collections::BTreeMap;

use guardian_postgres::quote;
use sqlx::{Error, PgConnection};

use super::{
    Judged, Ledger,
    attack::Kind,
    canary::Tenant,
    kinds::{Field, code},
    play::Runner,
    session::{Outcome, Step, text_of},
};
use crate::{facts::Volatility, finding::Object};

/// What was seen of each view and function while B had no rows, by the query.
pub(crate) type Seen = BTreeMap<String, Sight>;

/// What one query showed.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    object: Object,
    application: Outcome,
    victim: Outcome,
    administrator: Outcome,
}

/// Rows that are compared; more are cut off.
const ROWS_MAX: u32 = 10_000;

/// Asks every view, and every function that promises to change nothing, for all that it shows.
pub(crate) async fn look(runner: &mut Runner<'_>, field: &Field<'_>) -> Seen {
    let mut seen = Seen::new();
    for (sql, object) in queries(field) {
        let sight = sight(runner, &sql, object).await;
        seen.insert(sql, sight);
    }
    seen
}

fn queries(field: &Field<'_>) -> Vec<(String, Object)> {
    let digest = |from: String| {
        format!(
            "SELECT pg_catalog.md5(pg_catalog.string_agg(seen, E'\\n' ORDER BY seen)) FROM (SELECT f::text AS seen FROM {from} AS f \
             LIMIT {ROWS_MAX}) AS rows"
        )
    };
    let windows = field.windows().into_iter().filter(|one| field.reach.relation(one).select().is_some());
    let mut queries: Vec<(String, Object)> =
        windows.map(|window| (digest(quote::qualified(&window.schema, &window.name)), Object::relation(window))).collect();
    for function in field.facts.functions.iter().filter(|one| code::is_called(field, one)) {
        if function.volatility == Volatility::Volatile && field.in_place {
            continue;
        }
        for arguments in code::argument_lists(field, function) {
            queries.push((digest(code::call(function, &arguments)), Object::function(function)));
        }
    }
    queries
}

async fn sight(runner: &mut Runner<'_>, sql: &str, object: Object) -> Sight {
    let run = Step::Run(sql.to_owned());
    Sight {
        object,
        application: runner.play(&[Step::Enter(Tenant::A), run.clone()]).await,
        victim: runner.play(&[Step::Enter(Tenant::B), run.clone()]).await,
        administrator: runner.administrator.play_as_administrator(&run).await,
    }
}

/// Asks again now that B has rows.
pub(crate) async fn compare(runner: &mut Runner<'_>, field: &Field<'_>, before: Seen, ledger: &mut Ledger) {
    for (sql, _) in queries(field) {
        let Some(before) = before.get(&sql) else { continue };
        let after = sight(runner, &sql, before.object.clone()).await;
        // What differs from one look to the next by itself (a clock, a random number) shows nothing by differing.
        let again = sight(runner, &sql, before.object.clone()).await;
        let differs = |before: &Outcome, after: &Outcome| {
            matches!((before, after), (Outcome::Rows(_), Outcome::Rows(_))) && before != after
        };
        let judged = if after.application != again.application {
            Judged::Moot { reason: "what it shows differs from one look to the next".to_owned() }
        } else if differs(&before.application, &after.application) {
            let seen = "what it shows differs with and without B's rows".to_owned();
            Judged::Leaks { reproduce: runner.script(&[Step::Enter(Tenant::A), Step::Run(sql)]), seen }
        } else if differs(&before.administrator, &after.administrator) || differs(&before.victim, &after.victim) {
            Judged::Held { seen: format!("the same with and without B's rows ({})", after.application.describe()) }
        } else {
            Judged::Moot { reason: "B's rows change nothing of it, for anybody".to_owned() }
        };
        ledger.enter(&before.object, Kind::Difference, judged);
    }
}

/// Calls volatile functions as tenant A and looks whether B's rows are still the same.
pub(crate) async fn writes(runner: &mut Runner<'_>, field: &Field<'_>, ledger: &mut Ledger) {
    /// Tables whose rows are compared.
    const TABLES_MAX: usize = 200;
    if field.in_place || !field.facts.server.superuser {
        return;
    }
    let rows: Vec<String> = field
        .tables()
        .into_iter()
        .take(TABLES_MAX)
        .map(|table| {
            let filter = field.count(table, Tenant::B);
            let filter = filter.split_once(" WHERE ").map_or("true", |(_, filter)| filter);
            format!("SELECT r::text AS seen FROM {} AS r WHERE {filter}", quote::qualified(&table.schema, &table.name))
        })
        .collect();
    let question = format!(
        "SELECT pg_catalog.md5(pg_catalog.string_agg(seen, E'\\n' ORDER BY seen)) FROM ({}) AS rows",
        rows.join(" UNION ALL ")
    );
    for function in field.facts.functions.iter().filter(|one| code::is_called(field, one)) {
        if function.volatility != Volatility::Volatile {
            continue;
        }
        for arguments in code::argument_lists(field, function) {
            let call = format!("SELECT * FROM {}", code::call(function, &arguments));
            let before = runner.aftermath(Tenant::A, "SELECT 1", &question).await;
            let after = runner.aftermath(Tenant::A, &call, &question).await;
            let as_b = runner.aftermath(Tenant::B, &call, &question).await;
            let differs = |after: &Outcome| matches!((&before, after), (Outcome::Rows(a), Outcome::Rows(b)) if a != b);
            let judged = if differs(&after) {
                let reproduce = runner.script(&[Step::Enter(Tenant::A), Step::Run(call)]);
                Judged::Leaks { reproduce, seen: "B's rows are not the same afterwards".to_owned() }
            } else if differs(&as_b) {
                Judged::Held { seen: format!("B's rows are the same afterwards ({})", after.describe()) }
            } else {
                Judged::Moot { reason: "called as tenant B it changes no row of B's either".to_owned() }
            };
            ledger.enter(&Object::function(function), Kind::FunctionWrite, judged);
        }
    }
}

/// Signs that somebody works with the database; `None`: none was seen.
pub(crate) async fn production(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    const SIGNS: &str = "SELECT concat_ws(', ', \
        (SELECT CASE WHEN count(*) > 0 THEN count(*) || ' other sessions' END FROM pg_catalog.pg_stat_activity \
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'), \
        (SELECT CASE WHEN count(*) > 0 THEN count(*) || ' replicas' END FROM pg_catalog.pg_stat_replication), \
        (SELECT CASE WHEN count(*) > 0 THEN count(*) || ' tables with rows' END FROM pg_catalog.pg_class AS c \
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.oid >= 16384 \
           AND n.nspname !~ '^pg_' AND pg_catalog.pg_relation_size(c.oid) > 0))";
    Ok(text_of(connection, SIGNS).await?.filter(|signs| !signs.is_empty()))
}
