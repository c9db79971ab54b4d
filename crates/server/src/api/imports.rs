//! The import of the tenants that an application already has.

use axum::{Json, extract::DefaultBodyLimit, extract::State};
use guardian_model::{
    Permission,
    import::{ImportReport, ImportTenants},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    auth::OnPlatform,
    extract::{BULK_BYTES_MAX, BulkBody},
    problem::ApiResult,
};

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(import)).layer(DefaultBodyLimit::max(BULK_BYTES_MAX))
}

/// Import the tenants that the application already has
///
/// They become `row` tenants with their keys. What stands in the way of one is told in the answer, and hinders no other;
/// asking again changes nothing.
#[utoipa::path(
    post, path = "/v1/imports", tag = "tenants", operation_id = "tenant.import",
    extensions(("x-guardian-permission" = json!(Permission::TenantWrite))),
    request_body(content = ImportTenants, example = json!({
        "tier": "pro", "tenants": [{ "key": "42", "slug": "acme" }, { "key": "43", "name": "Globex, Inc." }]
    })),
    responses(
        (status = 200, description = "What came of it", body = ImportReport),
        (status = 409, description = "The shared place is not hardened"),
    ),
)]
async fn import(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    BulkBody(body): BulkBody<ImportTenants>,
) -> ApiResult<Json<ImportReport>> {
    Ok(Json(state.lifecycle.import(&permit, body).await?))
}
