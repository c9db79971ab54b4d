//! Every endpoint, asked by everybody: nobody, a made-up token, a revoked one, another tenant's administrator, its own, and
//! each role of the platform. The outcome follows from the permission alone, and every refusal is in the audit log.
//!
//! An endpoint without a case here fails the test.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod common;

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use common::{Answer, Subject, World};
use guardian_model::{OperationState, Permission, Role, access::Actor, api::AuditEntry};
use guardian_store::{AuditFilter, Outcome, TenantRef};
use serde_json::{Value, json};
use utoipa::openapi::path::Operation;

/// What an endpoint finds when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// An active tenant, and its creation as the operation.
    Active,
    /// A tenant with an API key, roles, a group, a user and a host name.
    Access,
    /// A suspended tenant.
    Suspended,
    /// A tenant whose operation can be cancelled.
    Leaving,
    /// A tenant whose operation is stuck.
    Stuck,
    /// No run at work, and no migration tool.
    Idle,
    /// A migration tool at work in the shared place.
    Tool,
}

/// How one endpoint is called, and what it answers to those who may.
struct Case {
    action: &'static str,
    permission: Option<Permission>,
    given: Given,
    success: u16,
    query: fn(&Subject) -> String,
    body: fn(&Subject) -> Option<Value>,
}

impl Case {
    fn new(action: &'static str, permission: impl Into<Option<Permission>>, success: u16) -> Self {
        Self {
            action,
            permission: permission.into(),
            given: Given::Active,
            success,
            query: |_| String::new(),
            body: |_| None,
        }
    }

    fn given(self, given: Given) -> Self {
        Self { given, ..self }
    }

    fn query(self, query: fn(&Subject) -> String) -> Self {
        Self { query, ..self }
    }

    fn body(self, body: fn(&Subject) -> Option<Value>) -> Self {
        Self { body, ..self }
    }
}

