//! Refusals on their way into the audit log, so bounded that nobody can fill the disk with them.
//!
//! In each minute an actor's first refusals are entries of their own, written before the answer goes out; the rest are
//! counted, and the counts are one entry. A process that is killed loses at most one minute of counts.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use guardian_model::{TenantId, access::Actor};
use guardian_store::{AuditRecord, Outcome, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How often the counts are written.
const WINDOW: Duration = Duration::from_mins(1);
/// Entries a minute for everybody without a valid token, together.
const ANONYMOUS_ENTRIES_MAX: u32 = 20;
/// Entries a minute for each token.
const TOKEN_ENTRIES_MAX: u32 = 600;

/// Who has no name.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// What has been refused lately.
#[derive(Debug)]
pub(crate) struct Refusals {
    store: Store,
    /// By actor: as many as there are valid tokens, and one.
    window: Mutex<BTreeMap<String, Tally>>,
}

#[derive(Debug, Default)]
struct Tally {
    entries: u32,
    /// By action, of which there are as many as endpoints.
    counted: BTreeMap<String, u64>,
}

impl Refusals {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, window: Mutex::default() }
    }

    /// Records that an actor (`None`: nobody known) was refused an action.
    pub(crate) async fn record(&self, actor: Option<&Actor>, action: &str, tenant: Option<TenantId>, detail: Value) {
        let name = actor.map_or(ANONYMOUS, |actor| actor.name.as_str());
        let entries_max = if actor.is_some() { TOKEN_ENTRIES_MAX } else { ANONYMOUS_ENTRIES_MAX };
        if self.is_an_entry(name, action, entries_max) {
            self.write(name, action, tenant, detail).await;
        }
    }

    fn is_an_entry(&self, actor: &str, action: &str, entries_max: u32) -> bool {
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let tally = window.entry(actor.to_owned()).or_default();
        if tally.entries < entries_max {
            tally.entries += 1;
            return true;
        }
        *tally.counted.entry(action.to_owned()).or_default() += 1;
        false
    }

    /// Ends the window: writes what was only counted.
    pub(crate) async fn flush(&self) {
        let window = std::mem::take(&mut *self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (actor, tally) in window {
            if !tally.counted.is_empty() {
                let detail = json!({ "counted": tally.counted, "seconds": WINDOW.as_secs() });
                self.write(&actor, "requests.refused", None, detail).await;
            }
        }
    }

    /// Flushes every minute and at the end.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(WINDOW)).await.is_some() {
            self.flush().await;
        }
        self.flush().await;
    }

    async fn write(&self, actor: &str, action: &str, tenant: Option<TenantId>, detail: Value) {
        let record =
            AuditRecord { actor: actor.to_owned(), action: action.to_owned(), tenant, outcome: Outcome::Refused, detail };
        // The refusal stands either way; without a database nothing was reached.
        if let Err(error) = self.store.record(&record).await {
            let reason = crate::problem::chain(&error);
            tracing::error!(actor, action, error = reason, "a refusal could not be recorded in the audit log");
        }
    }
}

#[cfg(test)]
mod tests {
    use guardian_model::Role;
    use guardian_store::{AuditFilter, Vault};
    use guardian_testkit::Server;

    use super::*;

    #[tokio::test]
    async fn a_flood_becomes_a_count() {
        let database = Server::shared().database("refusals").await;
        let store = Store::open(database.options(), Vault::generate().unwrap().0).await.unwrap();
        let refusals = Refusals::new(store.clone());
        let actor = Actor { name: "token:tok_x".to_owned(), role: Role::Auditor, tenant: None };
        for _ in 0..50 {
            refusals.record(None, "tenant.list", None, json!({})).await;
            refusals.record(Some(&actor), "token.list", None, json!({})).await;
        }
        refusals.record(None, "tier.list", None, json!({})).await;
        let entries = async |actor: &str| {
            let filter = AuditFilter { actor: Some(actor.to_owned()), ..AuditFilter::default() };
            store.audit_entries(&filter, None, Some(500)).await.unwrap().items
        };
        assert_eq!(entries(ANONYMOUS).await.len(), 20);
        assert_eq!(entries("token:tok_x").await.len(), 50, "a known actor's refusals are all told");

        refusals.flush().await;
        let all = entries(ANONYMOUS).await;
        assert_eq!(all.len(), 21);
        assert_eq!(all[0].action, "requests.refused");
        assert_eq!(all[0].detail["counted"], json!({ "tenant.list": 30, "tier.list": 1 }));
        refusals.flush().await;
        assert_eq!(entries(ANONYMOUS).await.len(), 21, "nothing is counted twice");
        refusals.record(None, "tenant.list", None, json!({})).await;
        assert_eq!(entries(ANONYMOUS).await.len(), 22, "a new minute begins anew");
    }
}
