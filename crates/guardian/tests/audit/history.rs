//! `guardian audit --history` against a real `guardian up`.
//!
//! The audits are made by another node on the same control database: the first one of `up` itself is minutes away.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use guardian_lifecycle::Lifecycle;
use guardian_model::Config;
use guardian_postgres::connect::Clusters;
use guardian_server::{
    AppState, ConfigSource,
    audits::{Audited, audit, audit_tenants},
};
use guardian_store::{Store, Vault};
use guardian_testkit::{Installation, Server};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio_util::sync::CancellationToken;

/// A node of the installation in the test's own process, which serves nothing, and the application's shared place.
async fn node(installation: &Installation) -> (AppState, String) {
    let key = std::fs::read_to_string(installation.path("master.key")).unwrap();
    let store = Store::open(installation.control().options(), Vault::from_hex(&key).unwrap()).await.unwrap();
    let text = std::fs::read_to_string(installation.config()).unwrap();
    let config = Config::parse("guardian.toml", &text).unwrap();
    let clusters = Clusters::new(BTreeMap::from([("main".parse().unwrap(), installation.server().options("postgres"))]));
    let lifecycle = Lifecycle::new(store.clone(), clusters.clone(), Arc::new(config.clone()), None, "auditor");
    let shared = config.shared_place().to_string();
    let source = ConfigSource::new(config.clone(), installation.path("."), move || Ok(config.clone()));
    (AppState::new(store, lifecycle, clusters, source, CancellationToken::new()), shared)
}

fn findings<'h>(history: &'h Value, rule: &str, place: &str, object: &str) -> Option<&'h Value> {
    let mut findings = history["findings"].as_array().unwrap().iter();
    findings.find(|it| it["rule"] == rule && it["place"] == place && it["object"] == object)
}

/// The last column of the line of a table that says all of these.
fn last_column<'t>(text: &'t str, words: &[&str]) -> &'t str {
    let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
    line.unwrap_or_else(|| panic!("{words:?} are not in\n{text}")).trim_end().rsplit("  ").next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_shows_what_was_found_and_that_it_is_gone() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let _up = installation.up_and_hardened();
    assert!(installation.run(["audit", "--history"]).contains("no audit was made yet"));
    let unknown = installation.run(["audit", "--history", "--place", "main/nowhere/public"]);
    assert!(unknown.contains("no audit of `main/nowhere/public` is kept"), "{unknown}");
    let made = installation.run(["tenant", "create", "bridge", "--tier", "business", "--json"]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let placement = &made["tenant"]["placement"];
    let role = placement["role"].as_str().unwrap();
    let (node, shared) = node(&installation).await;
    let place = &placement["place"];
    let own = format!("main/{}/{}", place["database"].as_str().unwrap(), place["schema"].as_str().unwrap());
    let again = async || {
        let audited = audit(&node, Duration::ZERO).await.unwrap();
        assert!(matches!(audited, Audited::Done { .. }), "{audited:?}");
        let [(place, Audited::Done { .. })] = &audit_tenants(&node, Duration::ZERO).await.unwrap()[..] else {
            panic!("the tenant's place is audited")
        };
        assert_eq!(place.to_string(), own);
    };
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&installation.run([&["audit", "--history", "--json"], more].concat())).unwrap()
    };
    again().await;
    let sound = json(&[]);
    assert!(findings(&sound, "GRD-PG-001", &shared, "public.ticket").is_none(), "{sound}");

    let mut connection = installation.server().connect(&installation.application).await;
    let flaw = format!(
        "ALTER TABLE public.ticket DISABLE ROW LEVEL SECURITY; GRANT USAGE ON SCHEMA public TO \"{role}\"; \
         GRANT SELECT ON public.ticket TO \"{role}\""
    );
    sqlx::raw_sql(AssertSqlSafe(flaw)).execute(&mut connection).await.unwrap();
    again().await;
    let there = json(&[]);
    for place in [&shared, &own] {
        let found = findings(&there, "GRD-PG-001", place, "public.ticket").unwrap_or_else(|| panic!("{place}: {there}"));
        assert!(found["gone_at"].is_null() && found["severity"] == "critical", "{found}");
        let shown = installation.run(["audit", "--history", "--place", place]);
        assert_eq!(last_column(&shown, &["GRD-PG-001", place, "public.ticket"]).trim(), "-");
    }

    let remedy = format!(
        "ALTER TABLE public.ticket ENABLE ROW LEVEL SECURITY; REVOKE SELECT ON public.ticket FROM \"{role}\"; \
         REVOKE USAGE ON SCHEMA public FROM \"{role}\""
    );
    sqlx::raw_sql(AssertSqlSafe(remedy)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    again().await;
    let gone = json(&[]);
    for place in [&shared, &own] {
        let found = findings(&gone, "GRD-PG-001", place, "public.ticket").unwrap();
        assert!(found["gone_at"].is_string(), "{found}");
        let shown = installation.run(["audit", "--history"]);
        let when = last_column(&shown, &["GRD-PG-001", place, "public.ticket"]).trim();
        assert_eq!(when.get(..10), found["gone_at"].as_str().unwrap().get(..10), "{shown}");
        assert_eq!(last_column(&shown, &[gone["audits"][0]["id"].as_str().unwrap()]).trim(), "done");
        let of_place = json(&["--place", place]);
        let audits = of_place["audits"].as_array().unwrap();
        assert!(audits.len() == 3 && audits.iter().all(|it| it["place"] == place.as_str()), "{of_place}");
        assert!(audits.iter().all(|it| it["finished_at"].is_string() && it["error"].is_null()), "{of_place}");
        assert!(of_place["findings"].as_array().unwrap().iter().all(|it| it["place"] == place.as_str()), "{of_place}");
        assert!(findings(&of_place, "GRD-PG-001", place, "public.ticket").is_some());
    }
    assert_eq!(gone["audits"].as_array().unwrap().len(), 6, "newest first, of both places");
}
