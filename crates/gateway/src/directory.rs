//! The snapshot as a gateway looks things up in it: immutable, replaced as a whole, shared by all threads.
//!
//! Maps are divided into buckets, so that a change copies a few hundred entries rather than a hundred thousand.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwap;
use guardian_model::{
    ApiKeyId, LoginName, Slug, TenantAccess, TenantId, Tier, TierName,
    adoption::SnapshotAdoption,
    api_key::SnapshotApiKey,
    snapshot::{Cursor, Delta, Snapshot, SnapshotInstallation, SnapshotLogin, SnapshotTenant},
    tenant_access::SnapshotAccess,
};

const BUCKETS: usize = 256;

/// A map that is cheap to copy and change a little.
#[derive(Debug, Clone)]
struct Buckets<K, V> {
    buckets: Vec<Arc<HashMap<K, Arc<V>>>>,
    hasher: RandomState,
}

impl<K: Hash + Eq + Clone, V> Buckets<K, V> {
    fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }

    fn bucket<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        usize::try_from(self.hasher.hash_one(key) % BUCKETS as u64).unwrap_or(0)
    }

    fn get(&self, key: &K) -> Option<&Arc<V>> {
        self.buckets[self.bucket(key)].get(key)
    }

    fn insert(&mut self, key: K, value: Arc<V>) {
        let bucket = self.bucket(&key);
        Arc::make_mut(&mut self.buckets[bucket]).insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        let bucket = self.bucket(key);
        Arc::make_mut(&mut self.buckets[bucket]).remove(key);
    }

    fn values(&self) -> impl Iterator<Item = &Arc<V>> {
        self.buckets.iter().flat_map(|bucket| bucket.values())
    }

    fn entries(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }
}

/// One moment's view.
#[derive(Debug, Clone)]
pub struct View {
    /// Where the feed goes on.
    pub cursor: Cursor,
    /// What the configuration says.
    pub installation: Arc<SnapshotInstallation>,
    /// How far the application's adoption has come.
    pub adoption: Arc<SnapshotAdoption>,
    tiers: Arc<HashMap<TierName, Tier>>,
    tenants: Buckets<TenantId, SnapshotTenant>,
    slugs: Buckets<Slug, TenantId>,
    logins: Buckets<LoginName, SnapshotLogin>,
    /// Counts changes of logins.
    logins_version: u64,
    api_keys: Buckets<ApiKeyId, SnapshotApiKey>,
    /// Of the tenants that say something.
    access: Buckets<TenantId, TenantAccess>,
}

impl View {
    /// The view of a whole snapshot.
    pub fn of(snapshot: Snapshot) -> Self {
        let Snapshot { cursor, installation, tiers, tenants, logins, adoption, api_keys, access } = snapshot;
        let mut view = Self {
            cursor,
            installation: Arc::new(installation),
            adoption: Arc::new(adoption),
            tiers: Arc::new(HashMap::new()),
            tenants: Buckets::new(),
            slugs: Buckets::new(),
            logins: Buckets::new(),
            logins_version: 0,
            api_keys: Buckets::new(),
            access: Buckets::new(),
        };
        view.apply(Delta { cursor, tiers: Some(tiers), tenants, logins, api_keys, access, ..Delta::default() });
        view
    }

    fn apply(&mut self, delta: Delta) {
        self.cursor = delta.cursor;
        if let Some(adoption) = delta.adoption {
            self.adoption = Arc::new(adoption);
        }
        if let Some(tiers) = delta.tiers {
            self.tiers = Arc::new(tiers.into_iter().map(|tier| (tier.name.clone(), tier)).collect());
        }
        for tenant in delta.tenants {
            self.place(tenant);
        }
        if !delta.logins.is_empty() || !delta.logins_gone.is_empty() {
            self.logins_version += 1;
        }
        for login in delta.logins {
            self.logins.insert(login.name.clone(), Arc::new(login));
        }
        for name in delta.logins_gone {
            self.logins.remove(&name);
        }
        for key in delta.api_keys {
            self.api_keys.insert(key.id, Arc::new(key));
        }
        for id in delta.api_keys_gone {
            self.api_keys.remove(&id);
        }
        for SnapshotAccess { tenant, access } in delta.access {
            if access.is_empty() {
                self.access.remove(&tenant);
            } else {
                self.access.insert(tenant, Arc::new(access));
            }
        }
        if let Some(http) = delta.http {
            Arc::make_mut(&mut self.installation).http = Some(http);
        }
        if let Some(keys) = delta.identity_keys {
            Arc::make_mut(&mut self.installation).identity_keys = Some(keys);
        }
    }

