//! The feed of changes that gateways run on: everything there is, and what changed since a position.
//!
//! A position is a database snapshot (`pg_snapshot`). What is visible now and was not visible in it has changed since: no
//! transaction is missed however late it commits, and none comes twice. A position that was given out has a number, which
//! any control plane on this database understands. Migration 0006 says who writes the transactions' numbers down.

use std::sync::Arc;

use guardian_model::{
    ApiKeyId, Capability, KeyType, LoginName, Tenant, TenantKey, TenantState, Tier,
    adoption::SnapshotAdoption,
    api_key::SnapshotApiKey,
    http::{HttpOverride, SnapshotIdentityKeys},
    snapshot::{Cursor, Secret, SnapshotLogin, SnapshotTenant},
    tenant_access::SnapshotAccess,
};
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgListener};
use uuid::Uuid;

use crate::{
    Store, api_key,
    error::{Doing, StoreError, parse},
    http_override,
    login::{self, LoginRow},
    tenant::{self, SEALED, Sealed, SealedNext, Secrets, TenantRow},
    tenant_access,
    vault::hex,
};

/// The channel on which publishers hear of changes.
const CHANNEL: &str = "guardian_change";
/// How long deleted tenants are told apart from unknown ones, in days.
const TOMBSTONE_DAYS: i32 = 30;
/// How many deleted tenants are, the newest first.
const TOMBSTONES_MAX: i64 = 10_000;
/// How long a position is good for, in hours; a gateway that was away for longer reads everything again.
const POSITION_HOURS: i32 = 24;
/// Tenants of one page of the whole.
pub const FEED_PAGE: i64 = 2_000;

/// What is visible now (by the columns' transaction number) and was not in the position `$1`. The first condition is the
/// index's.
macro_rules! since {
    ($column:literal) => {
        concat!(
            $column,
            " >= pg_snapshot_xmin($1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(",
            $column,
            ", $1::text::pg_snapshot)"
        )
    };
}

/// A position in the feed.
#[derive(Debug, Clone)]
pub struct Position {
    /// Its number.
    pub cursor: Cursor,
    /// What was visible, as `pg_snapshot` writes it.
    snapshot: String,
}

/// What changed since a position.
#[derive(Debug, Default)]
pub struct Changes {
    /// Every tier, when one of them changed.
    pub tiers: Option<Vec<Tier>>,
    /// The tenants that changed, as they are now.
    pub tenants: Vec<SnapshotTenant>,
    /// The logins that were made or changed.
    pub logins: Vec<SnapshotLogin>,
    /// The logins that are gone.
    pub logins_gone: Vec<LoginName>,
    /// The applications whose adoption went forward or back, by name.
    pub adoptions: Vec<(String, SnapshotAdoption)>,
    /// The API keys that were made or changed.
    pub api_keys: Vec<SnapshotApiKey>,
    /// The API keys that were revoked.
    pub api_keys_gone: Vec<ApiKeyId>,
    /// Who may do what, in the tenants where it changed.
    pub access: Vec<SnapshotAccess>,
    /// What is declared over the API about routes and roles, when it changed.
    pub http: Option<HttpOverride>,
    /// The keys that sign identities, when one of them changed; without the issuer.
    pub identity_keys: Option<SnapshotIdentityKeys>,
}

/// The host names of the tenant `t`.
const DOMAINS: &str = "ARRAY(SELECT d.host FROM tenant_domain d WHERE d.tenant = t.id ORDER BY d.host) AS domains";

#[derive(sqlx::FromRow)]
struct FeedTenantRow {
    #[sqlx(flatten)]
    tenant: TenantRow,
    #[sqlx(flatten)]
    sealed: Sealed,
    domains: Vec<String>,
    #[sqlx(flatten)]
    next: SealedNext,
}

#[derive(sqlx::FromRow)]
struct FeedLoginRow {
    #[sqlx(flatten)]
    login: LoginRow,
    sealed_verifier: Option<Vec<u8>>,
}

/// Tells that something may have changed. Holds a connection of the pool.
pub struct ChangeCalls(PgListener);

impl ChangeCalls {
    /// Waits for the next call. After the connection was lost and found again, it returns at once, because calls may have
    /// been missed.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.0.try_recv().await.doing("listen for changes").map(drop)
    }
}

