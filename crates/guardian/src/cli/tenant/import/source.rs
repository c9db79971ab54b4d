//! Where the tenants come from: a CSV file, or a query that runs here.

use std::{fs::File, io::Read, path::Path};

use anyhow::Context as _;
use guardian_model::import::ImportTenant;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::{cli::audit::source, output::Failure};

const COLUMNS: [&str; 4] = ["key", "slug", "name", "tier"];
const CURSOR: &str = "guardian_import";

/// One tenant, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The line of the file, or the row of the query, from 1.
    pub(super) line: u64,
    pub(super) tenant: ImportTenant,
}

pub(super) enum Source {
    Csv { reader: Box<csv::Reader<Box<dyn Read + Send>>>, places: [Option<usize>; 4] },
    Query { connection: Box<PgConnection>, rows: u64 },
}

impl Source {
    pub(super) fn csv(path: &Path) -> anyhow::Result<Self> {
        let read: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(std::io::stdin())
        } else {
            Box::new(File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?)
        };
        Self::of_reader(read)
    }

    fn of_reader(read: Box<dyn Read + Send>) -> anyhow::Result<Self> {
        let mut reader = csv::Reader::from_reader(read);
        let head = reader.headers().context("cannot read the line of column names")?;
        let names: Vec<String> = head.iter().map(|name| name.trim().to_owned()).collect();
        let places = places(&names, "the first line")?;
        Ok(Self::Csv { reader: Box::new(reader), places })
    }

    pub(super) async fn query(query: &str, url: Option<&str>) -> anyhow::Result<Self> {
        let options = match url {
            Some(url) => source::options(url, "--url")?,
            None => PgConnectOptions::new().disable_statement_logging(),
        };
        let options = options.application_name("guardian tenant import");
        let mut connection = options.connect().await.context("cannot connect to the database of the query")?;
        sqlx::query("BEGIN READ ONLY").execute(&mut connection).await?;
        // Whatever the types of the columns are, JSON names them and writes keys as PostgreSQL does. The line break ends a
        // comment at the query's end. One statement a message: nothing behind a semicolon runs.
        let query = query.trim().trim_end_matches(';');
        let cursor =
            format!("DECLARE {CURSOR} NO SCROLL CURSOR FOR SELECT row_to_json(given)::text FROM ({query}\n) AS given");
        let declared = sqlx::query(AssertSqlSafe(cursor)).persistent(false).execute(&mut connection).await;
        declared.map_err(|error| Failure::new(format!("the query does not run: {error}")))?;
        Ok(Self::Query { connection: Box::new(connection), rows: 0 })
    }

    /// The next tenants; none at the end.
    pub(super) async fn batch(&mut self, max: usize) -> anyhow::Result<Vec<Row>> {
        match self {
            Self::Csv { reader, places } => {
                let mut rows = Vec::new();
                let mut record = csv::StringRecord::new();
                while rows.len() < max && reader.read_record(&mut record).context("cannot read the CSV file")? {
                    let line = record.position().map_or(0, csv::Position::line);
                    rows.push(Row { line, tenant: of_record(&record, places) });
                }
                Ok(rows)
            }
            Self::Query { connection, rows } => {
                let fetch = AssertSqlSafe(format!("FETCH {max} FROM {CURSOR}"));
                let texts: Vec<String> = sqlx::query_scalar(fetch)
                    .fetch_all(&mut **connection)
                    .await
                    .map_err(|error| Failure::new(format!("the query fails after {rows} rows: {error}")))?;
                let mut batch = Vec::with_capacity(texts.len());
                for text in texts {
                    *rows += 1;
                    batch.push(Row { line: *rows, tenant: of_json(&text)? });
                }
                Ok(batch)
            }
        }
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        if let Self::Query { mut connection, .. } = self {
            sqlx::query("ROLLBACK").execute(&mut *connection).await?;
            connection.close().await?;
        }
        Ok(())
    }
}

/// Where each of [`COLUMNS`] stands among the names.
fn places(names: &[String], of: &str) -> anyhow::Result<[Option<usize>; 4]> {
    let known = COLUMNS.join(", ");
    for (index, name) in names.iter().enumerate() {
        if !COLUMNS.contains(&name.as_str()) {
            return Err(Failure::new(format!("{of} names the column `{name}`; there are {known}"))
                .advise("rename it, or leave it out")
                .into());
        }
        if names[..index].contains(name) {
            return Err(Failure::new(format!("{of} names the column `{name}` twice")).into());
        }
    }
    let places = COLUMNS.map(|column| names.iter().position(|name| name == column));
    if places[0].is_none() {
        return Err(Failure::new(format!("{of} names no column `key`"))
            .advise("name the columns: in a file in its first line, in a query with AS")
            .into());
    }
    Ok(places)
}

fn of_record(record: &csv::StringRecord, places: &[Option<usize>; 4]) -> ImportTenant {
    let field = |column: usize| places[column].and_then(|place| record.get(place)).filter(|text| !text.is_empty());
    let [key, slug, name, tier] = [0, 1, 2, 3].map(|column| field(column).map(str::to_owned));
    ImportTenant { key: key.unwrap_or_default(), slug, name, tier }
}

fn of_json(text: &str) -> anyhow::Result<ImportTenant> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
    let names: Vec<String> = object.keys().cloned().collect();
    places(&names, "the query")?;
    let field = |column: &str| match object.get(column) {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => (!text.is_empty()).then(|| text.clone()),
        Some(other) => Some(other.to_string()),
    };
    Ok(ImportTenant { key: field("key").unwrap_or_default(), slug: field("slug"), name: field("name"), tier: field("tier") })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &'static str) -> anyhow::Result<Vec<Row>> {
        Source::of_reader(Box::new(text.as_bytes()))?.batch(10).await
    }

    #[tokio::test]
    async fn columns_stand_in_any_order_and_empty_ones_are_left_out() {
        let rows = read("slug,key,name\nacme,7,\n,8,\"Globex, Inc.\"\n").await.unwrap();
        let tenant = |key: &str, slug: Option<&str>, name: Option<&str>| ImportTenant {
            key: key.to_owned(),
            slug: slug.map(str::to_owned),
            name: name.map(str::to_owned),
            tier: None,
        };
        assert_eq!(rows[0].tenant, tenant("7", Some("acme"), None));
        assert_eq!(rows[1].tenant, tenant("8", None, Some("Globex, Inc.")));
        assert_eq!((rows[0].line, rows[1].line), (2, 3));
    }

    #[tokio::test]
    async fn what_is_no_table_of_tenants_is_told() {
        for (text, expected) in [
            ("id,slug\n", "`id`"),
            ("slug\nacme\n", "no column `key`"),
            ("key,key\n", "twice"),
            ("", "no column `key`"),
            ("key,slug\n1,a,b\n", "cannot read the CSV file"),
        ] {
            let error = read(text).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn numbers_of_a_query_stay_exact() {
        let tenant = of_json(r#"{"key":9223372036854775807,"slug":null}"#).unwrap();
        assert_eq!((tenant.key.as_str(), tenant.slug), ("9223372036854775807", None));
        assert!(of_json(r#"{"id":1}"#).is_err());
    }
}
