//! The cross-tenant door: opened for somebody who says why, and shut when the session or its time is over.

use std::{collections::HashMap, time::Duration};

use guardian_model::{
    ClusterName, DoorId,
    access::Permit,
    door::{DOOR_MINUTES_DEFAULT, DOOR_MINUTES_MAX, DoorGrant, OpenDoor},
    placement::ApplicationRoles,
};
use guardian_postgres::{connect::Address, scram};
use guardian_provision::{
    MAINTENANCE_DATABASE,
    door::{self, Terms},
};
use guardian_store::{DOORS_MAX, NewDoor, OpenedDoor, StoreError};
use jiff::Timestamp;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{Lifecycle, LifecycleError, secret, step::StepError};

/// How long the session may take to begin.
const VALID: Duration = Duration::from_mins(1);

impl Lifecycle {
    /// Makes a login role for one session that reaches the rows of every tenant in the shared tables.
    pub async fn open_door(&self, permit: &Permit, asked: &OpenDoor) -> Result<DoorGrant, LifecycleError> {
        let minutes = asked.minutes.unwrap_or(DOOR_MINUTES_DEFAULT);
        if !(1..=DOOR_MINUTES_MAX).contains(&minutes) {
            return Err(LifecycleError::DoorMinutes { given: minutes });
        }
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let place = steps.config.shared_place();
        let unknown = || LifecycleError::Cluster {
            detail: format!("there is no cluster `{0}`; declare [clusters.{0}] in guardian.toml", place.cluster),
            transient: false,
        };
        let Address { host, port } = steps.clusters.address(&place.cluster).ok_or_else(unknown)?;
        let roles = ApplicationRoles::of(&steps.config.application.name);
        let parent = if asked.write { &roles.door_write } else { &roles.door };
        let mut connection = steps.clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        if !door::has_parent(&mut connection, parent).await.map_err(StepError::from)? {
            return Err(LifecycleError::NoDoor { place });
        }
        let id = DoorId::from_uuid(Uuid::now_v7());
        let lasts = Duration::from_secs(u64::from(minutes) * 60);
        let ends_at = Timestamp::now() + lasts;
        let new = NewDoor {
            id,
            cluster: &place.cluster,
            reason: &asked.reason,
            write: asked.write,
            expires_at: Timestamp::now() + VALID,
            ends_at,
        };
        if !store.record_door(permit, &new).await? {
            return Err(LifecycleError::TooManyDoors { limit: DOORS_MAX });
        }
        let password = secret::password();
        let terms = Terms {
            door: id,
            parent,
            verifier: &scram::verifier(&password),
            valid: VALID,
            lasts,
            write: asked.write,
            schema: &place.schema,
        };
        let expires_at = door::create(&mut connection, &terms).await.map_err(StepError::from)?;
        // Somebody may have ended it before its role was there to be dropped.
        if !store.is_door_open(id).await? {
            door::shut(&steps.clusters, &place.cluster, &mut connection, id).await.map_err(StepError::from)?;
            return Err(LifecycleError::DoorNotOpen { door: id });
        }
        connection.close().await.ok();
        Ok(DoorGrant {
            id,
            host,
            port,
            database: place.database,
            schema: place.schema,
            user: id.to_string(),
            password,
            write: asked.write,
            expires_at,
            ends_at,
        })
    }

    /// Ends a door before its time, in the middle of whatever its session does. Once it is noted the door is shut in any case:
    /// when its server does not answer now, as soon as it does.
    pub async fn end_door(&self, permit: &Permit, id: DoorId) -> Result<(), LifecycleError> {
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let Some(opened) = store.end_door(permit, id).await? else {
            return Err(LifecycleError::DoorNotOpen { door: id });
        };
        let mut connection = steps.clusters.connect(&opened.cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        door::shut(&steps.clusters, &opened.cluster, &mut connection, id).await.map_err(StepError::from)?;
        connection.close().await.ok();
        Ok(store.close_door(&opened.door, "somebody ended it").await?)
    }

    /// Shuts doors whose time is over, and those whose session has ended or never began.
    pub(crate) async fn shut_doors(&self) -> Result<(), StoreError> {
        // `None` for a cluster that has just failed: its other doors need not wait for it as well.
        let mut connections: HashMap<ClusterName, Option<PgConnection>> = HashMap::new();
        for opened in self.engine.store.doors().await? {
            let cluster = opened.cluster.clone();
            if !connections.contains_key(&cluster) {
                let connected = self.engine.steps.clusters.connect(&cluster, MAINTENANCE_DATABASE).await;
                let connected = connected.inspect_err(|error| tracing::warn!(%error, "cannot look after open doors"));
                connections.insert(cluster.clone(), connected.ok());
            }
            let Some(connection) = connections.get_mut(&cluster).and_then(Option::as_mut) else { continue };
            match self.shut_if_over(&opened, connection).await {
                Ok(None) => {}
                Ok(Some(why)) => self.engine.store.close_door(&opened.door, why).await?,
                Err(error) => {
                    tracing::warn!(door.id = %opened.door.id, %error, "cannot shut a door yet");
                    connections.insert(cluster, None);
                }
            }
        }
        Ok(())
    }

    /// Why the door is shut now; `None` for one that stays open.
    async fn shut_if_over(
        &self,
        opened: &OpenedDoor,
        connection: &mut PgConnection,
    ) -> Result<Option<&'static str>, StepError> {
        let id = opened.door.id;
        let in_use = door::is_in_use(connection, id).await?;
        let why = match (opened.is_over, in_use, opened.may_begin) {
            (true, true, _) => "its time was over",
            (false, true, _) | (false, false, true) => return Ok(None),
            (_, false, _) => "its session had ended, or had not begun",
        };
        door::shut(&self.engine.steps.clusters, &opened.cluster, connection, id).await?;
        Ok(Some(why))
    }
}