impl Store {
    /// Listens for changes, whoever makes them. Polling has to back it up: a call can be lost with its connection.
    pub async fn change_calls(&self) -> Result<ChangeCalls, StoreError> {
        const DOING: &str = "listen for changes";
        let mut listener = PgListener::connect_with(&self.pool).await.doing(DOING)?;
        listener.listen(CHANNEL).await.doing(DOING)?;
        Ok(ChangeCalls(listener))
    }

    /// Waits for a change of this process's own that no notification tells ([`Store::finish`]).
    pub async fn own_change(&self) {
        self.changed.notified().await;
    }

    /// Calls the other processes' attention to such a change. Outside the change's transaction it costs no write.
    pub async fn call_others(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(&self.pool).await.doing("tell of a change").map(drop)
    }

    /// Begins to publish. `installation` is a hash of what the configuration says: when it is another than before, or when
    /// the database was moved to another server, positions given out earlier are forgotten.
    pub async fn begin_feed(&self, installation: &[u8]) -> Result<Position, StoreError> {
        const DOING: &str = "begin the feed of changes";
        const AHEAD: &str = "pg_snapshot_xmax(pg_current_snapshot())";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        sqlx::query("LOCK TABLE feed_installation IN SHARE ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        let same: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM feed_installation WHERE hash = $1)")
            .bind(installation)
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        // Numbers of transactions that are yet to come: from another server, by dump and restore.
        let foreign = format!(
            "SELECT EXISTS (SELECT FROM tenant WHERE changed_xid >= {AHEAD}) OR EXISTS (SELECT FROM change WHERE xid >= {AHEAD})
                 OR EXISTS (SELECT FROM feed_position WHERE pg_snapshot_xmax(snapshot) > {AHEAD})"
        );
        let foreign: bool = sqlx::query_scalar(AssertSqlSafe(foreign)).fetch_one(&mut *transaction).await.doing(DOING)?;
        if foreign {
            let mend = [
                format!("UPDATE tenant SET changed_xid = pg_current_xact_id() WHERE changed_xid >= {AHEAD}"),
                format!("UPDATE change SET xid = pg_current_xact_id() WHERE xid >= {AHEAD}"),
            ];
            for sql in mend {
                sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await.doing(DOING)?;
            }
        }
        if foreign || !same {
            sqlx::query("DELETE FROM feed_position").execute(&mut *transaction).await.doing(DOING)?;
            sqlx::query(
                "INSERT INTO feed_installation (hash) VALUES ($1) ON CONFLICT (one) DO UPDATE SET hash = excluded.hash",
            )
            .bind(installation)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)?;
        let snapshot: String =
            sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(&self.pool).await.doing(DOING)?;
        self.number(snapshot).await
    }

    /// Gives a position a number that other processes and later starts understand.
    async fn number(&self, snapshot: String) -> Result<Position, StoreError> {
        // Not worth a wait for the disk: when it is lost, gateways read everything again.
        let cursor: i64 = sqlx::query_scalar(
            "WITH lax AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
             INSERT INTO feed_position (snapshot) SELECT $1::text::pg_snapshot FROM lax RETURNING cursor",
        )
        .bind(&snapshot)
        .fetch_one(&self.pool)
        .await
        .doing("keep a position of the feed")?;
        Ok(Position { cursor: Cursor(cursor.unsigned_abs()), snapshot })
    }

    /// A position that was given out; `None` for one that is none of this database's, or too old.
    pub async fn position(&self, cursor: Cursor) -> Result<Option<Position>, StoreError> {
        let Ok(number) = i64::try_from(cursor.0) else { return Ok(None) };
        let snapshot: Option<String> = sqlx::query_scalar(
            "SELECT snapshot::text FROM feed_position
             WHERE cursor = $1 AND pg_snapshot_xmax(snapshot) <= pg_snapshot_xmax(pg_current_snapshot())",
        )
        .bind(number)
        .fetch_optional(&self.pool)
        .await
        .doing("read a position of the feed")?;
        Ok(snapshot.map(|snapshot| Position { cursor, snapshot }))
    }

    /// What changed since the position, which moves on. Its number changes only when something did.
    pub async fn advance(&self, position: &mut Position, key: KeyType) -> Result<Option<Changes>, StoreError> {
        let (now, changes) = self.changes_since(position, key).await?;
        if changes.is_empty() {
            // What became visible meanwhile need not be looked at again.
            position.snapshot = now;
            return Ok(None);
        }
        *position = self.number(now).await?;
        Ok(Some(changes))
    }

