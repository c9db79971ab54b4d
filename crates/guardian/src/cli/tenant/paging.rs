//! Lists that come in pages.

use guardian_client::ClientError;
use guardian_model::api::Page;

use crate::output::{Output, Table};

/// The most rows that the API puts on a page.
const PAGE_MAX: u32 = 500;

/// Which part of a list.
#[derive(Debug, clap::Args)]
pub(crate) struct Paging {
    /// Rows on the page
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
    limit: Option<u32>,
    /// Go on where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    /// Every page
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    all: bool,
}

impl Paging {
    /// The page, or with `--all` every page in one.
    pub(crate) async fn read<T>(
        self,
        mut fetch: impl AsyncFnMut(Option<String>, Option<u32>) -> Result<Page<T>, ClientError>,
    ) -> Result<Page<T>, ClientError> {
        if !self.all {
            return fetch(self.cursor, self.limit).await;
        }
        let items = guardian_client::every(async |cursor| fetch(cursor, Some(PAGE_MAX)).await).await?;
        Ok(Page { items, next_cursor: None })
    }

    /// The rows, and how to go on.
    pub(crate) fn show<T>(page: &Page<T>, table: Table, what: &str, output: Output) -> anyhow::Result<()> {
        if page.items.is_empty() {
            output.remark(format!("no {what}"));
            return Ok(());
        }
        output.table(table)?;
        if let Some(cursor) = &page.next_cursor {
            output.remark(format!("there are more: --cursor {cursor}, or --all"));
        }
        Ok(())
    }
}
