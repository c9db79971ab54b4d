//! What the API's description says of each endpoint, as the guard needs it: the documented permission *is* the enforced one.

use std::collections::HashMap;

use axum::http::Method;
use guardian_model::Permission;
use utoipa::openapi::{OpenApi, path::Operation};

/// The extension that names an operation's permission, or [`PUBLIC`].
pub(crate) const PERMISSION: &str = "x-guardian-permission";
/// The word for operations that ask for no token.
pub(crate) const PUBLIC: &str = "public";

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `operationId`, and the action in the audit log.
    pub(crate) action: String,
    /// What it asks for; `None`: anybody may.
    pub(crate) permission: Option<Permission>,
    /// Whether it is about one tenant, named (perhaps through an operation) in the path: then the handler decides, because
    /// only it knows which. All others are refused here to whoever is bound to one tenant.
    pub(crate) is_about_a_tenant: bool,
}

/// Every endpoint by method and route.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(HashMap<(Method, String), Endpoint>);

impl Endpoints {
    /// Reads the description. An operation that names no permission is left out, and so refused to everybody.
    pub(crate) fn of(openapi: &OpenApi) -> Self {
        let operations = openapi.paths.paths.iter().flat_map(|(path, item)| {
            let by_method = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            by_method.into_iter().filter_map(move |(method, operation)| {
                let endpoint = Endpoint::of(path, operation.as_ref()?)?;
                Some(((method, path.clone()), endpoint))
            })
        });
        Self(operations.collect())
    }

    pub(crate) fn get(&self, method: &Method, route: &str) -> Option<&Endpoint> {
        // axum answers HEAD with the GET handler.
        let method = if method == Method::HEAD { Method::GET } else { method.clone() };
        self.0.get(&(method, route.to_owned()))
    }
}

impl Endpoint {
    fn of(path: &str, operation: &Operation) -> Option<Self> {
        let word = operation.extensions.as_ref()?.get(PERMISSION)?;
        let permission = match word.as_str() {
            Some(PUBLIC) => None,
            _ => Some(serde_json::from_value(word.clone()).ok()?),
        };
        let is_about_a_tenant = path.contains("{tenant}") || path.contains("{operation}");
        Some(Self { action: operation.operation_id.clone()?, permission, is_about_a_tenant })
    }
}