    /// What changed since a position, and the snapshot that says so.
    pub async fn changes_since(&self, position: &Position, key: KeyType) -> Result<(String, Changes), StoreError> {
        const DOING: &str = "read what changed";
        const LOOK: &str = concat!(
            "SELECT pg_current_snapshot()::text, EXISTS (SELECT FROM tenant WHERE ",
            since!("changed_xid"),
            ") OR EXISTS (SELECT FROM change WHERE ",
            since!("xid"),
            ")"
        );
        let (now, some): (String, bool) =
            sqlx::query_as(LOOK).bind(&position.snapshot).fetch_one(&self.pool).await.doing(DOING)?;
        if !some {
            return Ok((now, Changes::default()));
        }
        let mut transaction = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.doing(DOING)?;
        let now: String =
            sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(&mut *transaction).await.doing(DOING)?;
        let changes = self.read_changes(&mut transaction, &position.snapshot, key).await?;
        transaction.commit().await.doing(DOING)?;
        Ok((now, changes))
    }

    async fn read_changes(&self, connection: &mut PgConnection, since: &str, key: KeyType) -> Result<Changes, StoreError> {
        const DOING: &str = "read what changed";
        let sql = format!("SELECT {}, {DOMAINS}, {SEALED} FROM tenant t WHERE {}", tenant::COLUMNS, since!("t.changed_xid"));
        let rows: Vec<FeedTenantRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(since).fetch_all(&mut *connection).await.doing(DOING)?;
        let tenants = rows.into_iter().map(|row| self.feed_tenant(row, key)).collect::<Result<_, _>>()?;
        let changed: Vec<(String, String)> = sqlx::query_as(concat!("SELECT kind, id FROM change WHERE ", since!("xid")))
            .bind(since)
            .fetch_all(&mut *connection)
            .await
            .doing(DOING)?;
        let tiers = if changed.iter().any(|(kind, _)| kind == "tier") {
            Some(crate::tier::read_all(&mut *connection).await?)
        } else {
            None
        };
        let mut adoptions = Vec::new();
        for (_, name) in changed.iter().filter(|(kind, _)| kind == "application") {
            adoptions.push((name.clone(), self.adoption_on(&mut *connection, name).await?));
        }
        let mut found = Changes { tiers, tenants, adoptions, ..Changes::default() };
        let uuids = |kind: &str| changed.iter().filter(|(of, _)| of == kind).filter_map(|(_, id)| id.parse().ok()).collect();
        let (keys, access): (Vec<Uuid>, Vec<Uuid>) = (uuids("api_key"), uuids("access"));
        if !keys.is_empty() {
            (found.api_keys, found.api_keys_gone) = api_key::read_changed(&mut *connection, &keys).await?;
        }
        if !access.is_empty() {
            found.access = tenant_access::read_changed(&mut *connection, &access).await?;
        }
        if changed.iter().any(|(kind, _)| kind == "http") {
            found.http = Some(http_override::read(&mut *connection).await?.1);
        }
        if changed.iter().any(|(kind, _)| kind == "identity") {
            found.identity_keys = Some(self.identity_keys_on(&mut *connection, "").await?);
        }
        let names: Vec<String> = changed.into_iter().filter(|(kind, _)| kind == "login").map(|(_, name)| name).collect();
        if names.is_empty() {
            return Ok(found);
        }
        let sql = format!("SELECT {}, sealed_verifier FROM login WHERE name = ANY ($1)", login::COLUMNS);
        let rows: Vec<FeedLoginRow> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(&names).fetch_all(&mut *connection).await.doing(DOING)?;
        let logins = rows.into_iter().map(|row| self.feed_login(row)).collect::<Result<Vec<_>, _>>()?;
        let gone = names.into_iter().filter(|name| logins.iter().all(|login| login.name.as_str() != name));
        found.logins_gone = gone.map(|name| parse("login", name)).collect::<Result<_, _>>()?;
        found.logins = logins;
        Ok(found)
    }

    /// A page of the tenants that are not deleted, by id, after `after`; at most [`FEED_PAGE`].
    ///
    /// The pages of a whole are not of one moment, and need not be: what changes meanwhile is in the changes since a
    /// position taken before the first page.
    pub async fn feed_tenants(
        &self,
        after: Option<&SnapshotTenant>,
        key: KeyType,
    ) -> Result<Vec<SnapshotTenant>, StoreError> {
        let sql = format!(
            "SELECT {}, {DOMAINS}, {SEALED} FROM tenant t
             WHERE t.state <> 'deleted' AND t.id > $1 ORDER BY t.id LIMIT {FEED_PAGE}",
            tenant::COLUMNS
        );
        let rows: Vec<FeedTenantRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(after.map_or(Uuid::nil(), |tenant| tenant.id.uuid()))
            .fetch_all(&self.pool)
            .await
            .doing("read the tenants")?;
        rows.into_iter().map(|row| self.feed_tenant(row, key)).collect()
    }

