//! Everything that a request can be refused with: one kind drives the status, the type and the title of the answer
//! (RFC 9457), and every other error of Guardian is turned into one of these exactly once.

use std::error::Error;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use guardian_model::api::Problem;

/// The media type of a problem document.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $status:ident, $name:literal, $title:literal;)+) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[$doc])* $kind,)+ }

        impl Kind {
            /// Every kind.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),+];

            /// The HTTP status it is answered with.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)+ }
            }

            /// The URI that names it.
            pub(crate) const fn uri(self) -> &'static str {
                match self { $(Self::$kind => concat!("https://guardian.dev/problems/", $name),)+ }
            }

            /// The kind in words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }
        }
    };
}

kinds! {
    /// The request cannot be read at all.
    Malformed = BAD_REQUEST, "malformed", "The request cannot be read";
    /// No token, or none that is known.
    Unauthenticated = UNAUTHORIZED, "unauthenticated", "A valid bearer token is needed";
    /// The token's role is not enough.
    Forbidden = FORBIDDEN, "forbidden", "The token's role may not do that";
    /// No such thing, or none that the caller may know of.
    NotFound = NOT_FOUND, "not-found", "There is no such thing";
    /// The path knows other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The path does not know this method";
    /// Another tenant has the name.
    SlugTaken = CONFLICT, "slug-taken", "The slug is taken";
    /// Another tenant has the key.
    KeyTaken = CONFLICT, "key-taken", "The tenant key is taken";
    /// Another operation is at work on the tenant.
    TenantBusy = CONFLICT, "tenant-busy", "The tenant has another operation";
    /// The tenant, operation or tier is in a state that forbids it.
    WrongState = CONFLICT, "wrong-state", "Not in this state";
    /// A run of the same kind is not over.
    RunBusy = CONFLICT, "run-busy", "A run is already going";
    /// A migration tool is at work in the place.
    ToolBusy = CONFLICT, "tool-busy", "A migration tool is at work there";
    /// The body is too large.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    /// The body is no JSON by its media type.
    MediaType = UNSUPPORTED_MEDIA_TYPE, "media-type", "The body must be JSON";
    /// Understood, and not acceptable.
    Invalid = UNPROCESSABLE_ENTITY, "invalid", "A value is not acceptable";
    /// The idempotency key was used for something else.
    IdempotencyMismatch = UNPROCESSABLE_ENTITY, "idempotency-mismatch", "The idempotency key belongs to another request";
    /// A gateway's position in the feed of changes is not known here.
    Gone = GONE, "position-gone", "The position is not known; read the whole snapshot again";
    /// Guardian's own fault.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong inside Guardian";
    /// `guardian.toml` was changed into something that is not understood.
    Configuration = CONFLICT, "configuration", "guardian.toml cannot be used as it is";
    /// `apply` needs a decision first.
    Undecided = CONFLICT, "undecided", "Something must be decided first";
    /// A limit of the tenant's; the detail names it.
    LimitReached = TOO_MANY_REQUESTS, "limit-reached", "A limit of the tenant is reached";
    /// More requests at once than Guardian takes.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too many requests at once";
    /// A database or a server that the request needs does not answer.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "Something that the request needs is not available";
    /// The request took too long.
    Timeout = GATEWAY_TIMEOUT, "timeout", "The request took too long";
}

/// A refusal or a failure, on its way to the caller.
#[derive(Debug)]
pub(crate) struct ApiError {
    kind: Kind,
    detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What an endpoint answers with.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// What went wrong, and what to do about it.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// A refusal whose detail says what to do about it.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), source: None }
    }

    /// A failure that the caller can do nothing about; the log has the reason, the answer has not.
    pub(crate) fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "Guardian's log says why, under the request id of this answer (`x-request-id`)";
        Self { kind: Kind::Internal, detail: detail.to_owned(), source: Some(source.into()) }
    }

    /// Something that the request needs does not answer.
    pub(crate) fn unavailable(detail: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unavailable, detail: detail.into(), source: Some(source.into()) }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail)
    }
}

/// An error with everything that caused it, for the log.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many libraries print their source themselves.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        if let Some(source) = self.source {
            let reason = chain(source.as_ref());
            tracing::error!(problem = self.kind.uri(), error = reason, "a request failed");
        }
        let problem = Problem {
            kind: self.kind.uri().to_owned(),
            title: self.kind.title().to_owned(),
            status: status.as_u16(),
            detail: self.detail,
        };
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], Json(problem)).into_response();
        let extra = match self.kind {
            Kind::Unauthenticated => Some((header::WWW_AUTHENTICATE, r#"Bearer realm="guardian""#)),
            Kind::Overloaded | Kind::Unavailable => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
