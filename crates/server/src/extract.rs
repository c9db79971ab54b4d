//! The parts of a request as types: axum's own extractors, with problem documents for refusals.

use std::error::Error as _;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::problem::{ApiError, Kind};

/// The largest body, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// The largest body of the one request that brings a thousand things.
pub(crate) const BULK_BYTES_MAX: usize = 1024 * 1024;

/// A JSON body. None at all counts as `{}`: a body whose every field is optional may be left out.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(request, state, BODY_BYTES_MAX).await.map(Self)
    }
}

/// The same for a route whose limit was raised to [`BULK_BYTES_MAX`].
pub(crate) struct BulkBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for BulkBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        read(request, state, BULK_BYTES_MAX).await.map(Self)
    }
}

async fn read<S: Send + Sync, T: DeserializeOwned>(request: Request, state: &S, max: usize) -> Result<T, ApiError> {
    let is_json = says_json(request.headers());
    let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(Kind::TooLarge, format!("the body may have {max} bytes"))
        } else {
            ApiError::new(Kind::Malformed, "the body broke off")
        }
    })?;
    if bytes.is_empty() {
        return parse(b"{}");
    }
    if !is_json {
        return Err(ApiError::new(Kind::MediaType, "send the body as `Content-Type: application/json`"));
    }
    parse(&bytes)
}

fn says_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // PostgreSQL's text cannot hold it, and no value of this API has use for it.
    if bytes.windows(6).any(|window| window == br"\u0000") {
        return Err(ApiError::invalid(r"no text here may contain the character \u0000"));
    }
    let axum::Json(value) = axum::Json::from_bytes(bytes).map_err(|rejection| {
        let kind = if matches!(rejection, JsonRejection::JsonDataError(_)) { Kind::Invalid } else { Kind::Malformed };
        // The source names the field and what is wrong with it; axum's words around it speak of Rust types.
        let reason = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
        ApiError::new(kind, reason)
    })?;
    Ok(value)
}

/// The query.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let reason = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
                Err(ApiError::new(Kind::Malformed, format!("the query: {reason}")))
            }
        }
    }
}

/// The variable part of the path, as text: what it names is looked up, and what it cannot name is not found.
pub(crate) struct PathName(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(text)) => Ok(Self(text)),
            Err(_) => Err(ApiError::new(Kind::Malformed, "the path is not UTF-8")),
        }
    }
}

/// The last of two variable parts of the path; the first names the tenant, which [`OnTenant`](crate::auth::OnTenant) has.
pub(crate) struct PathRest(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathRest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<(String, String)>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path((_, text))) => Ok(Self(text)),
            Err(_) => Err(ApiError::new(Kind::Malformed, "the path is not UTF-8")),
        }
    }
}

/// The tenant that the path names, wherever in it.
pub(crate) struct PathTenant(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathTenant {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(serde::Deserialize)]
        struct Named {
            tenant: String,
        }
        match axum::extract::Path::<Named>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(Named { tenant })) => Ok(Self(tenant)),
            Err(_) => Err(ApiError::new(Kind::Malformed, "the path is not UTF-8")),
        }
    }
}
