//! The seals of the audit log: a chain of hashes over batches of entries, and its verification.
//!
//! An entry that was altered, removed, added to a sealed batch or moved to another one, and a seal that was altered or
//! removed, show at verification. What cannot show: changes to entries that are not sealed yet (their number is
//! reported), and a log that was cut at the end together with its seals, unless the caller kept a head elsewhere.

use aws_lc_rs::digest::{Context, SHA256};
use guardian_model::api::AuditVerification;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Store,
    error::{Doing, StoreError},
    timestamp::Stamp,
    vault::hex,
};

/// Entries of one seal at most.
const ENTRIES_MAX: usize = 1000;
/// A seal ends before a gap this wide in the sequence: verification reads the stretch between its first and last entry.
const GAP_MAX: i64 = 10_000;
/// Faults told one by one.
const FAULTS_MAX: usize = 100;
/// Seals read at once by verification.
const SEALS_AT_ONCE: i64 = 500;
/// What the first seal follows.
const GENESIS: [u8; 32] = [0; 32];
/// Begins what is hashed; a change of the encoding changes it.
const ENCODING: &[u8] = b"guardian audit seal 1\n";

/// A new seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its place in the chain, from 1.
    pub id: i64,
    /// Its hash in hexadecimal.
    pub hash: String,
    /// How many entries it covers.
    pub entries: i64,
}

#[derive(sqlx::FromRow)]
struct SealRow {
    id: i64,
    previous: Vec<u8>,
    hash: Vec<u8>,
    entries: i64,
    first_seq: i64,
    last_seq: i64,
    sealed_at: Stamp,
}

#[derive(sqlx::FromRow)]
struct EntryRow {
    seq: i64,
    at: Stamp,
    actor: String,
    action: String,
    tenant: Option<Uuid>,
    outcome: String,
    detail: String,
}

impl SealRow {
    /// The hash that the seal and its entries should have. Numbers have a fixed width and texts their length in front,
    /// so that no two different batches are written the same.
    fn compute(&self, entries: &[EntryRow]) -> Vec<u8> {
        let mut context = Context::new(&SHA256);
        context.update(ENCODING);
        context.update(&self.previous);
        for number in [self.id, self.entries, self.first_seq, self.last_seq, self.sealed_at.micros()] {
            context.update(&number.to_be_bytes());
        }
        for entry in entries {
            context.update(&entry.seq.to_be_bytes());
            context.update(&entry.at.micros().to_be_bytes());
            match entry.tenant {
                None => context.update(&[0]),
                Some(tenant) => {
                    context.update(&[1]);
                    context.update(tenant.as_bytes());
                }
            }
            for text in [&entry.actor, &entry.action, &entry.outcome, &entry.detail] {
                context.update(&(text.len() as u64).to_be_bytes());
                context.update(text.as_bytes());
            }
        }
        context.finish().as_ref().to_vec()
    }
}

