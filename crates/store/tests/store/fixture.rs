//! A store in a database of its own, and the smallest things to put into it.

use std::time::Duration;

use guardian_model::{
    Capability, Isolation, Limits, Permission, Place, Placement, Plan, Pooling, Step, Tenant, TenantId, TenantKey, TierName,
    access::{Actor, Permit},
    api::PutTier,
};
use guardian_store::{BeginError, Begun, Claim, Idempotency, Lease, NewTenant, Secrets, Store, Vault};
use guardian_testkit::{Server, TestDatabase};
use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) vault: Vault,
    // Last, so that the database is dropped when its connections are gone.
    pub(crate) database: TestDatabase,
}

impl Fixture {
    /// An open store with the tiers `free` and `pro` (row) and `silo` (database).
    pub(crate) async fn new(hint: &str) -> Self {
        let database = Server::shared().database(hint).await;
        let (vault, _) = Vault::generate().unwrap();
        let store = Store::open(database.options(), vault.clone()).await.unwrap();
        for (name, isolation) in [("free", Isolation::Row), ("pro", Isolation::Row), ("silo", Isolation::Database)] {
            store.put_tier(&permit(Permission::TierWrite), &tier(name), put(isolation)).await.unwrap();
        }
        Self { store, vault, database }
    }

    /// A superuser's connection whose search path is the store's.
    pub(crate) async fn superuser(&self) -> PgConnection {
        let mut connection = self.database.connect().await;
        sqlx::query("SET search_path = guardian_store").execute(&mut connection).await.unwrap();
        connection
    }

    /// Begins the creation of a `row` tenant of two steps.
    pub(crate) async fn begin(&self, slug: &str) -> Result<Claim, BeginError> {
        match self.begin_with(slug, None).await? {
            Begun::New(claim) => Ok(*claim),
            Begun::Replayed(..) => panic!("replayed without a key"),
        }
    }

    pub(crate) async fn begin_with(&self, slug: &str, idempotency: Option<&Idempotency>) -> Result<Begun, BeginError> {
        let secrets = Secrets { capability: Some(Capability::from_bytes([7; 32])), password: Some("pass word".to_owned()) };
        let new = new_tenant(slug, "free");
        let permit = permit(Permission::TenantWrite);
        self.store.begin_create(&permit, new, secrets, plan(2), idempotency, &lease("worker-a")).await
    }

    /// A tenant that is active.
    pub(crate) async fn active(&self, slug: &str) -> Tenant {
        let mut claim = self.begin(slug).await.unwrap();
        self.store.record_step(&mut claim, 10).await.unwrap();
        self.store.finish(&claim, Some(20)).await.unwrap();
        self.store.tenant(&claim.tenant.id.into()).await.unwrap().unwrap()
    }
}

pub(crate) fn permit(permission: Permission) -> Permit {
    Actor::system("test").permit(permission, None).unwrap()
}

pub(crate) fn tier(name: &str) -> TierName {
    name.parse().unwrap()
}

pub(crate) fn put(isolation: Isolation) -> PutTier {
    let features = [("sso".to_owned(), true)].into();
    PutTier { isolation, weight: None, limits: Limits::default(), pooling: Pooling::Transaction, features }
}

pub(crate) fn lease(worker: &str) -> Lease {
    Lease { worker: worker.to_owned(), duration: Duration::from_secs(30) }
}

/// A lease that ends as it begins, like that of a worker that was killed.
pub(crate) fn lost(worker: &str) -> Lease {
    Lease { worker: worker.to_owned(), duration: Duration::ZERO }
}

pub(crate) fn place() -> Place {
    Place { cluster: "local".parse().unwrap(), database: "helpdesk".to_owned(), schema: "public".to_owned() }
}

pub(crate) fn new_tenant(slug: &str, tier_name: &str) -> NewTenant {
    let placement = Placement { isolation: Isolation::Row, place: place(), role: "helpdesk_app".to_owned() };
    let id = TenantId::from_uuid(Uuid::now_v7());
    NewTenant { id, slug: slug.parse().unwrap(), key: TenantKey::Uuid(id.uuid()), tier: tier(tier_name), placement }
}

/// So many reversible steps.
pub(crate) fn plan(steps: usize) -> Plan {
    Plan { steps: vec![Step::EnsureSchema { place: place() }; steps] }
}