    /// A deleted tenant's slug may belong to a living one already, whichever of the two is heard of first.
    fn place(&mut self, tenant: SnapshotTenant) {
        let holder = self.slugs.get(&tenant.slug).and_then(|id| self.tenants.get(id));
        let is_free =
            holder.is_none_or(|holder| holder.id == tenant.id || holder.state == guardian_model::TenantState::Deleted);
        if is_free || tenant.state != guardian_model::TenantState::Deleted {
            self.slugs.insert(tenant.slug.clone(), Arc::new(tenant.id));
        }
        self.tenants.insert(tenant.id, Arc::new(tenant));
    }

    /// A tenant by its id.
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<SnapshotTenant>> {
        self.tenants.get(&id)
    }

    /// A tenant by its slug or id, as a person or a token names it.
    pub fn tenant_named(&self, name: &str) -> Option<&Arc<SnapshotTenant>> {
        if let Ok(slug) = name.parse::<Slug>() {
            return self.tenant(**self.slugs.get(&slug)?);
        }
        self.tenant(name.parse().ok()?)
    }

    /// A login.
    pub fn login(&self, name: &LoginName) -> Option<&Arc<SnapshotLogin>> {
        self.logins.get(name)
    }

    /// A tier.
    pub fn tier(&self, name: &TierName) -> Option<&Tier> {
        self.tiers.get(name)
    }

    /// Whether the tiers are those of an earlier view.
    pub fn has_tiers_of(&self, earlier: &Self) -> bool {
        Arc::ptr_eq(&self.tiers, &earlier.tiers)
    }

    /// Whether the logins are those of an earlier view.
    pub fn has_logins_of(&self, earlier: &Self) -> bool {
        self.logins_version == earlier.logins_version
    }

    /// How many tenants there are, deleted ones that are remembered included.
    pub fn tenants_len(&self) -> usize {
        self.tenants.values().count()
    }

    /// Everything again, to be kept across a restart.
    pub fn to_snapshot(&self) -> Snapshot {
        Snapshot {
            cursor: self.cursor,
            installation: SnapshotInstallation::clone(&self.installation),
            tiers: self.tiers.values().cloned().collect(),
            tenants: self.tenants.values().map(|tenant| SnapshotTenant::clone(tenant)).collect(),
            logins: self.logins.values().map(|login| SnapshotLogin::clone(login)).collect(),
            adoption: SnapshotAdoption::clone(&self.adoption),
            api_keys: self.api_keys.values().map(|key| SnapshotApiKey::clone(key)).collect(),
            access: self
                .access
                .entries()
                .map(|(tenant, access)| SnapshotAccess { tenant: *tenant, access: TenantAccess::clone(access) })
                .collect(),
        }
    }
}

/// Where every thread finds the newest view.
#[derive(Debug)]
pub struct Directory(ArcSwap<View>);

impl Directory {
    /// Begins with a snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(View::of(snapshot)))
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        self.0.load_full()
    }

    /// Replaces everything.
    pub fn replace(&self, snapshot: Snapshot) {
        let mut view = View::of(snapshot);
        view.logins_version = self.0.load().logins_version + 1;
        self.0.store(Arc::new(view));
    }

    /// Takes over what changed. Only one thread may call this and [`Directory::replace`].
    pub fn apply(&self, delta: Delta) {
        let mut view = View::clone(&self.0.load());
        view.apply(delta);
        self.0.store(Arc::new(view));
    }
}

#[cfg(test)]
pub(crate) mod tests;
