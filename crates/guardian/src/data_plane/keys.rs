//! Public keys of issuers: fetched, fetched again as they change, kept while their publisher is down.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use guardian_gateway::{Directory, identity::Verifier};
use guardian_model::config::{Issuer, Keys};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often key sets are fetched again.
const INTERVAL: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest key set.
const SET_LEN_MAX: usize = 256 * 1024;

/// Key sets (JSON texts) by the issuer's name.
pub(crate) type KeySets = BTreeMap<String, String>;

/// The newest known key sets.
pub(crate) struct Sets(Mutex<KeySets>);

/// Each issuer with its key set: the declared one, or the one last fetched.
pub(super) fn believed(issuers: &[Issuer], fetched: &KeySets) -> Vec<(Issuer, String)> {
    let with_keys = |issuer: &Issuer| {
        let set = match &issuer.keys {
            Keys::Set(set) => set.clone(),
            Keys::Url(_) | Keys::Discovery => fetched.get(&issuer.name)?.clone(),
        };
        Some((issuer.clone(), set))
    };
    issuers.iter().filter_map(with_keys).collect()
}

impl Sets {
    pub(super) const fn new(known: KeySets) -> Self {
        Self(Mutex::new(known))
    }

    pub(super) fn current(&self) -> KeySets {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches until told to stop.
    pub(super) async fn follow(
        &self,
        directory: &Directory,
        identities: &Verifier,
        changed: &Notify,
        stop: &CancellationToken,
    ) {
        let http = match reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build() {
            Ok(http) => http,
            Err(error) => return tracing::error!(%error, "cannot fetch key sets: identities by URL are not believed"),
        };
        let mut known = Vec::new();
        while !stop.is_cancelled() {
            let issuers = directory.view().installation.issuers.clone();
            for issuer in &issuers {
                let fetched = match &issuer.keys {
                    Keys::Set(_) => continue,
                    Keys::Url(url) => fetch(&http, url).await,
                    Keys::Discovery => discover(&http, &issuer.issuer).await,
                };
                match fetched {
                    Ok(set) => drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(issuer.name.clone(), set)),
                    Err(error) => tracing::warn!(
                        issuer = issuer.name,
                        error = format!("{error:#}"),
                        "cannot fetch a key set; the one that is known stays in use"
                    ),
                }
            }
            let newest = believed(&issuers, &self.current());
            if newest != known {
                identities.believe(newest.clone());
                known = newest;
                changed.notify_waiters();
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = changed.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// What `OpenID` Connect discovery says, as far as it matters here.
#[derive(serde::Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Finds the key set of an issuer. What is found has to name this issuer, or another could stand in for it; and a key set
/// found over TLS is fetched over TLS.
async fn discover(http: &reqwest::Client, issuer: &str) -> anyhow::Result<String> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let found: Discovered = serde_json::from_str(&fetch(http, &url).await?).context("it is no OpenID Connect discovery")?;
    anyhow::ensure!(found.issuer == issuer, "what is found at `{url}` is of another issuer");
    let is_as_safe = found.jwks_uri.starts_with("https://") || issuer.starts_with("http://");
    anyhow::ensure!(is_as_safe, "`jwks_uri` at `{url}` is not `https://`");
    fetch(http, &found.jwks_uri).await
}

async fn fetch(http: &reqwest::Client, url: &str) -> anyhow::Result<String> {
    let mut response = http.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        anyhow::ensure!(body.len() + part.len() <= SET_LEN_MAX, "it is longer than {SET_LEN_MAX} bytes");
        body.extend_from_slice(&part);
    }
    let text = String::from_utf8(body).context("it is no text")?;
    let _: serde::de::IgnoredAny = serde_json::from_str(&text).context("it is no JSON")?;
    Ok(text)
}
