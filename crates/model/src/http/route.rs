//! A route of the API gateway: which requests go to which upstream, and what they need.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{HostName, PermissionName, RouteName, UpstreamName};

/// A route of the API gateway. Of several that fit a request, one that names the host goes before one that does not, and
/// literal parts of a path before `{…}` before `{*…}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRoute {
    /// Its name, unique.
    pub name: RouteName,
    /// The hosts it is for; none: every host that names a tenant, and every other.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<HostName>,
    /// The path: `/tickets/{id}`, `/files/{*rest}`. `{tenant}` names the tenant, where `http.tenant_path` says so.
    pub path: String,
    /// The methods; none: all. HEAD goes where GET goes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<HttpMethod>,
    /// Where its requests go.
    pub upstream: UpstreamName,
    /// What somebody needs to be allowed; give either this or `public`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionName>,
    /// Whether anybody may, without saying who they are. The tenant has to be named all the same.
    #[serde(default, skip_serializing_if = "is_false")]
    pub public: bool,
    /// Requests a minute of one tenant on this route, within the tenant's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute_max: Option<u32>,
    /// Seconds until the answer has to begin; left out: the upstream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_seconds_max: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A method that a route may have. CONNECT and TRACE have no business behind a gateway.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET, and HEAD with it.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
}

impl HttpMethod {
    /// Every one of them.
    pub const ALL: [Self; 6] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The word in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Reads the word of a request; HEAD is a GET without the answer's body.
    pub fn from_word(word: &str) -> Option<Self> {
        if word == "HEAD" {
            return Some(Self::Get);
        }
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }
}

impl HttpRoute {
    /// Whether it is for a method.
    pub fn takes(&self, method: HttpMethod) -> bool {
        self.methods.is_empty() || self.methods.contains(&method)
    }

    /// Its path with the names of its parameters left out: two routes with the same shape fit the same requests.
    pub fn shape(&self) -> String {
        let part = |segment: &str| match segment.strip_prefix('{') {
            Some(name) if name.starts_with('*') => "{*}".to_owned(),
            Some(_) => "{}".to_owned(),
            None => segment.to_owned(),
        };
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }
}