/// The permissions stand here a second time on purpose: one that is changed in the code alone is a failure.
fn cases() -> Vec<Case> {
    use Permission::{
        AuditRead, DoorOpen, LoginRead, LoginWrite, PlatformRead, SchemaWrite, SecretRead, SnapshotRead, TenantEnter,
        TenantRead, TenantWrite, TierWrite, TokenWrite,
    };
    let mut cases = vec![
        Case::new("health.live", None, 200),
        Case::new("health.ready", None, 200),
        Case::new("api.describe", None, 200),
        Case::new("status.read", PlatformRead, 200),
        Case::new("tenant.list", PlatformRead, 200),
        Case::new("tenant.create", TenantWrite, 201)
            .body(|subject| Some(json!({ "slug": format!("{}-too", subject.tenant.slug), "tier": "free" }))),
        Case::new("tenant.import", TenantWrite, 200).body(|subject| {
            let key = subject.operation.id.to_string().trim_start_matches("op_").to_owned();
            Some(json!({ "tier": "free", "tenants": [{ "key": key }], "dry_run": true }))
        }),
        Case::new("tenant.read", TenantRead, 200),
        Case::new("tenant.delete", TenantWrite, 202).query(|subject| format!("?confirm={}&now=true", subject.tenant.slug)),
        Case::new("tenant.suspend", TenantWrite, 200),
        Case::new("tenant.resume", TenantWrite, 200).given(Given::Suspended),
        Case::new("tenant.set_tier", TenantWrite, 200).body(|_| Some(json!({ "tier": "pro" }))),
        Case::new("tenant.set_limits", TenantWrite, 200).body(|_| Some(json!({ "queue_len_max": 50 }))),
        Case::new("ticket.issue", TenantEnter, 201),
        Case::new("secret.read", SecretRead, 200),
        Case::new("door.open", DoorOpen, 201).body(|_| Some(json!({ "reason": "a report" }))),
        Case::new("door.list", PlatformRead, 200),
        // None is open by that id, which only who may ask is told.
        Case::new("door.end", DoorOpen, 404),
        Case::new("tier.list", PlatformRead, 200),
        Case::new("tier.read", PlatformRead, 200),
        Case::new("tier.put", TierWrite, 200).body(|_| Some(json!({ "isolation": "row", "weight": 7 }))),
        Case::new("tier.delete", TierWrite, 204),
        Case::new("operation.list", PlatformRead, 200),
        Case::new("operation.read", TenantRead, 200),
        Case::new("operation.retry", TenantWrite, 200).given(Given::Stuck),
        Case::new("operation.cancel", TenantWrite, 200).given(Given::Leaving),
        Case::new("incident.list", PlatformRead, 200),
        Case::new("audit.list", PlatformRead, 200),
        Case::new("audit.findings", PlatformRead, 200),
        Case::new("token.list", TokenWrite, 200),
        Case::new("token.create", TokenWrite, 201).body(|_| Some(json!({ "name": "a robot", "role": "auditor" }))),
        Case::new("token.revoke", TokenWrite, 204),
        Case::new("audit_log.list", AuditRead, 200),
        Case::new("audit_log.verify", AuditRead, 200),
        Case::new("hardening.plan", SchemaWrite, 200),
        Case::new("run.apply", SchemaWrite, 202).given(Given::Idle),
        Case::new("adoption.read", SchemaWrite, 200),
        Case::new("adoption.plan", SchemaWrite, 200).query(|_| "?step=prepare".to_owned()),
        // Nothing is declared to be adopted, which only who may ask is told.
        Case::new("run.adopt", SchemaWrite, 409).body(|_| Some(json!({ "step": "prepare" }))),
        Case::new("adoption.observe", SchemaWrite, 409).body(|_| Some(json!({ "observing": true }))),
        Case::new("migration.plan", SchemaWrite, 200),
        Case::new("migration.advise", SchemaWrite, 200),
        Case::new("migration.drift", SchemaWrite, 200),
        Case::new("migration.places", SchemaWrite, 200),
        Case::new("migration.open", SchemaWrite, 201).given(Given::Idle),
        Case::new("migration.renew", SchemaWrite, 204).given(Given::Tool),
        Case::new("migration.close", SchemaWrite, 204).given(Given::Tool).query(|_| "?exit_status=0".to_owned()),
        Case::new("run.migrate", SchemaWrite, 202).given(Given::Idle),
        Case::new("run.list", PlatformRead, 200),
        Case::new("key.read", PlatformRead, 200),
        // The world has one key only.
        Case::new("run.rotate_key", TokenWrite, 409),
        Case::new("run.rotate_secrets", TokenWrite, 202)
            .body(|subject| Some(json!({ "what": "capabilities", "tenant": subject.tenant.slug }))),
        Case::new("login.list", LoginRead, 200),
        Case::new("login.create", LoginWrite, 201).body(|subject| {
            let name = format!("n{}", subject.operation.id.to_string().trim_start_matches("op_"));
            Some(json!({ "name": name, "scope": { "kind": "tenant", "tenant": subject.tenant.slug } }))
        }),
        Case::new("login.rotate", LoginWrite, 200),
        Case::new("login.delete", LoginWrite, 204),
        Case::new("snapshot.read", SnapshotRead, 200),
        Case::new("gateway_event.report", SnapshotRead, 404)
            .body(|_| Some(json!({ "kind": "password_refused", "cluster": "main", "role": "nobody" }))),
        // No position is known by this number, which only who may ask is told.
        Case::new("snapshot.changes", SnapshotRead, 410).query(|_| "?since=0&wait_seconds=0".to_owned()),
        Case::new("observation.list", PlatformRead, 200),
        Case::new("observation.summary", PlatformRead, 200),
        Case::new("observation.report", SnapshotRead, 200).body(|_| {
            Some(json!({ "generation": 0, "observations": [], "statements": 0, "looked_at": 0, "overlooked": 0 }))
        }),
        Case::new("observation.clear", SchemaWrite, 204),
        Case::new("run.read", PlatformRead, 200),
    ];
    cases.extend(cases_of_access());
    cases
}

/// Those that say who may do what behind the API gateway.
fn cases_of_access() -> Vec<Case> {
    use Permission::{AccessRead, AccessWrite, PlatformRead, RouteWrite, TenantRead, TenantWrite, TokenWrite};
    vec![
        Case::new("api_key.list", AccessRead, 200).given(Given::Access),
        Case::new("api_key.create", AccessWrite, 201)
            .given(Given::Access)
            .body(|_| Some(json!({ "name": "a robot", "roles": ["own"] }))),
        Case::new("api_key.rotate", AccessWrite, 200).given(Given::Access),
        Case::new("api_key.revoke", AccessWrite, 204).given(Given::Access),
        Case::new("access.read", AccessRead, 200),
        Case::new("access.explain", AccessRead, 200).query(|_| "?subject=ada&permission=ticket.read".to_owned()),
        Case::new("access_role.put", AccessWrite, 200).body(|_| Some(json!({ "permissions": ["ticket.read"] }))),
        Case::new("access_role.delete", AccessWrite, 200).given(Given::Access),
        Case::new("access_group.put", AccessWrite, 200).body(|_| Some(json!({ "roles": [] }))),
        Case::new("access_group.delete", AccessWrite, 200).given(Given::Access),
        Case::new("access_user.put", AccessWrite, 200).body(|_| Some(json!({ "roles": [], "groups": [] }))),
        Case::new("access_user.delete", AccessWrite, 200).given(Given::Access),
        Case::new("domain.list", TenantRead, 200),
        Case::new("domain.add", TenantWrite, 200),
        Case::new("domain.remove", TenantWrite, 204).given(Given::Access),
        Case::new("http.read", PlatformRead, 200),
        // No API gateway is declared, which only who may ask is told.
        Case::new("route.put", RouteWrite, 409)
            .body(|_| Some(json!({ "path": "/tickets", "upstream": "app", "permission": "ticket.read" }))),
        Case::new("route.delete", RouteWrite, 409),
        Case::new("role.put", RouteWrite, 409).body(|_| Some(json!({ "permissions": ["ticket.read"] }))),
        Case::new("role.delete", RouteWrite, 409),
        Case::new("identity_key.list", PlatformRead, 200),
        Case::new("identity_key.rotate", TokenWrite, 200).body(|_| Some(json!({ "now": true }))),
        Case::new("identity_key.published", None, 200),
    ]
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Nobody,
    Garbage,
    Revoked,
    OtherTenantAdmin,
    Own(Role),
}

