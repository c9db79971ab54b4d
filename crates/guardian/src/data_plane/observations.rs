//! Tells the control plane what the gateway observed of an application that is being adopted.

use std::{sync::Arc, time::Duration};

use guardian_gateway::sql::Gateway;
use guardian_model::observation::{ObservationReceipt, ObservationReport};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Source;

/// How often there may be something to tell.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a failure.
const RETRY: Duration = Duration::from_secs(5);

impl Source {
    /// Tells it as it comes, until told to stop; what cannot be told goes into the next report.
    pub(super) async fn tell_observations(self, gateway: Arc<Gateway>, stop: CancellationToken) {
        let mut wait = INTERVAL;
        loop {
            let stopped = tokio::select! {
                () = sleep(wait) => false,
                () = stop.cancelled() => true,
            };
            wait = INTERVAL;
            if let Some(report) = gateway.observations() {
                match self.tell_observed(&report).await {
                    Ok(receipt) => gateway.observations_told(&report, receipt),
                    Err(error) => {
                        gateway.observations_not_told(&report);
                        tracing::warn!(error, "cannot tell the control plane what was observed; it is told later");
                        wait = RETRY;
                    }
                }
            }
            if stopped {
                return;
            }
        }
    }

    async fn tell_observed(&self, report: &ObservationReport) -> Result<ObservationReceipt, String> {
        match self {
            Self::Here(state) => state.observed(report).await,
            Self::There(client) => client.report_observations(report).await.map_err(|error| error.to_string()),
        }
    }
}
