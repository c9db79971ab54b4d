//! How a request travels: address, token, time limits, and the way back from an answer to a type.

use std::{fmt, time::Duration};

use guardian_model::api::Problem;
use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{self, HeaderMap, HeaderValue},
    redirect,
};
use serde::de::DeserializeOwned;

use crate::ClientError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the server's own limit, so that its answer arrives.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// The same for requests that look at everything there is.
pub(crate) const LONG_REQUEST_TIMEOUT: Duration = Duration::from_mins(6);

/// A client of one control plane, acting as one bearer token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

/// The token stays out.
impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the control plane at `server` (`http://127.0.0.1:7117`, or just `127.0.0.1:7117`).
    pub fn new(server: &str, token: &str) -> Result<Self, ClientError> {
        let address = || ClientError::Address(server.to_owned());
        let text = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let base = Url::parse(&text).map_err(|_| address())?;
        let is_plain = matches!(base.scheme(), "http" | "https")
            && base.host().is_some()
            && base.path() == "/"
            && base.query().is_none()
            && base.username().is_empty();
        if !is_plain {
            return Err(address());
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .user_agent(concat!("guardian/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(header::AUTHORIZATION, authorization)]))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            // A redirect would carry the token to where nobody meant it to go.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|_| address())?;
        Ok(Self { http, base })
    }

    /// Whether what travels is protected: by TLS, or because it stays on this machine.
    pub fn is_protected(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        is_here || self.base.scheme() == "https"
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request for the path made of these segments, each of which is escaped.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        // A URL swallows these three, and the request would go somewhere else.
        if let Some(segment) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(ClientError::Name((*segment).to_owned()));
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        Ok(self.http.request(method, url))
    }

    /// Sends a request and reads the body of a good answer.
    pub(crate) async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.answer(request).await?;
        response.json().await.map_err(|source| ClientError::Answer { server: self.server().to_owned(), source })
    }

    /// Sends a request whose good answer has no body.
    pub(crate) async fn send_only(&self, request: RequestBuilder) -> Result<(), ClientError> {
        self.answer(request).await.map(drop)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let server = || self.server().to_owned();
        // Without the address: a path may name a tenant twice in one message, and the server is named already.
        let response = request.send().await.map_err(|source| match source.without_url() {
            source if source.is_connect() => ClientError::Unreachable { server: server(), source },
            source if source.is_timeout() => ClientError::Timeout { server: server(), source },
            source => ClientError::Answer { server: server(), source },
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        match response.json::<Problem>().await {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(ClientError::Foreign { server: server(), status: status.as_u16() }),
        }
    }
}
