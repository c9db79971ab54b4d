//! Many `row` tenants at once, each with the key that the application knows it by.
//!
//! Every tenant has an operation of its own, begun here in bulk and leased to the caller, who carries all of them out with
//! one statement and ends them in bulk. When it dies on the way, its lease ends, and the workers take them up one by one.

use std::collections::{HashMap, HashSet};

use guardian_model::{
    Capability, OperationId, Permission, Placement, Plan, Slug, TenantId, TenantKey, TierName,
    access::{Actor, Permit},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    begin::{BeginError, Lease},
    claim::micros,
    error::{Doing, StoreError, broken_constraint, covers},
    tenant::Secrets,
};

/// A tenant to be imported.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// A new id, should the tenant be new.
    pub id: TenantId,
    /// Its slug.
    pub slug: ImportSlug,
    /// Its value in the tenant column.
    pub key: TenantKey,
    /// Its tier, whose isolation is `row`.
    pub tier: TierName,
    /// A new capability, should the tenant be new.
    pub capability: Capability,
    /// Where it lives.
    pub placement: Placement,
    /// How it is created.
    pub plan: Plan,
}

/// The slug of a tenant that is imported.
#[derive(Debug, Clone)]
pub enum ImportSlug {
    /// This one and no other.
    Given(Slug),
    /// The first of the two that is free.
    Made([Slug; 2]),
}

/// What came of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is new, and bears this slug.
    New {
        /// Its slug.
        slug: Slug,
        /// A deleted tenant had the slug, or the key.
        succeeds: Option<Predecessor>,
    },
    /// It was there.
    Unchanged,
    /// A tenant with its key bears another slug.
    KeyTaken {
        /// The other slug.
        by: String,
    },
    /// A tenant with its slug has another key.
    SlugTaken {
        /// The slug.
        slug: Slug,
        /// The other key.
        by: String,
    },
    /// Somebody else made a tenant with its slug or key at the same moment.
    Overtaken,
}

/// What a new tenant has in common with a deleted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// The key.
    Key,
    /// The slug.
    Slug,
}

/// What was begun.
#[derive(Debug)]
pub struct BegunImport {
    /// One for each tenant that was given, in the same order.
    pub fates: Vec<Fate>,
    /// What the caller is expected to carry out, and to end with [`Store::finish_import`].
    pub claim: ImportClaim,
}

/// Creations that are leased to one worker.
#[derive(Debug, Default)]
pub struct ImportClaim {
    operations: Vec<Uuid>,
    tenants: Vec<Uuid>,
    /// Places of the new tenants in what was given.
    pub indices: Vec<usize>,
    worker: String,
}

impl ImportClaim {
    /// Whether nothing was begun.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

const INSERT: &str = "
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::text[], $8::text[])
        AS given (id, slug, key, tier, capability, operation, plan, detail)
), new_tenant AS (
    INSERT INTO tenant (id, slug, key, tier, state, isolation, cluster, database, schema, role, sealed_capability)
    SELECT id, slug, key, tier, 'creating', 'row', $9, $10, $11, $12, capability FROM given
    ON CONFLICT DO NOTHING RETURNING id
), new_operation AS (
    INSERT INTO operation (id, kind, tenant, state, tenant_state_before, plan, durations, requested_by, lease_owner, next_at)
    SELECT operation, 'create', id, 'running', 'creating', plan::json, array_fill(NULL::bigint, ARRAY[$13::int]), $14, $15,
           now() + make_interval(secs => $16)
    FROM given JOIN new_tenant USING (id)
), entry AS (
    INSERT INTO audit_entry (actor, action, tenant, outcome, detail)
    SELECT $14, 'tenant.import', id, 'allowed', detail::json FROM given JOIN new_tenant USING (id)
)
SELECT id FROM new_tenant";

/// By arrays of ids rather than joins: see [`Store::finish`].
const FINISH: &str = "
WITH ended AS (
    UPDATE operation
    SET state = 'done', steps_done = cardinality(durations), durations = array_fill($4::bigint, ARRAY[cardinality(durations)]),
        lease_owner = NULL, finished_at = now()
    WHERE id = ANY ($1) AND lease_owner = $2 AND fence = 1 AND state = 'running'
    RETURNING tenant
), changed AS (
    UPDATE tenant SET state = 'active', changed_at = now()
    WHERE id = ANY ($3) AND id IN (SELECT tenant FROM ended)
), entry AS (
    INSERT INTO audit_entry (actor, action, outcome, detail)
    SELECT $5, 'tenant.import', 'done', json_build_object('tenants', count(*)) FROM ended HAVING count(*) > 0
)
SELECT count(*) FROM ended";

const RENEW: &str = "
WITH renewed AS (
    UPDATE operation SET next_at = now() + make_interval(secs => $3)
    WHERE id = ANY ($1) AND lease_owner = $2 AND fence = 1 AND state IN ('running', 'undoing')
    RETURNING id
)
SELECT count(*) FROM renewed";