    /// The tenants deleted lately, the newest first.
    pub async fn feed_tombstones(&self, key: KeyType) -> Result<Vec<SnapshotTenant>, StoreError> {
        let sql = format!(
            "SELECT {}, {DOMAINS}, {SEALED} FROM tenant t
             WHERE t.state = 'deleted' AND t.changed_at > now() - make_interval(days => {TOMBSTONE_DAYS})
             ORDER BY t.changed_at DESC LIMIT {TOMBSTONES_MAX}",
            tenant::COLUMNS
        );
        let rows: Vec<FeedTenantRow> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.pool).await.doing("read the deleted tenants")?;
        rows.into_iter().map(|row| self.feed_tenant(row, key)).collect()
    }

    /// Every login, with its verifier.
    pub async fn feed_logins(&self) -> Result<Vec<SnapshotLogin>, StoreError> {
        let sql = format!("SELECT {}, sealed_verifier FROM login ORDER BY name", login::COLUMNS);
        let rows: Vec<FeedLoginRow> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.pool).await.doing("read the logins")?;
        rows.into_iter().map(|row| self.feed_login(row)).collect()
    }

    /// Forgets positions past their age, and the traces of what changed before every position that is left.
    pub async fn forget_positions(&self) -> Result<(), StoreError> {
        const DOING: &str = "forget old positions of the feed";
        sqlx::query("DELETE FROM feed_position WHERE at < now() - make_interval(hours => $1)")
            .bind(POSITION_HOURS)
            .execute(&self.pool)
            .await
            .doing(DOING)?;
        sqlx::query(
            "DELETE FROM change c WHERE (kind IN ('api_key', 'access')
                     OR kind = 'login' AND NOT EXISTS (SELECT FROM login l WHERE l.name = c.id))
                 AND xid < (SELECT min(pg_snapshot_xmin(snapshot)) FROM feed_position)",
        )
        .execute(&self.pool)
        .await
        .doing(DOING)
        .map(drop)
    }

    fn feed_tenant(&self, row: FeedTenantRow, key: KeyType) -> Result<SnapshotTenant, StoreError> {
        let Tenant { id, slug, key: text, tier, state, placement, limits, .. } = row.tenant.try_into()?;
        // A key that is none of the application's type cannot be entered, which must not keep the others out.
        let register = TenantKey::parse(key, &text).map(|key| key.to_register()).unwrap_or_default();
        let Secrets { capability, password } = match state {
            TenantState::Active if !register.is_empty() => self.unseal(id, &row.sealed)?,
            _ => Secrets::default(),
        };
        let domains = row.domains.into_iter().map(|host| parse("host name", host)).collect::<Result<_, _>>()?;
        let secret = told(capability, password);
        let next_secret = match secret {
            Some(_) => {
                let Secrets { capability, password } = self.unseal(id, &row.next.into())?;
                told(capability, password)
            }
            None => None,
        };
        Ok(SnapshotTenant { id, slug, tier, state, placement, limits, register, secret, next_secret, domains })
    }

    fn feed_login(&self, row: FeedLoginRow) -> Result<SnapshotLogin, StoreError> {
        let login = guardian_model::Login::try_from(row.login)?;
        let verifier = row.sealed_verifier.map(|sealed| self.open_verifier(login.name.as_str(), &sealed)).transpose()?;
        Ok(SnapshotLogin { name: login.name, scope: login.scope, proof: login.proof, verifier })
    }
}

/// As gateways are told of it.
fn told(capability: Option<Capability>, password: Option<String>) -> Option<Secret> {
    capability.map(|capability| hex(capability.expose())).or(password).map(Secret::new)
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_none()
            && self.tenants.is_empty()
            && self.logins.is_empty()
            && self.logins_gone.is_empty()
            && self.adoptions.is_empty()
            && self.api_keys.is_empty()
            && self.api_keys_gone.is_empty()
            && self.access.is_empty()
            && self.http.is_none()
            && self.identity_keys.is_none()
    }
}

/// Wakes this process's publisher.
pub(crate) type Changed = Arc<tokio::sync::Notify>;
