//! Serving an application that is being adopted and observed: as the role that it used before, and also clients without a tenant.
//!
//! Only while the stage says so. When it no longer does, connections of that role are lent to nobody any more, and transactions
//! that are open on them come to their end.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use guardian_model::{
    Isolation, LimitOverrides, Limits, LoginScope, Placement, Pooling, TenantId, TenantState, snapshot::SnapshotTenant,
};

use super::{
    Worker,
    state::{Client, ServerState, Tenant},
};
use crate::{
    View,
    sql::{metrics::Measured, observe, refusal::Refusal},
};

/// What the console and the metrics call clients without a tenant.
const NOBODY: &str = "no-tenant";
/// No tenant has this id: theirs are made of a time.
const NOBODY_ID: &str = "ten_00000000000000000000000000";

impl Worker {
    /// Lets a client without a tenant go on as the application did before. Only while it is observed, and only for a login that
    /// may serve any tenant.
    pub(super) fn bind_to_nobody(&mut self, at: usize) -> Result<usize, Refusal> {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return Err(Refusal::NoTenant) };
        if !self.observing || !matches!(session.login.scope, LoginScope::AnyTenant { .. }) {
            return Err(Refusal::NoTenant);
        }
        let nobody = self.nobody()?;
        self.tenants[nobody].clients += 1;
        if let Some(session) = self.clients.get_mut(at).and_then(Client::session) {
            session.tenant = Some(nobody);
        }
        Ok(nobody)
    }

    /// The slot of clients without a tenant.
    fn nobody(&mut self) -> Result<usize, Refusal> {
        let unheard = || Refusal::NoTenant;
        let id: TenantId = NOBODY_ID.parse().map_err(|_| unheard())?;
        if let Some(&at) = self.tenant_of.get(&id) {
            return Ok(at);
        }
        let (target, pool) = self.shared_target()?;
        if !target.observed {
            return Err(unheard());
        }
        let installation = Arc::clone(&self.view.installation);
        let entry = SnapshotTenant {
            id,
            slug: NOBODY.parse().map_err(|_| unheard())?,
            tier: NOBODY.parse().map_err(|_| unheard())?,
            state: TenantState::Active,
            placement: Placement {
                isolation: Isolation::Row,
                place: installation.shared.clone(),
                role: target.role.clone(),
            },
            limits: LimitOverrides::default(),
            register: String::new(),
            domains: Vec::new(),
            secret: None,
            next_secret: None,
        };
        // All of the application's traffic may be among it: no limit of a single tenant is meant for that.
        let limits = Limits {
            client_connections_max: u32::MAX,
            server_connections_max: u32::MAX,
            queue_len_max: u32::MAX,
            statement_ms_max: u32::MAX,
            transaction_ms_max: u32::MAX,
            idle_in_transaction_ms_max: u32::MAX,
            // None, as it was.
            lock_wait_ms_max: 0,
            ..Limits::DEFAULT
        };
        let at = self.tenants.insert(Tenant {
            id,
            nobody: true,
            entry: Arc::new(entry),
            limits,
            weight: 1,
            pooling: Pooling::Transaction,
            pool,
            target,
            clients: 0,
            held: 0,
            queue: VecDeque::new(),
            virtual_us: 0,
            paused: false,
            next_is_in_force: false,
            counts: Measured::default(),
        });
        self.tenant_of.insert(id, at);
        Ok(at)
    }

    /// Whether a server connection is of a role that its holder is no longer served as.
    pub(super) fn is_outdated(&self, at: usize) -> bool {
        let server = &self.servers[at];
        server.holder.is_some_and(|tenant| !Rc::ptr_eq(&server.target, &self.tenants[tenant].target))
    }

    /// The role that serves row tenants may be another one from here on.
    pub(super) fn take_over_stage(&mut self, old: &View) {
        let observing = observe::is_observing(&self.view);
        let has_changed = self.observing != observing || observing && old.adoption.password != self.view.adoption.password;
        self.observing = observing;
        if !has_changed {
            return;
        }
        tracing::info!(observing, "the role that serves row tenants is another one");
        self.targets.retain(|_, target| !target.is_row);
        let nobody: Vec<usize> = self.tenants.iter().filter(|(_, tenant)| tenant.nobody).map(|(at, _)| at).collect();
        for at in nobody {
            self.evict(at, &Refusal::Changed);
        }
        let of_rows = self.tenants.iter().filter(|(_, tenant)| tenant.target.is_row);
        let of_rows: Vec<usize> = of_rows.map(|(at, _)| at).collect();
        let mut unwelcomed = Vec::new();
        for at in of_rows {
            let entry = Arc::clone(&self.tenants[at].entry);
            match self.target(&entry) {
                Ok(target) => {
                    let before = std::mem::replace(&mut self.tenants[at].target, target);
                    unwelcomed.extend(before.welcomes.take());
                }
                Err(refusal) => self.evict(at, &refusal),
            }
        }
        self.end_outdated(&mut unwelcomed);
        for (_, client) in &mut self.clients {
            if let Some(session) = client.session() {
                session.tap = None;
            }
        }
        for client in unwelcomed {
            if self.waits_for_welcome(client) {
                self.welcome(client);
            }
        }
    }

    /// Takes every connection of the role of before out of use: at once, or when the transaction on it ends.
    fn end_outdated(&mut self, unwelcomed: &mut Vec<usize>) {
        let outdated = self.servers.iter().filter(|(_, server)| server.target.is_row);
        for at in outdated.map(|(at, _)| at).collect::<Vec<_>>() {
            let Some(server) = self.servers.get_mut(at) else { continue };
            unwelcomed.extend(server.target.welcomes.take());
            server.doomed = true;
            match server.state {
                // One that a client has for its session, between two transactions.
                ServerState::Attached(client) if server.up.is_settled() => self.end_client(client, &Refusal::Changed),
                ServerState::Attached(_) | ServerState::Preparing { client: Some(_), .. } => {}
                _ if server.spelling.is_some() => {}
                _ => self.close_server(at),
            }
        }
    }
}
