//! The scheduled audit: what it notes, when it is due, and the incident that a new finding raises.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod common;

use std::{path::PathBuf, time::Duration};

use axum::http::Method;
use common::{World, permit, slug};
use guardian_model::{Permission, Place, Placement, Role, Tenant, TenantState, api::CreateTenant};
use guardian_server::{
    AppState, ConfigSource,
    audits::{Audited, audit, audit_tenants},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

const NOW: Duration = Duration::ZERO;

async fn shared(world: &World) -> PgConnection {
    let place = world.config.shared_place();
    world.state.clusters.connect(&place.cluster, &place.database).await.unwrap()
}

async fn list(world: &World, token: &str, uri: &str) -> Vec<Value> {
    let answer = world.call(&Method::GET, uri, Some(token), None).await;
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.body.get("items").unwrap_or(&answer.body).as_array().unwrap().clone()
}

fn on_ticket(findings: &[Value]) -> Option<&Value> {
    findings.iter().find(|finding| finding["rule"] == "GRD-PG-001" && finding["object"] == "public.ticket")
}

#[tokio::test]
async fn a_new_finding_raises_one_incident_and_its_end_is_noted() {
    let world = World::hardened().await;
    let (token, _) = world.token(Role::Auditor, None).await;
    let Audited::Done { findings: before, .. } = audit(&world.state, Duration::from_hours(1)).await.unwrap() else {
        panic!("the first audit is due")
    };
    assert_eq!(audit(&world.state, Duration::from_hours(1)).await.unwrap(), Audited::NotDue);
    assert!(on_ticket(&list(&world, &token, "/v1/audits/findings").await).is_none(), "the hardened table is no finding");

    let mut connection = shared(&world).await;
    sqlx::raw_sql("ALTER TABLE public.ticket DISABLE ROW LEVEL SECURITY").execute(&mut connection).await.unwrap();
    let Audited::Done { findings, incident: Some(incident) } = audit(&world.state, NOW).await.unwrap() else {
        panic!("row-level security that is off raises an incident")
    };
    assert!(findings > before);
    let incidents = list(&world, &token, "/v1/incidents").await;
    let raised = incidents.iter().find(|it| it["id"] == incident.to_string()).unwrap();
    assert!(raised["summary"].as_str().unwrap().contains("GRD-PG-001 on public.ticket (critical)"), "{raised}");
    let there = list(&world, &token, "/v1/audits/findings").await;
    assert_eq!(on_ticket(&there).unwrap()["gone_at"], Value::Null);

    let again = audit(&world.state, NOW).await.unwrap();
    assert_eq!(again, Audited::Done { findings, incident: None }, "what is known raises nothing");

    sqlx::raw_sql("ALTER TABLE public.ticket ENABLE ROW LEVEL SECURITY").execute(&mut connection).await.unwrap();
    audit(&world.state, NOW).await.unwrap();
    assert!(on_ticket(&list(&world, &token, "/v1/audits/findings").await).is_none());
    let all = list(&world, &token, "/v1/audits/findings?gone=true").await;
    let gone = on_ticket(&all).unwrap();
    assert!(gone["gone_at"].is_string() && gone["first_seen"].as_str() <= gone["last_seen"].as_str(), "{gone}");

    let runs = list(&world, &token, "/v1/audits").await;
    assert_eq!(runs.len(), 4, "newest first: {runs:?}");
    assert!(runs.iter().all(|run| run["finished_at"].is_string() && run["error"].is_null() && run["findings"].is_object()));
    assert!(runs[2]["findings"]["critical"].as_u64() > runs[3]["findings"].get("critical").and_then(Value::as_u64));
    let first = world.call(&Method::GET, "/v1/audits?limit=1", Some(&token), None).await;
    let next = format!("/v1/audits?limit=1&cursor={}", first.body["next_cursor"].as_str().unwrap());
    assert_eq!(list(&world, &token, &next).await[0]["id"], runs[1]["id"]);
}

#[tokio::test]
async fn an_audit_without_a_verdict_says_why_and_forgets_nothing() {
    let world = World::unborn(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/helpdesk"))).await;
    let (token, _) = world.token(Role::Auditor, None).await;
    let Audited::Failed(reason) = audit(&world.state, NOW).await.unwrap() else { panic!("there is no database yet") };
    let runs = list(&world, &token, "/v1/audits").await;
    assert_eq!(runs[0]["error"], reason.as_str());
    assert!(runs[0]["findings"].is_null() && runs[0]["finished_at"].is_string());
    assert!(list(&world, &token, "/v1/incidents").await.is_empty());
}

/// A tenant with a schema of its own.
async fn bridge(world: &World) -> Tenant {
    tenant(world, "business").await
}

/// A tenant with a place of its own.
async fn tenant(world: &World, tier: &str) -> Tenant {
    let create = CreateTenant { slug: slug(tier), tier: tier.parse().unwrap(), key: None };
    let made = world.state.lifecycle.create(&permit(Permission::TenantWrite, None), create, None).await.unwrap();
    loop {
        let tenant = world.store.tenant(&made.tenant.id.into()).await.unwrap().unwrap();
        match tenant.state {
            TenantState::Active => return tenant,
            TenantState::Creating => tokio::time::sleep(Duration::from_millis(50)).await,
            state => panic!("the tenant is {state}"),
        }
    }
}

#[tokio::test]
async fn places_of_tenants_own_are_audited_in_turn_and_raise_incidents_by_name() {
    let world = World::hardened().await;
    let (token, _) = world.token(Role::Auditor, None).await;
    let stop = CancellationToken::new();
    tokio::spawn(world.state.lifecycle.clone().work(stop.clone()));
    let _working = stop.drop_guard();
    let (first, second) = (bridge(&world).await, bridge(&world).await);
    let [one, other] = [&first, &second].map(|tenant| tenant.placement.place.to_string());
    let came = audit_tenants(&world.state, Duration::from_hours(1)).await.unwrap();
    let places: Vec<String> = came.iter().map(|(place, _)| place.to_string()).collect();
    assert_eq!(places, [one.clone(), other.clone()], "the configuration wants both");
    let there = list(&world, &token, &format!("/v1/audits/findings?place={one}")).await;
    for (place, audited) in &came {
        assert!(matches!(audited, Audited::Done { incident: None, .. }), "{place}: {audited:?}; {there:#?}");
    }
    assert!(audit_tenants(&world.state, Duration::from_hours(1)).await.unwrap().is_empty(), "none is due");

    let sql = format!(
        "GRANT USAGE ON SCHEMA {0} TO {1}; ALTER TABLE {0}.ticket DISABLE ROW LEVEL SECURITY; GRANT SELECT ON {0}.ticket TO {1}",
        second.placement.place.schema, first.placement.role
    );
    let mut connection = shared(&world).await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    let came = audit_tenants(&world.state, NOW).await.unwrap();
    let Some((_, Audited::Done { incident: Some(incident), .. })) = came.iter().find(|(place, _)| place.to_string() == one)
    else {
        panic!("another tenant's table in reach raises an incident: {came:?}")
    };
    assert_eq!(came.iter().filter(|(_, it)| matches!(it, Audited::Done { incident: Some(_), .. })).count(), 1);
    let incidents = list(&world, &token, "/v1/incidents").await;
    let raised = incidents.iter().find(|it| it["id"] == incident.to_string()).unwrap();
    assert!(raised["summary"].as_str().unwrap().starts_with(&format!("the audit of {one} found ")), "{raised}");
    let object = Value::from(format!("{}.ticket", second.placement.place.schema));
    let of = async |place: &str| {
        let findings = list(&world, &token, &format!("/v1/audits/findings?place={place}")).await;
        assert!(findings.iter().all(|finding| finding["place"] == *place));
        findings.into_iter().any(|finding| finding["object"] == object)
    };
    assert!(of(&one).await && !of(&other).await, "its own table is the second tenant's right");
    let runs = list(&world, &token, &format!("/v1/audits?place={one}")).await;
    assert!(runs.len() == 2 && runs.iter().all(|run| run["place"] == one), "{runs:?}");

    // A place without a tenant keeps no incident open.
    let gone = world.state.lifecycle.delete(&permit(Permission::TenantWrite, Some(first.id)), first.id, false).await;
    gone.unwrap();
    sqlx::query(
        "UPDATE guardian_store.tenant SET state = 'deleted', sealed_password = NULL, sealed_capability = NULL WHERE id = $1",
    )
    .bind(first.id.uuid())
    .execute(&mut world.superuser().await)
    .await
    .unwrap();
    audit_tenants(&world.state, NOW).await.unwrap();
    assert!(!of(&one).await);
    let incidents = list(&world, &token, "/v1/incidents").await;
    assert!(!incidents.iter().any(|it| it["id"] == incident.to_string() && it["closed_at"].is_null()), "{incidents:?}");
}

/// The same control plane with this many tenants' places a pass.
fn each_time(world: &World, tenants: u16) -> AppState {
    let AppState { store, lifecycle, clusters, .. } = world.state.clone();
    let mut config = world.config.clone();
    config.audit.tenants_each_time = tenants;
    let read = config.clone();
    let source = ConfigSource::new(config, PathBuf::from("."), move || Ok(read.clone()));
    AppState::new(store, lifecycle, clusters, source, CancellationToken::new())
}

#[tokio::test]
async fn of_many_tenants_those_audited_longest_ago_come_first() {
    let world = World::hardened().await;
    let stop = CancellationToken::new();
    tokio::spawn(world.state.lifecycle.clone().work(stop.clone()));
    let _working = stop.drop_guard();
    let tenants = [bridge(&world).await, tenant(&world, "enterprise").await, bridge(&world).await];
    let pooled = world.tenant("pooled").await;
    let places = tenants.each_ref().map(|tenant| tenant.placement.place.clone());
    assert!(places.iter().all(|place| *place != pooled.tenant.placement.place), "only these have a place of their own");

    let (one, two) = (each_time(&world, 1), each_time(&world, 2));
    let pass = async |state: &AppState, every| -> Vec<Place> {
        let came = audit_tenants(state, every).await.unwrap();
        came.into_iter()
            .map(|(place, audited)| {
                assert!(matches!(audited, Audited::Done { incident: None, .. }), "{place}: {audited:?}");
                place
            })
            .collect()
    };
    assert!(pass(&each_time(&world, 0), NOW).await.is_empty(), "0: none");
    let first = pass(&two, NOW).await;
    assert!(first.len() == 2 && !first.contains(&places[2]), "two of the three, the oldest tenants first: {first:?}");
    assert_eq!(pass(&one, NOW).await, places[2..], "which the pass before left out");
    // Within a pass each database is read once, so the two may have been in any order.
    assert_eq!(pass(&one, NOW).await, first[..1], "then the one of longest ago");
    assert_eq!(pass(&one, NOW).await, first[1..]);
    assert_eq!(pass(&one, NOW).await, places[2..], "and so on in turn");
    assert!(pass(&two, Duration::from_hours(1)).await.is_empty(), "none is due");

    // A database of a tenant's own is read for itself: nothing of it is found in another's place.
    let Placement { place, role, .. } = &tenants[1].placement;
    let sql = format!(
        "CREATE SCHEMA beside; CREATE TABLE beside.open (tenant_id uuid NOT NULL, note text); \
         GRANT USAGE ON SCHEMA beside TO \"{role}\"; GRANT SELECT ON beside.open TO \"{role}\""
    );
    let mut connection = world.state.clusters.connect(&place.cluster, &place.database).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let came = audit_tenants(&each_time(&world, 3), NOW).await.unwrap();
    assert_eq!(came.len(), 3);
    for (audited_place, audited) in &came {
        let Audited::Done { incident, .. } = audited else { panic!("{audited_place}: {audited:?}") };
        assert_eq!(incident.is_some(), audited_place == place, "{audited_place}: {audited:?}");
    }
    let (token, _) = world.token(Role::Auditor, None).await;
    let there = list(&world, &token, &format!("/v1/audits/findings?place={place}")).await;
    assert!(there.iter().any(|it| it["rule"] == "GRD-PG-001" && it["object"] == "beside.open"), "{there:#?}");
    let of_server = there.iter().filter(|it| it["rule"].as_str().unwrap().starts_with("GRD-PG-5"));
    assert_eq!(of_server.count(), 0, "what is to be said of the server is said of the shared place");
}
