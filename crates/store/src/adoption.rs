//! How far an application's adoption has come, and the password of the role that serves it while it is observed.

use guardian_model::{
    AdoptionStage, Permission,
    access::{Actor, Permit},
    adoption::SnapshotAdoption,
    snapshot::Secret,
};
use sqlx::PgConnection;
use zeroize::Zeroizing;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, word},
    vault::{hex, random},
};

/// Random bytes of a password.
const PASSWORD_BYTES: usize = 24;

/// Why a stage was not set.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It is in none of the stages from which that one is reached.
    #[error("the application is in the stage `{now}`, from which `{wanted}` is not reached")]
    OutOfOrder {
        /// Where it stands.
        now: AdoptionStage,
        /// Where it should go.
        wanted: AdoptionStage,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn context(application: &str) -> String {
    format!("adopt:{application}")
}

impl Store {
    /// How far the adoption of this application has come. One that nobody has heard of is in no stage.
    pub async fn adoption(&self, application: &str) -> Result<SnapshotAdoption, StoreError> {
        let mut connection = self.pool.acquire().await.doing("read the stage of an adoption")?;
        self.adoption_on(&mut connection, application).await
    }

    pub(crate) async fn adoption_on(
        &self,
        connection: &mut PgConnection,
        application: &str,
    ) -> Result<SnapshotAdoption, StoreError> {
        let row: Option<(String, Option<Vec<u8>>)> =
            sqlx::query_as("SELECT stage, sealed_adopt_password FROM application WHERE name = $1")
                .bind(application)
                .fetch_optional(connection)
                .await
                .doing("read the stage of an adoption")?;
        let Some((stage, sealed)) = row else { return Ok(SnapshotAdoption::default()) };
        let stage = word("stage", &stage, AdoptionStage::from_word)?;
        let password = match sealed.filter(|_| stage.uses_adopt_role()) {
            Some(sealed) => Some(Secret::new(self.open_text(application, &sealed)?.as_str())),
            None => None,
        };
        Ok(SnapshotAdoption { stage, password })
    }

    fn open_text(&self, application: &str, sealed: &[u8]) -> Result<Zeroizing<String>, StoreError> {
        let plain = self.vault.open(&context(application), sealed)?;
        let text = std::str::from_utf8(&plain)
            .map_err(|_| StoreError::Unreadable { what: "password of an adoption", value: "…".to_owned() })?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The password of the role `…_adopt`; a new one the first time.
    pub async fn adopt_secret(&self, application: &str) -> Result<Zeroizing<String>, StoreError> {
        const DOING: &str = "read the password of an adoption";
        // Makes the row where there is none.
        self.application_secret(application).await?;
        let fresh = Zeroizing::new(hex(&random::<PASSWORD_BYTES>()?));
        let sealed = self.vault.seal(&context(application), fresh.as_bytes())?;
        // When there is one already nothing changes, and gateways hear of nothing.
        let made: Option<Vec<u8>> = sqlx::query_scalar(
            "UPDATE application SET sealed_adopt_password = $2 WHERE name = $1 AND sealed_adopt_password IS NULL
             RETURNING sealed_adopt_password",
        )
        .bind(application)
        .bind(sealed)
        .fetch_optional(&self.pool)
        .await
        .doing(DOING)?;
        let kept = match made {
            Some(made) => made,
            None => sqlx::query_scalar("SELECT sealed_adopt_password FROM application WHERE name = $1")
                .bind(application)
                .fetch_one(&self.pool)
                .await
                .doing(DOING)?,
        };
        self.open_text(application, &kept)
    }

    /// Takes the application from one of the stages `from` to another one, as a person asked.
    pub async fn set_stage(
        &self,
        permit: &Permit,
        application: &str,
        from: &[AdoptionStage],
        to: AdoptionStage,
    ) -> Result<(), StageError> {
        covers(permit, Permission::SchemaWrite, None)?;
        let record = AuditRecord::of(permit, "adoption.stage", None, Outcome::Done);
        self.move_stage(record, application, from, to).await
    }

    /// The same, by a run that was permitted when it was started.
    pub async fn reach_stage(&self, application: &str, from: &[AdoptionStage], to: AdoptionStage) -> Result<(), StageError> {
        let record = AuditRecord::by(&Actor::system("run"), "adoption.stage", None, Outcome::Done);
        self.move_stage(record, application, from, to).await
    }

    async fn move_stage(
        &self,
        record: AuditRecord,
        application: &str,
        from: &[AdoptionStage],
        to: AdoptionStage,
    ) -> Result<(), StageError> {
        const DOING: &str = "set the stage of an adoption";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let now: Option<String> = sqlx::query_scalar("SELECT stage FROM application WHERE name = $1 FOR UPDATE")
            .bind(application)
            .fetch_optional(&mut *transaction)
            .await
            .doing(DOING)?;
        let now = now.map_or(Ok(AdoptionStage::None), |now| word("stage", &now, AdoptionStage::from_word))?;
        if now == to {
            return Ok(());
        }
        if !from.contains(&now) {
            return Err(StageError::OutOfOrder { now, wanted: to });
        }
        sqlx::query("UPDATE application SET stage = $2, stage_at = now() WHERE name = $1")
            .bind(application)
            .bind(to.as_str())
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        let record = record.with(serde_json::json!({ "application": application, "from": now, "to": to }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(())
    }
}