impl Store {
    /// Seals the next batch of entries; `None` when there is none, or while another process is sealing.
    pub async fn seal(&self) -> Result<Option<Seal>, StoreError> {
        const DOING: &str = "seal the audit log";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // The lock comes first and alone, so that what follows sees the last sealer's work. The triggers look for it.
        let sealer: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(26485, 1)")
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        if !sealer {
            return Ok(None);
        }
        let mut entries: Vec<EntryRow> = sqlx::query_as(
            "SELECT seq, at, actor, action, tenant, outcome, detail::text AS detail FROM audit_entry
             WHERE seal IS NULL ORDER BY seq LIMIT $1",
        )
        .bind(i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await
        .doing(DOING)?;
        let end = entries.windows(2).position(|pair| pair[1].seq - pair[0].seq > GAP_MAX);
        entries.truncate(end.map_or(ENTRIES_MAX, |last| last + 1));
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(None) };
        let (id, previous, sealed_at): (i64, Vec<u8>, Stamp) = sqlx::query_as(
            "SELECT coalesce(max(id), 0) + 1,
                    coalesce((SELECT hash FROM audit_seal ORDER BY id DESC LIMIT 1), $1), now()
             FROM audit_seal",
        )
        .bind(GENESIS.as_slice())
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
        let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        let mut seal =
            SealRow { id, previous, hash: Vec::new(), entries: count, first_seq: first.seq, last_seq: last.seq, sealed_at };
        seal.hash = seal.compute(&entries);
        sqlx::query(
            "INSERT INTO audit_seal (id, previous, hash, entries, first_seq, last_seq, sealed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(seal.id)
        .bind(&seal.previous)
        .bind(&seal.hash)
        .bind(seal.entries)
        .bind(seal.first_seq)
        .bind(seal.last_seq)
        .bind(seal.sealed_at)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        sqlx::query("UPDATE audit_entry SET seal = $1 WHERE seq = ANY($2)")
            .bind(seal.id)
            .bind(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(Some(Seal { id: seal.id, hash: hex(&seal.hash), entries: seal.entries }))
    }

    /// Recomputes the whole chain. `expect_head` is a head that an earlier verification gave and the caller kept: the
    /// chain has to contain it.
    pub async fn verify_audit_log(&self, expect_head: Option<&str>) -> Result<AuditVerification, StoreError> {
        const DOING: &str = "verify the audit log";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // One snapshot for all of it, while entries and seals are being added.
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        // A long log takes its time, and here it is read whole.
        for setting in ["SET LOCAL statement_timeout = 0", "SET LOCAL enable_seqscan = on"] {
            sqlx::query(setting).execute(&mut *transaction).await.doing(DOING)?;
        }
        let mut chain = Chain::new(expect_head);
        loop {
            let seals: Vec<SealRow> = sqlx::query_as(
                "SELECT id, previous, hash, entries, first_seq, last_seq, sealed_at FROM audit_seal
                 WHERE id > $1 ORDER BY id LIMIT $2",
            )
            .bind(chain.last_id)
            .bind(SEALS_AT_ONCE)
            .fetch_all(&mut *transaction)
            .await
            .doing(DOING)?;
            if seals.is_empty() {
                break;
            }
            for seal in seals {
                let entries = entries_of(&seal, &mut transaction).await.doing(DOING)?;
                chain.check(seal, &entries);
            }
        }
        let (sealed, unsealed): (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE seal IS NOT NULL), count(*) FILTER (WHERE seal IS NULL) FROM audit_entry",
        )
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
        transaction.rollback().await.doing(DOING)?;
        Ok(chain.verdict(sealed, unsealed))
    }
}

/// The entries that claim to be of this seal, within its stretch; one more than it should have, at most.
async fn entries_of(seal: &SealRow, connection: &mut PgConnection) -> Result<Vec<EntryRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT seq, at, actor, action, tenant, outcome, detail::text AS detail FROM audit_entry
         WHERE seq BETWEEN $1 AND $2 AND seal = $3 ORDER BY seq LIMIT $4",
    )
    .bind(seal.first_seq)
    .bind(seal.last_seq)
    .bind(seal.id)
    .bind(seal.entries.clamp(0, i64::MAX - 1) + 1)
    .fetch_all(connection)
    .await
}

/// The chain so far.
struct Chain<'a> {
    last_id: i64,
    head: Vec<u8>,
    seals: i64,
    entries: i64,
    expect_head: Option<&'a str>,
    head_found: bool,
    faults: Vec<String>,
    faults_untold: usize,
}

impl<'a> Chain<'a> {
    fn new(expect_head: Option<&'a str>) -> Self {
        let head = GENESIS.to_vec();
        let faults = Vec::new();
        Self { last_id: 0, head, seals: 0, entries: 0, expect_head, head_found: false, faults, faults_untold: 0 }
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_untold += 1;
        }
    }

    fn check(&mut self, seal: SealRow, entries: &[EntryRow]) {
        let id = seal.id;
        let stretch = format!("seal {id} (entries {} to {})", seal.first_seq, seal.last_seq);
        if id != self.last_id + 1 {
            self.fault(match id - self.last_id {
                2 => format!("seal {} is missing", id - 1),
                _ => format!("seals {} to {} are missing", self.last_id + 1, id - 1),
            });
        } else if seal.previous != self.head {
            self.fault(format!("{stretch} does not follow the seal before it"));
        }
        let found = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        if found < seal.entries {
            self.fault(format!("{stretch} lacks {} of its {} entries", seal.entries - found, seal.entries));
        } else if found > seal.entries {
            self.fault(format!("{stretch} has entries that were added after it was sealed"));
        } else if seal.compute(entries) != seal.hash {
            self.fault(format!("{stretch} does not match its entries: they, or the seal, were altered"));
        }
        self.head_found |= self.expect_head.is_some_and(|expected| expected.eq_ignore_ascii_case(&hex(&seal.hash)));
        self.last_id = id;
        self.head = seal.hash;
        self.seals += 1;
        self.entries += found;
    }

    fn verdict(mut self, sealed: i64, unsealed: i64) -> AuditVerification {
        if sealed > self.entries {
            self.fault(format!("{} entries claim to be sealed, but belong to no seal", sealed - self.entries));
        }
        if let Some(expected) = self.expect_head.filter(|_| !self.head_found) {
            self.fault(format!("no seal has the expected head {expected}: the log was cut short or rewritten"));
        }
        if self.faults_untold > 0 {
            self.faults.push(format!("and {} more", self.faults_untold));
        }
        AuditVerification {
            intact: self.faults.is_empty(),
            faults: self.faults,
            sealed,
            unsealed,
            seals: self.seals,
            head: (self.seals > 0).then(|| hex(&self.head)),
        }
    }
}
