//! An application under test: a database of its own, its declaration, and connections as the people involved.

use std::collections::BTreeSet;

use guardian_model::{Capability, Config, KeyType, TenantKey};
use guardian_postgres::{Declaration, Hardening, Mechanism, StatementEvent, apply, collect, plan, registry, scram};
use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

pub(crate) const PASSWORD: &str = "not a secret";

/// An application with two tenants.
pub(crate) struct Application {
    pub(crate) name: String,
    pub(crate) database: TestDatabase,
    pub(crate) admin: PgConnection,
    pub(crate) declaration: Declaration,
    have_password: BTreeSet<String>,
}

/// The keys of the two tenants of every test.
pub(crate) fn keys(key_type: KeyType) -> [TenantKey; 2] {
    let texts = match key_type {
        KeyType::Uuid => ["0190b6a0-0000-7000-8000-00000000000a", "0190b6a0-0000-7000-8000-00000000000b"],
        KeyType::Bigint => ["700000000017", "800000000018"],
        KeyType::Text => ["acme-corp.eu", "globex_2"],
    };
    texts.map(|text| TenantKey::parse(key_type, text).unwrap())
}

fn declaration(name: &str, declarations: &str) -> Declaration {
    let toml = format!("[application]\nname = \"{name}\"\n{declarations}");
    Declaration::from(&Config::parse("guardian.toml", &toml).unwrap())
}

pub(crate) fn capability(key: &TenantKey) -> Capability {
    let mut bytes = [0_u8; 32];
    for (slot, byte) in bytes.iter_mut().zip(key.to_register().bytes().rev()) {
        *slot = byte;
    }
    Capability::from_bytes(bytes)
}

impl Application {
    /// A new database with `schema_sql` run in it. `declarations` goes into `guardian.toml` below `[application]`.
    pub(crate) async fn new(schema_sql: &str, declarations: &str) -> Self {
        Self::on(&Server::shared(), schema_sql, declarations).await
    }

    pub(crate) async fn on(server: &Server, schema_sql: &str, declarations: &str) -> Self {
        let database = server.database("hardening").await;
        let mut application = Self::of(database, declarations).await;
        application.execute(schema_sql).await;
        application
    }

    pub(crate) async fn of(database: TestDatabase, declarations: &str) -> Self {
        let name = unique("app");
        // The administrator of the throwaway server is called `guardian`, and `"$user"` would find the schema of that name.
        let admin = database.options().options([("search_path", "public")]).connect().await.unwrap();
        Self { declaration: declaration(&name, declarations), name, admin, database, have_password: BTreeSet::new() }
    }

    /// Declares more, as if it stood in `guardian.toml`.
    pub(crate) fn declare(&mut self, declarations: &str) {
        let mechanism = self.declaration.mechanism;
        self.declaration = declaration(&self.name, declarations);
        self.declaration.mechanism = mechanism;
    }

    pub(crate) fn force(mut self, mechanism: Mechanism) -> Self {
        self.declaration.mechanism = Some(mechanism);
        self
    }

    pub(crate) async fn execute(&mut self, sql: &str) {
        execute(&mut self.admin, sql).await.unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
    }

    pub(crate) async fn plan(&mut self) -> Hardening {
        let facts = collect(&mut self.admin, &self.declaration).await.unwrap();
        plan(&facts, &self.declaration)
    }

    /// Hardens, and demands that nothing is left to do.
    pub(crate) async fn harden(&mut self) -> Hardening {
        let hardening = self.apply().await;
        let again = self.plan().await;
        assert!(again.is_clean(), "not idempotent: {:#?} {:#?}", again.refusals, again.batches);
        hardening
    }

    pub(crate) async fn apply(&mut self) -> Hardening {
        let hardening = self.plan().await;
        assert!(hardening.refusals.is_empty(), "{:#?}", hardening.refusals);
        apply(&mut self.admin, &hardening, &mut |_, _, _: StatementEvent| {})
            .await
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)));
        hardening
    }

    /// Registers both tenants.
    pub(crate) async fn admit(&mut self) {
        for key in keys(self.declaration.tenant_key) {
            registry::admit(&mut self.admin, &key, &capability(&key)).await.unwrap();
        }
    }

    /// A connection as the application's role, in no tenant's context.
    pub(crate) async fn connect(&mut self) -> PgConnection {
        self.connect_as(&format!("{}_app", self.name)).await
    }

    /// How the application's role connects, once it has a password.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        self.database.options().username(self.declaration.roles.app()).password(PASSWORD)
    }

    /// A connection as any role, which gets a password first.
    pub(crate) async fn connect_as(&mut self, role: &str) -> PgConnection {
        if self.have_password.insert(role.to_owned()) {
            self.execute(&format!("ALTER ROLE \"{role}\" PASSWORD '{}'", scram::verifier(PASSWORD))).await;
        }
        self.database.options().username(role).password(PASSWORD).connect().await.unwrap()
    }

    /// A connection as the application's role, in the context of tenant 0 or 1.
    pub(crate) async fn enter(&mut self, tenant: usize) -> PgConnection {
        let mut connection = self.connect().await;
        let key = &keys(self.declaration.tenant_key)[tenant];
        assert_eq!(enter(&mut connection, key).await.as_deref(), Some(key.to_register().as_str()));
        connection
    }
}

/// `guardian.enter` with the tenant's capability, as a bind parameter.
pub(crate) async fn enter(connection: &mut PgConnection, key: &TenantKey) -> Option<String> {
    sqlx::query_scalar("SELECT guardian.enter($1)").bind(&capability(key).expose()[..]).fetch_one(connection).await.unwrap()
}

pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

/// The single text of a query's single row.
pub(crate) async fn text(connection: &mut PgConnection, sql: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await
}

/// The single number of a query's single row.
pub(crate) async fn number(connection: &mut PgConnection, sql: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await
}

/// The SQLSTATE of a failure; panics on success.
pub(crate) async fn sqlstate(connection: &mut PgConnection, sql: &str) -> String {
    match execute(connection, sql).await {
        Ok(()) => panic!("went through: {sql}"),
        Err(error) => error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .map_or_else(|| panic!("{error} in {sql}"), std::borrow::Cow::into_owned),
    }
}
