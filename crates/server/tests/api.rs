//! How the API behaves beyond who may do what: problems, bodies, idempotency, pages.

#![allow(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod common;

use std::collections::HashSet;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use common::{Answer, World, slug};
use guardian_model::Role;
use guardian_testkit::Server;
use serde_json::{Value, json};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

fn kind(answer: &Answer) -> &str {
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{}", answer.text);
    assert_eq!(answer.body["status"], answer.status.as_u16());
    answer.body["type"].as_str().unwrap().strip_prefix("https://guardian.dev/problems/").unwrap()
}

fn detail(answer: &Answer) -> &str {
    answer.body["detail"].as_str().unwrap()
}

fn raw(method: &str, uri: &str, token: &str, media_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(header::AUTHORIZATION, format!("bearer {token}"))
        .header(header::CONTENT_TYPE, media_type)
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn whatever_cannot_be_read_is_a_problem() {
    let world = World::new().await;
    let (token, _) = world.token(Role::PlatformAdmin, None).await;
    let json = "application/json";
    let large = format!(r#"{{"slug":"{}"}}"#, "x".repeat(70_000));
    let cases = [
        (raw("GET", "/v1/nothing", &token, json, ""), 404, "not-found"),
        (raw("PATCH", "/v1/tenants", &token, json, ""), 405, "method-not-allowed"),
        (raw("POST", "/v1/tenants", &token, json, "{"), 400, "malformed"),
        (raw("POST", "/v1/tenants", &token, json, r#"{"slug":"a","tier":"free"} x"#), 400, "malformed"),
        (raw("POST", "/v1/tenants", &token, json, ""), 422, "invalid"),
        (raw("POST", "/v1/tenants", &token, json, r#"{"slug":"acme","tier":"free","command":"id"}"#), 422, "invalid"),
        (raw("POST", "/v1/tenants", &token, json, r#"{"slug":"acme","tier":"free","key":"a\u0000b"}"#), 422, "invalid"),
        (raw("POST", "/v1/logins", &token, json, r#"{"name":"a.b","scope":{"kind":"admin"}}"#), 422, "invalid"),
        (raw("POST", "/v1/logins", &token, json, r#"{"name":"a","scope":{"kind":"admin","sql":"x"}}"#), 422, "invalid"),
        (raw("POST", "/v1/logins", &token, json, r#"{"name":"a","scope":{"kind":"tenant","tenant":"no"}}"#), 422, "invalid"),
        (
            raw(
                "POST",
                "/v1/gateway-events",
                &token,
                json,
                r#"{"kind":"password_refused","cluster":"a","role":"b","sql":"x"}"#,
            ),
            422,
            "invalid",
        ),
        (raw("PUT", "/v1/logins/app/rotate", &token, json, ""), 405, "method-not-allowed"),
        (raw("GET", "/v1/snapshot/changes", &token, json, ""), 400, "malformed"),
        (raw("GET", "/v1/snapshot/changes?since=1&wait_seconds=26", &token, json, ""), 422, "invalid"),
        (raw("POST", "/v1/tenants", &token, "text/plain", r#"{"slug":"acme","tier":"free"}"#), 415, "media-type"),
        (raw("POST", "/v1/tenants", &token, json, large), 413, "too-large"),
        (raw("GET", "/v1/tenants?state=sleeping", &token, json, ""), 400, "malformed"),
        (raw("GET", "/v1/tenants?order=slug", &token, json, ""), 400, "malformed"),
        (raw("GET", "/v1/tenants?limit=501", &token, json, ""), 422, "invalid"),
        (raw("GET", "/v1/tenants?cursor=!", &token, json, ""), 422, "invalid"),
        (raw("GET", "/v1/tenants?slug_prefix=a%00b", &token, json, ""), 400, "malformed"),
        (raw("GET", "/v1/tenants/%ff", &token, json, ""), 400, "malformed"),
        (raw("GET", "/v1/tenants/ten_0", &token, json, ""), 404, "not-found"),
        (raw("GET", "/v1/tenants/%27%3B%20DROP%20TABLE%20tenant", &token, json, ""), 404, "not-found"),
        (raw("GET", "/v1/operations?tenant=nobody", &token, json, ""), 422, "invalid"),
        (raw("GET", "/v1/audit-log?outcome=maybe", &token, json, ""), 422, "invalid"),
        (raw("GET", "/v1/runs/run_0", &token, json, ""), 404, "not-found"),
        (raw("PUT", "/v1/tiers/Big%20One", &token, json, r#"{"isolation":"row"}"#), 422, "invalid"),
        (raw("PUT", "/v1/tiers/big", &token, json, r#"{"isolation":"row","weight":0}"#), 422, "invalid"),
        (raw("PUT", "/v1/tiers/free", &token, json, r#"{"isolation":"row"}"#), 409, "wrong-state"),
        (raw("DELETE", "/v1/tiers/nothing", &token, json, ""), 404, "not-found"),
        (raw("POST", "/v1/tokens", &token, json, r#"{"name":"x","role":"tenant_admin"}"#), 422, "invalid"),
        (raw("POST", "/v1/tokens", &token, json, r#"{"name":"x","role":"auditor","tenant":"acme"}"#), 422, "invalid"),
        (raw("POST", "/v1/tokens", &token, json, r#"{"name":"\n","role":"auditor"}"#), 422, "invalid"),
        (raw("POST", "/v1/migrations", &token, json, r#"{"parallel":65}"#), 422, "invalid"),
    ];
    for (request, status, expected) in cases {
        let label = format!("{} {}", request.method(), request.uri());
        let answer = world.send(request).await;
        assert_eq!((answer.status.as_u16(), kind(&answer)), (status, expected), "{label}: {}", answer.text);
        assert!(!detail(&answer).is_empty(), "{label}");
        assert!(!answer.text.contains(&token), "{label}");
    }
}

#[tokio::test]
async fn a_refused_slug_says_what_would_do() {
    let world = World::new().await;
    let (token, _) = world.token(Role::Operator, None).await;
    for (slug, words) in [
        ("Acme Corp", "`acme-corp` would do"),
        ("", "may not be empty"),
        ("admin", "reserved"),
        ("аcme", "may not contain 'а'"),
        ("x'; DROP TABLE tenant; --", "may not contain"),
        ("ten_01jd8v1n2c3p4q5r6s7t8v9w0x", "may not contain '_'"),
        (&"x".repeat(64), "63 at most"),
    ] {
        let answer = world.call(&POST, "/v1/tenants", Some(&token), Some(json!({ "slug": slug, "tier": "free" }))).await;
        assert_eq!((answer.status.as_u16(), kind(&answer)), (422, "invalid"), "{slug}");
        assert!(detail(&answer).starts_with("slug: ") && detail(&answer).contains(words), "{slug}: {}", detail(&answer));
    }
}

#[tokio::test]
async fn every_answer_can_be_found_in_the_log_and_is_kept_nowhere() {
    let world = World::new().await;
    let answer = world.call(&GET, "/healthz", None, None).await;
    assert_eq!(answer.headers["x-request-id"].len(), 32);
    assert_eq!(answer.headers["cache-control"], "no-store");
    for (sent, kept) in [("mine-7", true), ("a b", false), (&*"x".repeat(65), false)] {
        let request = Request::get("/v1/nothing").header("x-request-id", sent).body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        assert_eq!(answer.headers["x-request-id"] == sent, kept, "{sent}");
    }
}

#[tokio::test]
async fn credentials_in_any_other_shape_are_none() {
    let world = World::new().await;
    let (token, _) = world.token(Role::PlatformAdmin, None).await;
    let ask = |values: Vec<String>| {
        let request = values
            .into_iter()
            .fold(Request::get("/v1/tiers"), |request, value| request.header(header::AUTHORIZATION, value));
        world.send(request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask(vec![format!("BEARER  {token} ")]).await.status, StatusCode::OK);
    for values in [
        vec![format!("Basic {token}")],
        vec![token.clone()],
        vec!["Bearer".to_owned()],
        vec!["Bearer ".to_owned()],
        vec![format!("Bearer {token}x")],
        vec![format!("Bearer {token}"), format!("Bearer {token}")],
        vec![format!("Bearer {}", token.to_uppercase())],
    ] {
        let answer = ask(values.clone()).await;
        assert_eq!((answer.status.as_u16(), kind(&answer)), (401, "unauthenticated"), "{values:?}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], r#"Bearer realm="guardian""#);
    }
}

#[tokio::test]
async fn nobody_learns_the_shape_of_a_request_that_they_may_not_make() {
    let world = World::hardened().await;
    let subject = world.tenant("own").await.tenant;
    let (own, _) = world.token(Role::TenantAdmin, Some(subject.id)).await;
    let (other, _) = world.token(Role::TenantAdmin, Some(world.tenant("other").await.tenant.id)).await;
    let (auditor, _) = world.token(Role::Auditor, None).await;
    let tier = format!("/v1/tenants/{}/set-tier", subject.slug);
    let delete = format!("/v1/tenants/{}", subject.slug);
    for (method, uri, token, status) in [
        ("POST", &*tier, &*own, 403),
        ("POST", &*tier, &*other, 404),
        ("DELETE", &*delete, &*other, 404),
        ("POST", "/v1/tenants", &*auditor, 403),
        ("POST", "/v1/tokens", "wrong", 401),
    ] {
        let answer = world.send(raw(method, uri, token, "text/plain", "x".repeat(100_000))).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {uri}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_control_database_that_is_gone_is_said_to_be() {
    let server = Server::own();
    let world = World::alone(&server).await;
    let (token, _) = world.token(Role::PlatformAdmin, None).await;
    assert_eq!(world.call(&GET, "/readyz", None, None).await.status, StatusCode::OK);
    server.kill();
    let (alive, ready, tiers) = tokio::join!(
        world.call(&GET, "/healthz", None, None),
        world.call(&GET, "/readyz", None, None),
        world.call(&GET, "/v1/tiers", Some(&token), None),
    );
    assert_eq!(alive.status, StatusCode::OK);
    for answer in [ready, tiers] {
        assert_eq!((answer.status.as_u16(), kind(&answer)), (503, "unavailable"), "{}", answer.text);
        assert!(detail(&answer).starts_with("the control database does not answer"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_repeated_creation_makes_one_tenant() {
    let world = World::hardened().await;
    let (token, _) = world.token(Role::Operator, None).await;
    let (other, _) = world.token(Role::Operator, None).await;
    let create = async |token: &str, key: &str, body: &Value| {
        let request = Request::post("/v1/tenants")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key)
            .body(Body::from(body.to_string()))
            .unwrap();
        world.send(request).await
    };
    let body = json!({ "slug": slug("once"), "tier": "free" });
    let first = create(&token, "key-1", &body).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let id = first.body["tenant"]["id"].as_str().unwrap();
    assert_eq!(first.headers[header::LOCATION], format!("/v1/tenants/{id}"));
    let again = create(&token, "key-1", &body).await;
    assert_eq!(again.status, StatusCode::CREATED);
    assert_eq!(again.body["tenant"]["id"], first.body["tenant"]["id"]);
    assert_eq!(again.body["operation"]["id"], first.body["operation"]["id"]);

    let changed = create(&token, "key-1", &json!({ "slug": slug("twice"), "tier": "free" })).await;
    assert_eq!((changed.status.as_u16(), kind(&changed)), (422, "idempotency-mismatch"));
    let stranger = create(&other, "key-1", &body).await;
    assert_eq!((stranger.status.as_u16(), kind(&stranger)), (409, "slug-taken"), "{}", stranger.text);
    let unkeyed = world.call(&POST, "/v1/tenants", Some(&token), Some(body)).await;
    assert_eq!((unkeyed.status.as_u16(), kind(&unkeyed)), (409, "slug-taken"));
    for key in ["", &"x".repeat(256)] {
        let refused = create(&token, key, &json!({ "slug": slug("never"), "tier": "free" })).await;
        assert_eq!((refused.status.as_u16(), kind(&refused)), (400, "malformed"));
    }
}

#[tokio::test]
async fn every_tenant_is_listed_once_while_others_come() {
    let world = World::hardened().await;
    let (token, _) = world.token(Role::Auditor, None).await;
    let mut before = HashSet::new();
    for _ in 0..25 {
        before.insert(world.tenant("early").await.tenant.slug.to_string());
    }
    for filter in ["", "&tier=free", "&isolation=row&state=active", "&slug_prefix=early-"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let uri = format!("/v1/tenants?limit=7{filter}{cursor}");
            let page = world.call(&GET, &uri, Some(&token), None).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.text);
            let items = page.body["items"].as_array().unwrap();
            assert!(items.len() <= 7);
            seen.extend(items.iter().map(|tenant| tenant["slug"].as_str().unwrap().to_owned()));
            world.tenant("late").await;
            match page.body["next_cursor"].as_str() {
                Some(next) if seen.len() < 200 => cursor = format!("&cursor={next}"),
                Some(_) => panic!("{filter}: the list does not end"),
                None => break,
            }
        }
        let distinct: HashSet<_> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "{filter}: a tenant came twice");
        assert!(before.is_subset(&distinct), "{filter}: a tenant is missing");
        if filter.contains("slug_prefix") {
            assert_eq!(distinct, before);
        }
    }
    let none = world.call(&GET, "/v1/tenants?tier=pro", Some(&token), None).await;
    assert_eq!(none.body, json!({ "items": [] }));
}

#[tokio::test]
async fn a_deletion_needs_the_slug_again() {
    let world = World::hardened().await;
    let (token, _) = world.token(Role::Operator, None).await;
    let tenant = world.tenant("kept").await.tenant;
    let uri = format!("/v1/tenants/{}", tenant.id);
    for (query, status) in [("", 400), ("?confirm=", 422), ("?confirm=other", 422), ("?now=true", 400)] {
        let answer = world.call(&Method::DELETE, &format!("{uri}{query}"), Some(&token), None).await;
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.text);
    }
    let gone = world.call(&Method::DELETE, &format!("{uri}?confirm={}", tenant.slug), Some(&token), None).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED, "{}", gone.text);
    let busy = world.call(&POST, &format!("{uri}/suspend"), Some(&token), None).await;
    assert_eq!((busy.status.as_u16(), kind(&busy)), (409, "tenant-busy"), "{}", busy.text);
}

#[test]
fn the_committed_description_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == guardian_server::openapi_json(), "docs/openapi.json is out of date: run `guardian generate`");
}

#[test]
fn nothing_takes_a_command_a_path_or_sql() {
    let text = guardian_server::openapi_json();
    let document: Value = serde_json::from_str(&text).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let Some(body) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else { continue };
            let schema = &schemas[body.as_str().unwrap().rsplit('/').next().unwrap()];
            // The description of an enum cannot say it; a test of the endpoint has to.
            let variants = schema["oneOf"].as_array();
            if variants.is_none() {
                assert_eq!(schema["additionalProperties"], false, "{path}: unknown fields are refused, and said to be");
            }
            let objects = variants.map_or_else(|| vec![schema], |variants| variants.iter().collect());
            for field in objects.iter().flat_map(|object| object["properties"].as_object().unwrap().keys()) {
                // Not one of a file: which requests a route is for.
                if path == "/v1/http/routes/{route}" && field == "path" {
                    continue;
                }
                let taken = ["command", "cmd", "exec", "path", "file", "sql", "query", "url", "host"];
                assert!(!taken.contains(&field.as_str()), "{path}: {field}");
            }
        }
    }
}
