//! A typed client of the control plane's API, for the command line and the tests: one method an endpoint.
//!
//! It lacks, on purpose: TLS (the API listens on the loopback address; put a tunnel or a proxy in front for more), retries (only
//! the caller knows what may be repeated; a create takes an idempotency key) and any state but the token.

mod access;
mod error;
mod methods;
mod transport;

use guardian_model::api::Page;

pub use error::ClientError;
pub use transport::Client;

/// Reads a list to its end: `fetch` is given the cursor of the next page.
///
/// ```no_run
/// # async fn example(client: guardian_client::Client) -> Result<(), guardian_client::ClientError> {
/// use guardian_model::query::TenantQuery;
/// let tenants = guardian_client::every(async |cursor| client.tenants(&TenantQuery { cursor, ..TenantQuery::default() }).await).await?;
/// # Ok(())
/// # }
/// ```
pub async fn every<T>(
    mut fetch: impl AsyncFnMut(Option<String>) -> Result<Page<T>, ClientError>,
) -> Result<Vec<T>, ClientError> {
    let mut items = Vec::new();
    let mut cursor = None;
    loop {
        let page = fetch(cursor).await?;
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}
