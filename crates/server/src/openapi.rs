//! The description of the API, made from the same list as its routes.

use axum::Router;
use serde_json::json;
use utoipa::{
    OpenApi as _,
    openapi::{
        Content, ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    AppState, api,
    endpoint::{PERMISSION, PUBLIC},
    problem::{Kind, MEDIA_TYPE},
};

const BEARER: &str = "bearer";
/// The extension that lists every kind of problem.
const PROBLEMS: &str = "x-guardian-problems";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Guardian",
        description = "The control plane: tenants, tiers, operations, hardening, migrations, tokens and the audit log.\n\n\
            Send a bearer token. `x-guardian-permission` names what an operation asks for; `operationId` is its action in the \
            audit log. Errors are problem documents (RFC 9457); \
            `x-guardian-problems` lists their kinds. Lists are read page by page with `cursor`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(guardian_model::api::Problem))
)]
struct Base;

/// The routes and their description.
pub(crate) fn describe() -> (Router<AppState>, OpenApi) {
    let (router, mut openapi) = api::routes(OpenApiRouter::with_openapi(Base::openapi())).split_for_parts();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("`guardian token create`")).build();
    let components = openapi.components.get_or_insert_default();
    components.security_schemes.insert(BEARER.to_owned(), SecurityScheme::Http(bearer).into());
    for (name, response) in refusals() {
        components.responses.insert(name.to_owned(), RefOr::T(response));
    }
    openapi.security = Some(vec![SecurityRequirement::new(BEARER, [""; 0])]);
    for (path, item) in &mut openapi.paths.paths {
        for operation in
            [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().filter_map(Option::as_mut)
        {
            complete(path, operation);
        }
    }
    let kinds =
        Kind::ALL.iter().map(|kind| json!({ "type": kind.uri(), "title": kind.title(), "status": kind.status().as_u16() }));
    openapi.extensions.get_or_insert_default().insert(PROBLEMS.to_owned(), kinds.collect());
    (router, openapi)
}

/// The refusals that any operation of a shape can answer with, written once.
fn complete(path: &str, operation: &mut Operation) {
    let is_public =
        operation.extensions.as_ref().and_then(|extensions| extensions.get(PERMISSION)).is_some_and(|word| word == PUBLIC);
    let mut names = vec![("default", "Problem")];
    if is_public {
        operation.security = Some(vec![SecurityRequirement::default()]);
    } else {
        names.extend([("401", "Unauthenticated"), ("403", "Forbidden")]);
    }
    if path.contains('{') {
        names.push(("404", "NotFound"));
    }
    if operation.request_body.is_some() {
        names.extend([("413", "TooLarge"), ("415", "MediaType"), ("422", "Invalid")]);
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
        {
            response.content.insert(MEDIA_TYPE.to_owned(), problem_content(None).into());
        }
    }
    for (status, name) in names {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::Ref(Ref::from_response_name(name)));
    }
}

fn refusals() -> [(&'static str, Response); 7] {
    let shared = |kind: Kind, detail: &str| {
        let example = json!({
            "type": kind.uri(), "title": kind.title(), "status": kind.status().as_u16(), "detail": detail,
        });
        refusal(kind.title(), Some(example))
    };
    [
        (
            "Unauthenticated",
            shared(Kind::Unauthenticated, "send `Authorization: Bearer …` with a token that is not revoked"),
        ),
        ("Forbidden", shared(Kind::Forbidden, "the role `auditor` may not do that here")),
        ("NotFound", shared(Kind::NotFound, "there is no tenant `acme`")),
        ("TooLarge", shared(Kind::TooLarge, "the body may have 65536 bytes")),
        ("MediaType", shared(Kind::MediaType, "send the body as `Content-Type: application/json`")),
        ("Invalid", shared(Kind::Invalid, "slug: `admin` is reserved; choose another slug at line 1 column 15")),
        ("Problem", refusal("Any other problem", None)),
    ]
}

fn refusal(description: &str, example: Option<serde_json::Value>) -> Response {
    ResponseBuilder::new().description(description).content(MEDIA_TYPE, problem_content(example)).build()
}

fn problem_content(example: Option<serde_json::Value>) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(example).build()
}

/// The description of the API.
pub fn openapi() -> OpenApi {
    describe().1
}

/// The description of the API as it stands in `docs/openapi.json`.
pub fn openapi_json() -> String {
    // The document is made of strings, numbers and maps with string keys.
    let mut json = openapi().to_pretty_json().unwrap_or_default();
    json.push('\n');
    json
}