const RELEASE: &str = "
WITH released AS (
    UPDATE operation SET lease_owner = NULL, next_at = now(), error = coalesce($3, error)
    WHERE id = ANY ($1) AND lease_owner = $2 AND fence = 1 AND state IN ('running', 'undoing')
    RETURNING id
)
SELECT pg_notify('guardian_operation', '') FROM released LIMIT 1";

impl Store {
    /// Begins the creation of those that are not there yet; what stands in the way of the others is told, and hinders
    /// nobody else. All of them live in one place. With `dry_run`, nothing is changed, and nothing is begun.
    pub async fn begin_import(
        &self,
        permit: &Permit,
        newcomers: &[Newcomer],
        dry_run: bool,
        lease: &Lease,
    ) -> Result<BegunImport, BeginError> {
        const DOING: &str = "begin an import";
        covers(permit, Permission::TenantWrite, None)?;
        let mut claim = ImportClaim { worker: lease.worker.clone(), ..ImportClaim::default() };
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let mut fates = Neighbours::of(&mut transaction, newcomers).await.doing(DOING)?.fates(newcomers);
        let new: Vec<(usize, &Newcomer, &Slug)> = fates
            .iter()
            .zip(newcomers)
            .enumerate()
            .filter_map(|(index, (fate, newcomer))| match fate {
                Fate::New { slug, .. } => Some((index, newcomer, slug)),
                _ => None,
            })
            .collect();
        if dry_run || new.is_empty() {
            return Ok(BegunImport { fates, claim });
        }
        let operations: Vec<Uuid> = new.iter().map(|_| Uuid::now_v7()).collect();
        let inserted = self.insert(&mut transaction, permit, &new, &operations, lease).await?;
        let mut overtaken = Vec::new();
        for ((index, newcomer, _), operation) in new.into_iter().zip(operations) {
            if inserted.contains(&newcomer.id.uuid()) {
                claim.operations.push(operation);
                claim.tenants.push(newcomer.id.uuid());
                claim.indices.push(index);
            } else {
                overtaken.push(index);
            }
        }
        let record = AuditRecord::of(permit, "tenant.import", None, Outcome::Allowed)
            .with(serde_json::json!({ "tenants": claim.tenants.len() }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        for index in overtaken {
            fates[index] = Fate::Overtaken;
        }
        Ok(BegunImport { fates, claim })
    }

    async fn insert(
        &self,
        connection: &mut PgConnection,
        permit: &Permit,
        new: &[(usize, &Newcomer, &Slug)],
        operations: &[Uuid],
        lease: &Lease,
    ) -> Result<HashSet<Uuid>, BeginError> {
        let (_, first, _) = new[0];
        let (place, role) = (&first.placement.place, &first.placement.role);
        let mut sealed = Vec::with_capacity(new.len());
        for (_, newcomer, _) in new {
            let secrets = Secrets { capability: Some(newcomer.capability.clone()), password: None };
            sealed.push(self.seal_secrets(newcomer.id, &secrets)?.capability);
        }
        let text = |of: fn(&Newcomer) -> String| new.iter().map(|(_, newcomer, _)| of(newcomer)).collect::<Vec<_>>();
        let details: Vec<String> = new
            .iter()
            .zip(operations)
            .map(|((_, newcomer, slug), operation)| {
                let (operation, key) = (OperationId::from_uuid(*operation), newcomer.key.to_string());
                serde_json::json!({ "operation": operation, "slug": slug, "tier": newcomer.tier, "key": key }).to_string()
            })
            .collect();
        let inserted: Result<Vec<Uuid>, sqlx::Error> = sqlx::query_scalar(INSERT)
            .bind(new.iter().map(|(_, newcomer, _)| newcomer.id.uuid()).collect::<Vec<_>>())
            .bind(new.iter().map(|(.., slug)| slug.as_str()).collect::<Vec<_>>())
            .bind(text(|newcomer| newcomer.key.to_string()))
            .bind(text(|newcomer| newcomer.tier.to_string()))
            .bind(sealed)
            .bind(operations)
            .bind(text(|newcomer| crate::begin::json(&newcomer.plan)))
            .bind(details)
            .bind(place.cluster.as_str())
            .bind(&place.database)
            .bind(&place.schema)
            .bind(role)
            .bind(i32::try_from(first.plan.steps.len()).unwrap_or(i32::MAX))
            .bind(&permit.actor().name)
            .bind(&lease.worker)
            .bind(lease.duration.as_secs_f64())
            .fetch_all(connection)
            .await;
        match inserted {
            Ok(ids) => Ok(ids.into_iter().collect()),
            Err(error) if broken_constraint(&error) == Some("tenant_tier") => Err(BeginError::Tier(first.tier.clone())),
            Err(source) => Err(StoreError::Database { doing: "begin an import", source }.into()),
        }
    }

    /// Ends the creations, which have all been carried out: the tenants are active. Returns how many are; the others were
    /// cancelled or taken over meanwhile, and are let go of.
    pub async fn finish_import(&self, claim: &ImportClaim, took_us: u64) -> Result<usize, StoreError> {
        let ended: i64 = sqlx::query_scalar(FINISH)
            .bind(&claim.operations)
            .bind(&claim.worker)
            .bind(&claim.tenants)
            .bind(micros(took_us))
            .bind(Actor::system("lifecycle").name)
            .fetch_one(&self.pool)
            .await
            .doing("end an import")?;
        let ended = usize::try_from(ended).unwrap_or_default();
        if ended > 0 {
            // The end of a creation announces itself to nobody else (migration 0006).
            self.changed.notify_one();
        }
        if ended < claim.operations.len() {
            self.release_import(claim, None).await?;
        }
        Ok(ended)
    }

    /// Extends the leases, from now; false when one of them is in other hands.
    pub async fn renew_import(&self, claim: &ImportClaim, lease: &Lease) -> Result<bool, StoreError> {
        let renewed: i64 = sqlx::query_scalar(RENEW)
            .bind(&claim.operations)
            .bind(&claim.worker)
            .bind(lease.duration.as_secs_f64())
            .fetch_one(&self.pool)
            .await
            .doing("renew the leases of an import")?;
        Ok(usize::try_from(renewed) == Ok(claim.operations.len()))
    }

    /// Lets go of creations that were not carried out: the workers take them up one by one.
    pub async fn release_import(&self, claim: &ImportClaim, error: Option<&str>) -> Result<(), StoreError> {
        sqlx::query(RELEASE)
            .bind(&claim.operations)
            .bind(&claim.worker)
            .bind(error)
            .execute(&self.pool)
            .await
            .doing("let go of an import")
            .map(drop)
    }
}

/// Tenants that have a key or a slug of those to be imported.
#[derive(Default)]
struct Neighbours {
    slug_by_key: HashMap<String, String>,
    key_by_slug: HashMap<String, String>,
    deleted_keys: HashSet<String>,
    deleted_slugs: HashSet<String>,
}

impl Neighbours {
    async fn of(connection: &mut PgConnection, newcomers: &[Newcomer]) -> Result<Self, sqlx::Error> {
        const LOOK: &str = "
            SELECT slug, key, false FROM tenant WHERE slug = ANY ($1) AND state <> 'deleted'
            UNION SELECT slug, key, false FROM tenant WHERE key = ANY ($2) AND state <> 'deleted'
            UNION SELECT slug, key, true FROM tenant WHERE slug = ANY ($1) AND state = 'deleted'
            UNION SELECT slug, key, true FROM tenant WHERE key = ANY ($2) AND state = 'deleted'";
        let keys: Vec<String> = newcomers.iter().map(|newcomer| newcomer.key.to_string()).collect();
        let slugs: Vec<&str> = newcomers.iter().flat_map(|newcomer| newcomer.slug.each()).map(Slug::as_str).collect();
        let rows: Vec<(String, String, bool)> = sqlx::query_as(LOOK).bind(&slugs).bind(&keys).fetch_all(connection).await?;
        let mut found = Self::default();
        for (slug, key, is_deleted) in rows {
            if is_deleted {
                found.deleted_keys.insert(key);
                found.deleted_slugs.insert(slug);
            } else {
                found.slug_by_key.insert(key.clone(), slug.clone());
                found.key_by_slug.insert(slug, key);
            }
        }
        Ok(found)
    }

    /// In the order given: of two that exclude each other, the first is new.
    fn fates(mut self, newcomers: &[Newcomer]) -> Vec<Fate> {
        newcomers.iter().map(|newcomer| self.fate(newcomer)).collect()
    }

    fn fate(&mut self, newcomer: &Newcomer) -> Fate {
        let key = newcomer.key.to_string();
        if let Some(borne) = self.slug_by_key.get(&key) {
            return match &newcomer.slug {
                ImportSlug::Given(slug) if slug.as_str() != borne => Fate::KeyTaken { by: borne.clone() },
                ImportSlug::Given(_) | ImportSlug::Made(_) => Fate::Unchanged,
            };
        }
        let slugs = newcomer.slug.each();
        let Some(slug) = slugs.iter().find(|slug| !self.key_by_slug.contains_key(slug.as_str())) else {
            let slug = slugs[slugs.len() - 1].clone();
            let by = self.key_by_slug.get(slug.as_str()).cloned().unwrap_or_default();
            return Fate::SlugTaken { slug, by };
        };
        let succeeds = if self.deleted_keys.contains(&key) {
            Some(Predecessor::Key)
        } else {
            self.deleted_slugs.contains(slug.as_str()).then_some(Predecessor::Slug)
        };
        self.slug_by_key.insert(key.clone(), slug.as_str().to_owned());
        self.key_by_slug.insert(slug.as_str().to_owned(), key);
        Fate::New { slug: slug.clone(), succeeds }
    }
}

impl ImportSlug {
    fn each(&self) -> &[Slug] {
        match self {
            Self::Given(slug) => std::slice::from_ref(slug),
            Self::Made(slugs) => slugs,
        }
    }
}
