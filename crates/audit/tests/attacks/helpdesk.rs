//! The helpdesk before and after its hardening: the same attacks, leaks before, proven isolated after.

use std::{collections::BTreeMap, sync::Arc};

use guardian_audit::{
    attacks::{Arena, AttackOptions, Kind, Origin, Verdict, attack, clone::Copy},
    finding::readable,
};
use guardian_model::Config;
use guardian_postgres::{Declaration, apply, collect, plan};
use guardian_testkit::{TestDatabase, unique};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::bench::{attempt, open};

const TOML: &str = include_str!("../../../../examples/helpdesk/guardian.toml");

#[tokio::test]
async fn helpdesk_leaks_before_and_is_proven_isolated_after() {
    let database = TestDatabase::helpdesk().await;
    let name = unique("desk");
    let config =
        Config::parse("guardian.toml", &TOML.replace("name = \"helpdesk\"", &format!("name = \"{name}\""))).unwrap();
    let declaration = Declaration::from(&config);
    let app = declaration.roles.app();
    let mut admin = database.options().options([("search_path", "public")]).connect().await.unwrap();
    let grants = format!(
        "CREATE ROLE \"{app}\" LOGIN; GRANT USAGE ON SCHEMA public TO \"{app}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \"{app}\"; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO \"{app}\""
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut admin).await.unwrap();
    let arena = Arena::scratch(database.options());
    // The same two keys that guardian.toml says are unique over all tenants on purpose.
    let accepted = [
        ("mailbox_pkey on public.mailbox", "inbound mail"),
        ("api_key_key_hash_key on public.api_key", "a request has only the key"),
    ];
    let accepted_keys: BTreeMap<String, String> =
        accepted.map(|(key, reason)| (key.to_owned(), reason.to_owned())).into_iter().collect();
    let options = AttackOptions { app_roles: vec![app.to_owned()], accepted_keys, ..AttackOptions::default() };

    let before = attack(&arena, &options).await.unwrap();
    assert_eq!(before.context_origin, Origin::None);
    for table in [
        "public.ticket",
        "public.message",
        "public.agent",
        "public.ticket_event_2026",
        "public.open_ticket",
        "public.ticket_daily",
    ] {
        assert_eq!(
            attempt(&before, table, Kind::Read).map(|one| one.verdict),
            Some(Verdict::Leaks),
            "{table}: {:#?}",
            open(&before)
        );
    }
    for kind in [Kind::Update, Kind::Delete, Kind::Insert] {
        assert_eq!(attempt(&before, "public.ticket", kind).map(|one| one.verdict), Some(Verdict::Leaks), "{kind:?}");
    }

    let facts = collect(&mut admin, &declaration).await.unwrap();
    let hardening = plan(&facts, &declaration);
    assert!(hardening.refusals.is_empty(), "{:#?}", hardening.refusals);
    apply(&mut admin, &hardening, &mut |_, _, _| {}).await.unwrap();

    let after = attack(&arena, &options).await.unwrap();
    assert_eq!(after.context_origin, Origin::Guardian);
    assert_eq!(open(&after), Vec::<String>::new());
    assert!(after.count(Verdict::ProvenIsolated) > 20, "{:#?}", after.objects.len());
    assert!(after.disclosed.iter().any(|line| line.contains("mailbox_pkey")), "{:?}", after.disclosed);

    // The same in a copy, whose sessions log in: there what sessions see of each other counts too.
    let facts = Arc::new(guardian_audit::collect(&mut admin).await.unwrap());
    let (database_options, source) = (database.options(), Arc::clone(&facts));
    let copy = tokio::task::spawn_blocking(move || Copy::throwaway(&database_options, &source)).await.unwrap().unwrap();
    let copied = attack(&Arena::copy(&copy, facts), &options).await.unwrap();
    assert_eq!(open(&copied), Vec::<String>::new(), "{:?}", copied.disclosed);
    let sessions = attempt(&copied, &readable(&database.name), Kind::Activity).map(|one| one.verdict);
    assert_eq!(sessions, Some(Verdict::ProvenIsolated));
    tokio::task::spawn_blocking(move || drop(copy)).await.unwrap();
}
