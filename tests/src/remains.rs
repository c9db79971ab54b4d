//! What a tenant leaves on a server: everything that bears its id or its key.

use guardian_testkit::Installation;
use sqlx::{AssertSqlSafe, Row as _};

/// Roles, databases, schemas, capabilities and rows of one tenant.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Remains(pub Vec<String>);

impl Remains {
    /// Looks for a tenant by its id (`ten_…`) and its key.
    pub async fn of(installation: &Installation, id: &str, key: &str) -> Self {
        let mut found = Vec::new();
        let mut connection = installation.server().connect(&installation.application).await;
        let named = format!(
            "SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE '{id}%'
             UNION ALL SELECT 'database ' || datname FROM pg_database WHERE datname LIKE '{id}%'
             UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE '{id}%'
             UNION ALL SELECT 'capability of ' || register FROM guardian.capability WHERE register = replace('{key}', '-', '')
             UNION ALL SELECT 'ledger of ' || place FROM guardian.migration WHERE place = '{id}'"
        );
        for row in sqlx::query(AssertSqlSafe(named)).fetch_all(&mut connection).await.expect("look for names") {
            found.push(row.get(0));
        }
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT quote_ident(relname) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attname = 'tenant_id'",
        )
        .fetch_all(&mut connection)
        .await
        .expect("list the tables");
        for table in tables {
            let sql = format!("SELECT count(*) FROM public.{table} WHERE tenant_id::text = '{key}'");
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.expect("count rows");
            if rows > 0 {
                found.push(format!("{rows} rows of {table}"));
            }
        }
        Self(found)
    }

    /// Whether nothing is left.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}
