//! The import of `row` tenants: many at once, each with an operation of its own, carried out by one statement.

use guardian_model::{
    Capability, Isolation, Placement, Slug, TenantId, TenantKey, Tier, TierName,
    access::Permit,
    import::{IMPORT_TENANTS_MAX, ImportConflict, ImportReport, ImportTenant, ImportTenants, made_slugs},
};
use guardian_postgres::registry;
use guardian_store::{BegunImport, Fate, ImportClaim, ImportSlug, Newcomer, Predecessor};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Lifecycle, LifecycleError, operations, secret, step::StepError};

impl Lifecycle {
    /// Makes tenants of the application Guardian's, with the keys that they have. What stands in the way of one is told in
    /// the report, and hinders no other. Asked again, it changes nothing.
    pub async fn import(&self, permit: &Permit, request: ImportTenants) -> Result<ImportReport, LifecycleError> {
        let ImportTenants { tier, tenants, dry_run } = request;
        if tenants.is_empty() || tenants.len() > IMPORT_TENANTS_MAX {
            return Err(LifecycleError::ImportSize { given: tenants.len() });
        }
        let tiers = self.engine.store.tiers().await?;
        if !is_row(&tiers, tier.as_str()) {
            return Err(LifecycleError::NoRowTier(tier));
        }
        if !self.refuse_unhardened().await? {
            let place = self.engine.steps.config.shared_place();
            let detail = format!("{place} does not answer, so nothing was imported; is its cluster up?");
            return Err(LifecycleError::Cluster { detail, transient: true });
        }
        let mut report = ImportReport::default();
        let (mut indices, mut newcomers) = (Vec::new(), Vec::new());
        for (index, tenant) in (0_u32..).zip(&tenants) {
            match self.newcomer(tenant, &tier, &tiers) {
                Ok(newcomer) => {
                    indices.push(index);
                    newcomers.push(newcomer);
                }
                Err(reason) => report.conflicts.push(said(index, tenant, tenant.slug.clone(), reason)),
            }
        }
        let claimed_at = Instant::now();
        let begun = self.engine.store.begin_import(permit, &newcomers, dry_run, &self.engine.lease).await?;
        let BegunImport { fates, claim } = begun;
        for (index, fate) in indices.into_iter().zip(fates) {
            let tenant = &tenants[index as usize];
            let (slug, reason) = match fate {
                Fate::New { slug, succeeds } => {
                    report.created += 1;
                    if let Some(predecessor) = succeeds {
                        report.successors.push(said(index, tenant, Some(slug.into()), after(predecessor).to_owned()));
                    }
                    continue;
                }
                Fate::Unchanged => {
                    report.unchanged += 1;
                    continue;
                }
                Fate::KeyTaken { by } => {
                    let reason = format!("the key belongs to the tenant `{by}`; import it with that slug, or with none");
                    (tenant.slug.clone(), reason)
                }
                Fate::SlugTaken { slug, by } => {
                    (Some(slug.into()), format!("the slug is taken by the tenant with the key `{by}`; give another"))
                }
                Fate::Overtaken => {
                    (tenant.slug.clone(), "its slug or key was taken at the same moment; import it again".to_owned())
                }
            };
            report.conflicts.push(said(index, tenant, slug, reason));
        }
        report.conflicts.sort_by_key(|conflict| conflict.index);
        if !claim.is_empty() {
            let begun = claim.indices.len();
            let admitted = claim.indices.iter().map(|&index| &newcomers[index]);
            let admitted = admitted.map(|newcomer| (newcomer.key.clone(), newcomer.capability.clone())).collect();
            let lifecycle = self.clone();
            // In a task of its own: a client that goes away does not stop it half-way.
            let work = self.tasks.spawn(async move { lifecycle.admit_all(&claim, admitted, claimed_at).await });
            let active = work.await.unwrap_or_default();
            report.pending = u32::try_from(begun - active.min(begun)).unwrap_or_default();
        }
        Ok(report)
    }

    /// Carries out the creations, and returns how many tenants are active.
    async fn admit_all(&self, claim: &ImportClaim, admitted: Vec<(TenantKey, Capability)>, claimed_at: Instant) -> usize {
        match self.admit_leased(claim, &admitted, claimed_at).await {
            Ok(()) => {
                let took_us = u64::try_from(claimed_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                // When this fails, the leases end, and the workers find everything done but its record.
                self.engine.store.finish_import(claim, took_us).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "an import is not recorded yet; its tenants are taken up one by one");
                    0
                })
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(error = text, "an import goes on one tenant at a time");
                if let Err(error) = self.engine.store.release_import(claim, Some(&text)).await {
                    tracing::warn!(%error, "an import is let go of when its lease ends");
                }
                0
            }
        }
    }

    async fn admit_leased(
        &self,
        claim: &ImportClaim,
        admitted: &[(TenantKey, Capability)],
        claimed_at: Instant,
    ) -> Result<(), StepError> {
        let steps = &self.engine.steps;
        let place = steps.config.shared_place();
        let failed = |source| StepError::Registry { place: place.to_string(), source };
        let pool = steps.clusters.pool(&place.cluster, &place.database).await?;
        let mut connection = pool.acquire().await.map_err(failed)?;
        // As for a single tenant: one short statement need not ask while the lease is young.
        let is_old = claimed_at.elapsed() >= self.engine.lease.duration / 2;
        if is_old && !self.engine.store.renew_import(claim, &self.engine.lease).await? {
            return Err(StepError::Overtaken);
        }
        Ok(registry::admit_all(&mut connection, admitted).await?)
    }

    fn newcomer(&self, tenant: &ImportTenant, tier: &TierName, tiers: &[Tier]) -> Result<Newcomer, String> {
        let key = self.engine.steps.key(&tenant.key).map_err(|error| error.to_string())?;
        let slug = match &tenant.slug {
            Some(slug) => ImportSlug::Given(slug.parse::<Slug>().map_err(|error| error.to_string())?),
            None => ImportSlug::Made(made_slugs(tenant.name.as_deref(), &tenant.key)),
        };
        let tier = match &tenant.tier {
            None => tier.clone(),
            Some(name) if is_row(tiers, name) => name.parse().map_err(|_| no_row_tier(name))?,
            Some(name) => return Err(no_row_tier(name)),
        };
        let id = TenantId::from_uuid(Uuid::now_v7());
        let config = &self.engine.steps.config;
        let shared = config.shared_place();
        let placement = Placement::derive(Isolation::Row, id, &config.application.name, &shared, &shared.cluster);
        let plan = operations::create::plan(&placement, &key.to_string(), true);
        Ok(Newcomer { id, slug, key, tier, capability: secret::capability(), placement, plan })
    }
}

fn is_row(tiers: &[Tier], name: &str) -> bool {
    tiers.iter().any(|tier| tier.name.as_str() == name && tier.isolation == Isolation::Row)
}

fn no_row_tier(name: &str) -> String {
    format!("there is no tier `{name}` of row isolation; see `guardian tier list`")
}

const fn after(predecessor: Predecessor) -> &'static str {
    match predecessor {
        Predecessor::Key => "a deleted tenant had the key; its rows are gone, but the application may remember it elsewhere",
        Predecessor::Slug => "a deleted tenant bore the slug",
    }
}

fn said(index: u32, tenant: &ImportTenant, slug: Option<String>, reason: String) -> ImportConflict {
    ImportConflict { index, key: tenant.key.clone(), slug, reason }
}