const IDENTITIES: [Identity; 9] = [
    Identity::Nobody,
    Identity::Garbage,
    Identity::Revoked,
    Identity::OtherTenantAdmin,
    Identity::Own(Role::TenantAdmin),
    Identity::Own(Role::Auditor),
    Identity::Own(Role::Operator),
    Identity::Own(Role::Gateway),
    Identity::Own(Role::PlatformAdmin),
];

/// What must come of it.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Success,
    Unauthenticated,
    Forbidden,
    Hidden,
}

fn expected(permission: Option<Permission>, is_about_a_tenant: bool, identity: Identity) -> Expected {
    let Some(permission) = permission else { return Expected::Success };
    match identity {
        Identity::Nobody | Identity::Garbage | Identity::Revoked => Expected::Unauthenticated,
        Identity::OtherTenantAdmin if is_about_a_tenant => Expected::Hidden,
        // Bound to a tenant, and so out of place wherever it is about none.
        Identity::Own(Role::TenantAdmin) if !is_about_a_tenant => Expected::Forbidden,
        Identity::Own(role) if role.grants(permission) => Expected::Success,
        Identity::OtherTenantAdmin | Identity::Own(_) => Expected::Forbidden,
    }
}

#[tokio::test]
async fn every_endpoint_answers_everybody_as_its_permission_says() {
    let world = World::hardened().await;
    let mut cases: BTreeMap<&str, Case> = cases().into_iter().map(|case| (case.action, case)).collect();
    let other = world.tenant("other").await;
    for (method, path, operation) in operations() {
        let action = operation.operation_id.clone().expect("an operation id");
        let case = cases.remove(action.as_str()).unwrap_or_else(|| panic!("{method} {path} ({action}) has no case here"));
        let documented = operation.extensions.as_ref().and_then(|extensions| extensions.get("x-guardian-permission"));
        let permission = case.permission.map_or_else(|| json!("public"), |permission| json!(permission));
        assert_eq!(documented, Some(&permission), "{action}: the documented permission");
        for identity in IDENTITIES {
            check(&world, &case, &method, &path, identity, &other).await;
        }
    }
    assert!(cases.is_empty(), "cases without an endpoint: {:?}", cases.keys());
}

fn operations() -> Vec<(Method, String, Operation)> {
    let paths = guardian_server::openapi().paths.paths;
    let operations = paths.into_iter().flat_map(|(path, item)| {
        let others = [item.options, item.head, item.patch, item.trace];
        assert!(others.iter().all(Option::is_none), "{path}: a method that this test does not know");
        let methods =
            [(Method::GET, item.get), (Method::POST, item.post), (Method::PUT, item.put), (Method::DELETE, item.delete)];
        methods.into_iter().filter_map(move |(method, operation)| Some((method, path.clone(), operation?)))
    });
    operations.collect()
}

