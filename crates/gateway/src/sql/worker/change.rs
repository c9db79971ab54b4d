//! A new view of the directory: limits take effect, tenants that no longer serve lose their connections at once.

use std::sync::Arc;

use super::{
    Job, Worker,
    state::{Client, Passwords, ServerState, Stage},
};
use crate::sql::{login::serving, refusal::Refusal};

impl Worker {
    pub(super) fn take_over_changes(&mut self) {
        let old = std::mem::replace(&mut self.view, self.shared.directory.view());
        let view = Arc::clone(&self.view);
        if Arc::ptr_eq(&old, &view) {
            return;
        }
        self.take_over_stage(&old);
        let tenants: Vec<usize> = self.tenants.iter().filter(|(_, tenant)| !tenant.nobody).map(|(at, _)| at).collect();
        for at in tenants {
            let tenant = &mut self.tenants[at];
            let Some(entry) = view.tenant(tenant.id) else {
                let gone = Refusal::UnknownTenant(tenant.entry.slug.to_string());
                self.evict(at, &gone);
                continue;
            };
            if !Arc::ptr_eq(entry, &tenant.entry) || !view.has_tiers_of(&old) {
                let is_renewed = entry.secret != tenant.entry.secret;
                // The one that was announced took the place of the other: nobody's session is the worse for it.
                let is_expected = entry.secret.is_some() && entry.secret == tenant.entry.next_secret;
                let moved = entry.placement != tenant.entry.placement
                    || is_renewed && !is_expected
                    || entry.register != tenant.entry.register;
                tenant.entry = Arc::clone(entry);
                tenant.next_is_in_force = false;
                if !moved {
                    self.renew(at, is_renewed);
                }
                let tenant = &mut self.tenants[at];
                if let Some(tier) = view.tier(&entry.tier) {
                    tenant.limits = tier.limits.with(&entry.limits);
                    tenant.weight = entry.limits.weight.unwrap_or(tier.weight);
                    tenant.pooling = tier.pooling;
                }
                match serving(entry) {
                    Ok(_) if !moved => {}
                    Ok(_) => self.evict(at, &Refusal::Changed),
                    Err(refusal) => self.evict(at, &refusal),
                }
            }
        }
        if !view.has_logins_of(&old) {
            self.check_logins();
        }
        if old.installation.application_password != view.installation.application_password {
            // Those that are open go on; the next ones are opened with the new one.
            self.targets.clear();
        }
        let pools = 0..self.pools.len();
        self.jobs.extend(pools.map(Job::Dispatch));
    }

    /// Takes over a tenant's secrets, the present one and the one to come, for what comes next.
    fn renew(&mut self, tenant_at: usize, is_renewed: bool) {
        let tenant = &self.tenants[tenant_at];
        if !tenant.target.is_row {
            if let Some(now) = tenant.entry.secret.clone() {
                *tenant.target.passwords.borrow_mut() = Passwords { now, next: tenant.entry.next_secret.clone() };
            }
        } else if is_renewed {
            // Where policies look the capability up, the old one ends within minutes.
            let mut rested = Vec::new();
            for (at, server) in self.servers.iter_mut().filter(|(_, server)| server.tag == Some(tenant_at)) {
                server.up.traces.suspect = true;
                if let ServerState::Attached(client) = server.state
                    && server.up.is_settled()
                    && self
                        .clients
                        .get_mut(client)
                        .and_then(Client::session)
                        .is_some_and(|session| !session.down.is_within_message())
                {
                    rested.push((at, client));
                }
            }
            // Sessions that keep their connection may rest for longer than that.
            for (at, client) in rested {
                self.enter_again(at, client);
            }
        }
    }

    /// Ends every client of a tenant, and every server connection in its context. What comes next makes a new slot.
    pub(super) fn evict(&mut self, tenant: usize, refusal: &Refusal) {
        let clients: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| matches!(&client.stage, Stage::Session(session) if session.tenant == Some(tenant)))
            .map(|(at, _)| at)
            .collect();
        for at in clients {
            self.end_client(at, refusal);
        }
        let servers: Vec<usize> =
            self.servers.iter().filter(|(_, server)| server.tag == Some(tenant)).map(|(at, _)| at).collect();
        for at in servers {
            self.lose_server(at, "its tenant no longer serves");
        }
        let gone = self.tenants.remove(tenant);
        self.tenant_of.remove(&gone.id);
        self.shared.retire(&gone.counts);
    }

    /// Ends clients whose login is gone or was changed.
    fn check_logins(&mut self) {
        let changed: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| {
                let login = match &client.stage {
                    Stage::Session(session) => &session.login,
                    Stage::Console(console) => &console.login,
                    Stage::Login(..) | Stage::TlsHandshake { .. } | Stage::Gone => return false,
                };
                self.view.login(&login.name).is_none_or(|newest| **newest != **login)
            })
            .map(|(at, _)| at)
            .collect();
        for at in changed {
            self.end_client(at, &Refusal::Changed);
        }
    }
}
