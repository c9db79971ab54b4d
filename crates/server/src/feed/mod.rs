//! Publishes what gateways run on: the whole once, and every change from then on.
//!
//! One loop a process looks for changes when it is called, and every second in case a call was lost. It keeps the last
//! deltas, so that many gateways cost the database as much as one. A gateway whose position is none of them (it comes from
//! another control plane, or was away) is served from the database.

mod installation;

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use guardian_model::{
    ApiKeyId, Config, KeyType, TenantId,
    adoption::SnapshotAdoption,
    api_key::SnapshotApiKey,
    http::{HttpOverride, Merged, SnapshotHttp, SnapshotIdentityKeys},
    snapshot::{Cursor, Delta, Secret, Snapshot, SnapshotInstallation, SnapshotTenant},
    tenant_access::SnapshotAccess,
};
use guardian_postgres::connect::Clusters;
use guardian_store::{ACCESS_PAGE, ChangeCalls, Changes, FEED_PAGE, KEYS_PAGE, Position, Store, StoreError};
use tokio::{
    sync::{Mutex, OnceCell, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub use installation::InstallationError;

/// How long a lost call can go unnoticed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two looks: what comes in a burst goes out together.
const GATHER: Duration = Duration::from_millis(5);
/// How often positions past their age are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_mins(10);
/// How often it is asked whether the next key that signs identities has its turn.
const TEND_INTERVAL: Duration = Duration::from_secs(10);
/// Deltas kept for those who are not quite up to date.
const RECENT_MAX: usize = 256;
/// How long one who is up to date may wait for the next change.
pub const WAIT_MAX: Duration = Duration::from_secs(25);

/// Hands out snapshots and changes. Cheap to clone.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    store: Store,
    clusters: Clusters,
    config: Config,
    folder: PathBuf,
    installation: OnceCell<SnapshotInstallation>,
    /// Locked while somebody looks for changes.
    position: Mutex<Option<Position>>,
    published: watch::Sender<Published>,
}

/// What was published last.
#[derive(Default)]
struct Published {
    /// The newest position; `None` before the feed has begun.
    cursor: Option<Cursor>,
    /// The deltas that led to it, each with the position it starts from.
    recent: VecDeque<(Cursor, Arc<Delta>)>,
}

/// Why there is no snapshot, or no change.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The position is from another database, too old, or from before a change of the configuration.
    #[error("the position {} is not known here; read the whole snapshot again", .0.0)]
    Gone(Cursor),
    /// What the configuration says cannot be used.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// `folder` is what paths in the configuration are relative to. Nothing is read before [`Publisher::begin`].
    pub fn new(store: Store, clusters: Clusters, config: Config, folder: PathBuf) -> Self {
        Self(Arc::new(Inner {
            store,
            clusters,
            config,
            folder,
            installation: OnceCell::new(),
            position: Mutex::new(None),
            published: watch::Sender::default(),
        }))
    }

    /// Reads what the configuration names and takes up the feed; once, however often it is called. Gives where the feed
    /// stands.
    pub async fn begin(&self) -> Result<Cursor, FeedError> {
        if let Some(cursor) = self.0.published.borrow().cursor {
            return Ok(cursor);
        }
        let mut position = self.0.position.lock().await;
        if let Some(position) = &*position {
            return Ok(position.cursor);
        }
        let installation = self.installation().await?;
        let text = serde_json::to_vec(installation).expect("an installation has string keys and no maps of other keys");
        // There is a key before anybody asks for it.
        self.0.store.tend_identity_keys().await?;
        let begun = self.0.store.begin_feed(digest(&SHA256, &text).as_ref()).await?;
        let cursor = begun.cursor;
        *position = Some(begun);
        self.0.published.send_modify(|published| published.cursor = Some(cursor));
        Ok(cursor)
    }

    async fn installation(&self) -> Result<&SnapshotInstallation, FeedError> {
        self.0.installation.get_or_try_init(|| self.read_installation()).await
    }

    async fn read_installation(&self) -> Result<SnapshotInstallation, FeedError> {
        let Inner { store, clusters, config, folder, .. } = &*self.0;
        // Made here when `apply` has not run yet, so that it never changes under a gateway.
        let password = store.application_secret(&config.application.name).await?;
        Ok(installation::read(config, folder, clusters, Some(Secret::new(password.as_str())))?)
    }

    /// What the file says of the API gateway; `None` when none is declared.
    pub async fn declared_http(&self) -> Result<Option<&SnapshotHttp>, FeedError> {
        Ok(self.installation().await?.http.as_ref())
    }

    /// What is in force of it, with what was declared over the API.
    pub async fn http(&self) -> Result<Option<SnapshotHttp>, FeedError> {
        let Some(declared) = self.declared_http().await? else { return Ok(None) };
        let (_, over) = self.0.store.http_override().await?;
        Ok(Some(merged(declared, &over)))
    }

    /// What the claim `iss` of the installation's own identities is.
    pub fn identity_issuer(&self) -> String {
        format!("guardian/{}", self.0.config.application.name)
    }

    /// The installation, with what can change in it as it is now.
    async fn installation_now(&self) -> Result<SnapshotInstallation, FeedError> {
        let mut installation = self.installation().await?.clone();
        installation.http = self.http().await?;
        installation.identity_keys = Some(self.0.store.identity_keys(&self.identity_issuer()).await?);
        Ok(installation)
    }

    /// Looks for changes until told to stop.
    pub async fn run(&self, stop: &CancellationToken) {
        let store = &self.0.store;
        let mut calls = None;
        let (mut forget_at, mut tend_at) = (Instant::now(), Instant::now());
        while !stop.is_cancelled() {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "cannot look for changes to publish; trying again");
                calls = None;
                pause(POLL_INTERVAL, stop).await;
                continue;
            }
            if calls.is_none() {
                calls = store.change_calls().await.ok();
                // What happened before there was somebody to call.
                if calls.is_some() {
                    continue;
                }
            }
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_INTERVAL;
                if let Err(error) = store.forget_positions().await {
                    tracing::warn!(%error, "cannot forget old positions of the feed; trying again");
                }
            }
            if Instant::now() >= tend_at {
                tend_at = Instant::now() + TEND_INTERVAL;
                if let Err(error) = store.tend_identity_keys().await {
                    tracing::warn!(%error, "cannot tend the keys that sign identities; trying again");
                }
            }
            pause(GATHER, stop).await;
            if self.wait(&mut calls, stop).await.is_err() {
                calls = None;
            }
        }
    }

    /// Waits for a call, the next poll or the end.
    async fn wait(&self, calls: &mut Option<ChangeCalls>, stop: &CancellationToken) -> Result<(), StoreError> {
        let called = async {
            match calls.as_mut() {
                Some(calls) => calls.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            called = called => called,
            () = self.0.store.own_change() => self.0.store.call_others().await,
            () = pause(POLL_INTERVAL, stop) => Ok(()),
        }
    }

    /// Publishes what changed since the last look.
    async fn look(&self) -> Result<(), FeedError> {
        self.begin().await?;
        let mut position = self.0.position.lock().await;
        let Some(position) = position.as_mut() else { return Ok(()) };
        let since = position.cursor;
        let Some(changes) = self.0.store.advance(position, self.key()).await? else { return Ok(()) };
        let delta = Arc::new(self.delta(position.cursor, changes));
        self.0.published.send_modify(|published| {
            published.cursor = Some(delta.cursor);
            published.recent.push_back((since, delta));
            if published.recent.len() > RECENT_MAX {
                published.recent.pop_front();
            }
        });
        Ok(())
    }

    fn key(&self) -> KeyType {
        self.0.config.application.tenant_key
    }

    /// Everything, as of now or later: what changes while it is read is in the changes since its cursor as well.
    pub async fn snapshot(&self) -> Result<Snapshot, FeedError> {
        let mut whole = self.whole().await?;
        let mut tenants = Vec::new();
        while let Some(page) = whole.tenants().await? {
            tenants.extend(page);
        }
        // After the tenants, so that every tenant's tier is among them.
        let tiers = self.0.store.tiers().await?;
        let logins = self.0.store.feed_logins().await?;
        let adoption = self.adoption().await?;
        let (mut api_keys, mut access) = (Vec::new(), Vec::new());
        while let Some(page) = whole.api_keys().await? {
            api_keys.extend(page);
        }
        while let Some(page) = whole.access().await? {
            access.extend(page);
        }
        Ok(Snapshot {
            cursor: whole.cursor,
            installation: whole.installation,
            tiers,
            tenants,
            logins,
            adoption,
            api_keys,
            access,
        })
    }

    /// How far the application's adoption has come.
    pub(crate) async fn adoption(&self) -> Result<SnapshotAdoption, StoreError> {
        self.0.store.adoption(&self.0.config.application.name).await
    }

    /// The same in parts.
    pub(crate) async fn whole(&self) -> Result<Whole, FeedError> {
        let cursor = self.begin().await?;
        let installation = self.installation_now().await?;
        Ok(Whole {
            publisher: self.clone(),
            cursor,
            installation,
            next: Part::Tombstones,
            keys: Rest::First,
            access: Rest::First,
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The changes after `since`. With none yet, waits for the next one; when `wait` is over (at most [`WAIT_MAX`]), the
    /// answer is empty.
    pub async fn changes(&self, since: Cursor, wait: Duration) -> Result<Arc<Delta>, FeedError> {
        self.begin().await?;
        let end = Instant::now() + wait.min(WAIT_MAX);
        let mut published = self.0.published.subscribe();
        loop {
            {
                let now = published.borrow_and_update();
                // From the newest back: nobody who follows is far behind.
                if let Some((_, delta)) = now.recent.iter().rev().find(|(from, _)| *from == since) {
                    return Ok(Arc::clone(delta));
                }
                if now.cursor != Some(since) {
                    break;
                }
            }
            if timeout_at(end, published.changed()).await.is_err() {
                return Ok(Arc::new(self.delta(since, Changes::default())));
            }
        }
        let position = self.0.store.position(since).await?.ok_or(FeedError::Gone(since))?;
        // Read before the changes, which may therefore hold more than it says; that more will come again.
        let cursor = self.begin().await?;
        let (_, changes) = self.0.store.changes_since(&position, self.key()).await?;
        Ok(Arc::new(self.delta(cursor, changes)))
    }

    fn delta(&self, cursor: Cursor, changes: Changes) -> Delta {
        let Changes { tiers, tenants, logins, logins_gone, adoptions, api_keys, api_keys_gone, access, http, identity_keys } =
            changes;
        // `begin` has read what is declared.
        let declared = self.0.installation.get().and_then(|installation| installation.http.as_ref());
        let http = http.zip(declared).map(|(over, declared)| merged(declared, &over));
        let identity_keys = identity_keys.map(|keys| SnapshotIdentityKeys { issuer: self.identity_issuer(), ..keys });
        let own = &self.0.config.application.name;
        let adoption = adoptions.into_iter().find(|(name, _)| name == own).map(|(_, adoption)| adoption);
        Delta { cursor, tiers, tenants, logins, logins_gone, adoption, api_keys, api_keys_gone, access, http, identity_keys }
    }
}

/// A snapshot on its way out, a page of tenants at a time.
pub(crate) struct Whole {
    publisher: Publisher,
    pub(crate) cursor: Cursor,
    pub(crate) installation: SnapshotInstallation,
    next: Part,
    keys: Rest<ApiKeyId>,
    access: Rest<TenantId>,
}

/// Which page comes next.
#[derive(Clone, Copy)]
enum Rest<Id> {
    First,
    After(Id),
    Nothing,
}

impl<Id: Copy> Rest<Id> {
    /// After which the page begins; `None` when there are no more.
    fn begins(self) -> Option<Begins<Id>> {
        match self {
            Self::First => Some(Begins(None)),
            Self::After(id) => Some(Begins(Some(id))),
            Self::Nothing => None,
        }
    }

    /// What comes after a page of this length, of which this is the last.
    fn after(last: Option<Id>, len: usize, page: i64) -> Self {
        match last {
            Some(id) if i64::try_from(len).is_ok_and(|len| len == page) => Self::After(id),
            Some(_) | None => Self::Nothing,
        }
    }
}

/// After which a page begins; `None`: with the first there is.
struct Begins<Id>(Option<Id>);

/// Which tenants come next.
enum Part {
    Tombstones,
    Living(Option<Box<SnapshotTenant>>),
    Nothing,
}

impl Whole {
    /// How far the application's adoption has come, now.
    pub(crate) async fn adoption(&self) -> Result<SnapshotAdoption, StoreError> {
        self.publisher.adoption().await
    }

    /// The next page of tenants; `None` when there are no more.
    pub(crate) async fn tenants(&mut self) -> Result<Option<Vec<SnapshotTenant>>, StoreError> {
        let (store, key) = (self.publisher.store(), self.publisher.key());
        let (page, next) = match &self.next {
            Part::Tombstones => (store.feed_tombstones(key).await?, Part::Living(None)),
            Part::Living(after) => {
                let page = store.feed_tenants(after.as_deref(), key).await?;
                let is_full = i64::try_from(page.len()).is_ok_and(|len| len == FEED_PAGE);
                let next = match page.last() {
                    Some(last) if is_full => Part::Living(Some(Box::new(last.clone()))),
                    Some(_) | None => Part::Nothing,
                };
                (page, next)
            }
            Part::Nothing => return Ok(None),
        };
        self.next = next;
        Ok(Some(page))
    }

    /// The next page of API keys; `None` when there are no more.
    pub(crate) async fn api_keys(&mut self) -> Result<Option<Vec<SnapshotApiKey>>, StoreError> {
        let Some(Begins(after)) = self.keys.begins() else { return Ok(None) };
        let page = self.publisher.store().feed_api_keys(after).await?;
        self.keys = Rest::after(page.last().map(|last| last.id), page.len(), KEYS_PAGE);
        Ok(Some(page))
    }

    /// The next page of tenants that say who may do what; `None` when there are no more.
    pub(crate) async fn access(&mut self) -> Result<Option<Vec<SnapshotAccess>>, StoreError> {
        let Some(Begins(after)) = self.access.begins() else { return Ok(None) };
        let page = self.publisher.store().feed_access(after).await?;
        self.access = Rest::after(page.last().map(|last| last.tenant), page.len(), ACCESS_PAGE);
        Ok(Some(page))
    }
}

/// The file's word with the API's in its place. What no longer fits is left out, and told.
fn merged(declared: &SnapshotHttp, over: &HttpOverride) -> SnapshotHttp {
    let Merged { http, left_out } = over.onto_leniently(declared);
    for (route, conflict) in left_out {
        tracing::warn!(route.name = %route, %conflict, "a route that was declared over the API no longer fits guardian.toml: it is refused");
    }
    http
}

async fn pause(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}