async fn check(world: &World, case: &Case, method: &Method, path: &str, identity: Identity, other: &Subject) {
    let label = format!("{} as {identity:?}", case.action);
    let subject = prepare(world, case.given).await;
    let (token, actor) = credentials(world, identity, &subject, other).await;
    let uri = format!("{}{}", subject.fill(path), (case.query)(&subject));
    let seq = latest_refusal(world, &actor, case.action).await.map_or(0, |entry| entry.seq);
    let before = world.store.tenant(&TenantRef::Id(subject.tenant.id)).await.unwrap();

    let answer = world.call(method, &uri, token.as_deref(), (case.body)(&subject)).await;

    let is_about_a_tenant = path.contains("{tenant}") || path.contains("{operation}");
    let expected = expected(case.permission, is_about_a_tenant, identity);
    let status = match expected {
        Expected::Success => StatusCode::from_u16(case.success).unwrap(),
        Expected::Unauthenticated => StatusCode::UNAUTHORIZED,
        Expected::Forbidden => StatusCode::FORBIDDEN,
        Expected::Hidden => StatusCode::NOT_FOUND,
    };
    assert_eq!(answer.status, status, "{label}: {:.300}", answer.text);
    if expected == Expected::Success {
        return;
    }
    assert_is_problem(&answer, &label);
    if expected == Expected::Unauthenticated {
        assert!(answer.headers.contains_key("www-authenticate"), "{label}");
    }
    if expected == Expected::Hidden {
        assert_same_as_missing(world, method, path, case, &subject, token.as_deref(), &answer).await;
    }
    assert_eq!(world.store.tenant(&TenantRef::Id(subject.tenant.id)).await.unwrap(), before, "{label}: changed the tenant");
    let refusal = latest_refusal(world, &actor, case.action).await.filter(|entry| entry.seq > seq);
    let refusal = refusal.unwrap_or_else(|| panic!("{label}: the refusal is not in the audit log"));
    let names_the_tenant =
        is_about_a_tenant && matches!(identity, Identity::OtherTenantAdmin | Identity::Own(Role::TenantAdmin));
    if names_the_tenant && expected != Expected::Hidden {
        assert_eq!(refusal.tenant, Some(subject.tenant.id), "{label}: the audit log names the tenant");
    }
    let entry = serde_json::to_string(&refusal).unwrap();
    assert!(token.is_none_or(|token| !entry.contains(&token)), "{label}: the audit log holds the token");
}

/// Another tenant and one that does not exist must be one and the same to a tenant's administrator.
async fn assert_same_as_missing(
    world: &World,
    method: &Method,
    path: &str,
    case: &Case,
    subject: &Subject,
    token: Option<&str>,
    answer: &Answer,
) {
    let missing = subject.nowhere();
    let uri = format!("{}{}", missing.fill(path), (case.query)(&missing));
    let same = world.call(method, &uri, token, (case.body)(&missing)).await;
    let told = |answer: &Answer, subject: &Subject| {
        let text = answer.text.replace(subject.tenant.slug.as_str(), "X").replace(&subject.operation.id.to_string(), "X");
        (answer.status, text)
    };
    assert_eq!(told(answer, subject), told(&same, &missing), "{}: a tenant that exists can be told", case.action);
}

fn assert_is_problem(answer: &Answer, label: &str) {
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{label}");
    assert_eq!(answer.body["status"], answer.status.as_u16(), "{label}");
    let kind = answer.body["type"].as_str().unwrap_or_default();
    assert!(kind.starts_with("https://guardian.dev/problems/"), "{label}: {kind}");
}

async fn latest_refusal(world: &World, actor: &str, action: &str) -> Option<AuditEntry> {
    let filter = AuditFilter {
        actor: Some(actor.to_owned()),
        action: Some(action.to_owned()),
        outcome: Some(Outcome::Refused),
        tenant: None,
    };
    world.store.audit_entries(&filter, None, Some(1)).await.unwrap().items.into_iter().next()
}

async fn prepare(world: &World, given: Given) -> Subject {
    match given {
        Given::Active => world.tenant("subject").await,
        Given::Access => world.with_access("subject").await,
        Given::Suspended => world.suspended("subject").await,
        Given::Leaving => {
            let subject = world.leaving("subject").await;
            assert_eq!(subject.operation.state, OperationState::Running);
            subject
        }
        Given::Tool => world.with_tool("subject").await,
        Given::Stuck => world.stuck("subject").await,
        Given::Idle => {
            world.wait_for_runs().await;
            world.without_tool().await;
            world.tenant("subject").await
        }
    }
}

/// The token and the name that stands in the audit log.
async fn credentials(world: &World, identity: Identity, subject: &Subject, other: &Subject) -> (Option<String>, String) {
    let anonymous = "anonymous".to_owned();
    let known = |(secret, actor): (String, Actor)| (Some(secret), actor.name);
    match identity {
        Identity::Nobody => (None, anonymous),
        Identity::Garbage => (Some(format!("grd_admin_{:064x}", 7)), anonymous),
        Identity::Revoked => (Some(world.revoked_token().await), anonymous),
        Identity::OtherTenantAdmin => known(world.token(Role::TenantAdmin, Some(other.tenant.id)).await),
        Identity::Own(Role::TenantAdmin) => known(world.token(Role::TenantAdmin, Some(subject.tenant.id)).await),
        Identity::Own(role) => known(world.token(role, None).await),
    }
}
