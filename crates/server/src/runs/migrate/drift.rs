//! Where places differ from the files and from each other.
//!
//! The shared place is held against its files only: hardening changes its tables on purpose, and `guardian plan` tells what is
//! missing there.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use guardian_model::{
    Place,
    api::{FleetDrift, PlaceDrift, TableDrift, TableDriftKind},
    query::DriftQuery,
};
use guardian_provision::{
    Migrations,
    migrations::{self, Standing},
};
use sqlx::{Connection as _, PgConnection};

use super::{
    places::{Owner, Target, targets},
    plan::{LOOKS_MAX, names},
    read,
};
use crate::{
    AppState,
    problem::{ApiError, ApiResult, chain},
};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 500;

type Tables = BTreeMap<String, Option<String>>;

/// One page of the places that differ.
pub(crate) async fn drift(state: &AppState, query: &DriftQuery) -> ApiResult<FleetDrift> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(ApiError::invalid(format!("`limit` must be 1 to {LIMIT_MAX}")));
    }
    let begin = match query.cursor.as_deref().map(str::parse::<usize>) {
        None => 0,
        Some(Ok(begin)) => begin,
        Some(Err(_)) => return Err(ApiError::invalid("`cursor` is not one of ours")),
    };
    let files = match state.config.migrations_folder() {
        Some(_) => Some(read(state).await?),
        None => None,
    };
    let config = state.config.current()?;
    let column = &config.application.tenant_column;
    let targets = targets(state, &config.migrations, None).await?;
    let reference = reference(&targets, query.reference.as_deref())?;
    let expected = match reference {
        Some(reference) => {
            let mut connection = connect(state, reference.place()).await.map_err(|detail| unusable(reference, &detail))?;
            let tables = migrations::fingerprints(&mut connection, &reference.place().schema, column).await;
            connection.close().await.ok();
            tables.map_err(|error| unusable(reference, &chain(&error)))?
        }
        None => Tables::new(),
    };
    let page = begin.min(targets.len())..targets.len().min(begin.saturating_add(limit as usize));
    let end = page.end;
    let (expected, files, all) = (&expected, files.as_ref(), &targets);
    let looks = stream::iter(page).map(|index| async move {
        let target = &all[index];
        let found = look(state, target, files, column, expected).await;
        let (place, ring) = (target.name(), target.ring.clone());
        found.map_or_else(
            |error| PlaceDrift { error: Some(error), ..PlaceDrift::of(place.clone(), ring.clone()) },
            |found| PlaceDrift { place: place.clone(), ring: ring.clone(), ..found },
        )
    });
    let places: Vec<_> = looks.buffered(LOOKS_MAX).collect().await;
    Ok(FleetDrift {
        reference: reference.map(Target::name),
        places,
        next_cursor: (end < targets.len()).then(|| end.to_string()),
    })
}

/// The place that the others are held against: the one that was named, or the oldest one of a tenant's own.
fn reference<'t>(targets: &'t [Target], named: Option<&str>) -> ApiResult<Option<&'t Target>> {
    let own = targets.iter().filter_map(|target| match &target.of {
        Owner::Own(tenant) => Some((tenant, target)),
        Owner::Shared(_) => None,
    });
    match named {
        Some(named) => {
            let mut own = own;
            let found = own.find(|(tenant, _)| tenant.slug.as_str() == named || tenant.id.to_string() == named);
            let refused = || format!("`reference`: `{}` has no place of its own", crate::api::shown(named));
            found.map(|(_, target)| Some(target)).ok_or_else(|| ApiError::invalid(refused()))
        }
        None => Ok(own.min_by_key(|(tenant, _)| tenant.id).map(|(_, target)| target)),
    }
}

fn unusable(reference: &Target, detail: &str) -> ApiError {
    ApiError::invalid(format!("the reference {} cannot be read ({detail}); name another one", reference.name()))
}

async fn connect(state: &AppState, place: &Place) -> Result<PgConnection, String> {
    state.clusters.connect(&place.cluster, &place.database).await.map_err(|error| chain(&error))
}

async fn look(
    state: &AppState,
    target: &Target,
    files: Option<&Migrations>,
    column: &str,
    expected: &Tables,
) -> Result<PlaceDrift, String> {
    let schema = &target.place().schema;
    let mut connection = connect(state, target.place()).await?;
    let mut drift = PlaceDrift::of(String::new(), String::new());
    if let Some(files) = files {
        let standing = migrations::standing(&mut connection, schema, files).await.map_err(|error| chain(&error))?;
        let Standing { missing, changed, gone } = standing;
        (drift.missing, drift.changed, drift.gone) = (names(missing), names(changed), gone);
    }
    if matches!(target.of, Owner::Own(_)) {
        let found = migrations::fingerprints(&mut connection, schema, column).await.map_err(|error| chain(&error))?;
        drift.tables = differences(expected, &found);
    }
    connection.close().await.ok();
    Ok(drift)
}

fn differences(expected: &Tables, found: &Tables) -> Vec<TableDrift> {
    let missing = expected.keys().filter(|table| !found.contains_key(*table));
    let missing = missing.map(|table| TableDrift { table: table.clone(), kind: TableDriftKind::Missing });
    let other = found.iter().filter_map(|(table, fingerprint)| match expected.get(table) {
        None => Some(TableDrift { table: table.clone(), kind: TableDriftKind::Extra }),
        Some(expected) if expected != fingerprint => {
            Some(TableDrift { table: table.clone(), kind: TableDriftKind::Differs })
        }
        Some(_) => None,
    });
    missing.chain(other).collect()
}
