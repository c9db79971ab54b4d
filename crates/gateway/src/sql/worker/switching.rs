//! Binding a client to a tenant, and the statements by which an open connection changes it.

use std::{rc::Rc, sync::Arc};

use guardian_model::{LoginScope, Switch, snapshot::SnapshotTenant};
use guardian_pgwire::{
    backend,
    switch::{self, Own},
};

use super::{
    Worker,
    state::{Client, Stage, Tenant},
};
use crate::sql::{login::serving, refusal::Refusal, shared::now_s};

impl Worker {
    /// Binds a client without a tenant, within the tenant's limit of clients.
    pub(super) fn bind(&mut self, at: usize, entry: &Arc<SnapshotTenant>) -> Result<(), Refusal> {
        // Its state may have changed on the way here.
        let newest = self.view.tenant(entry.id).cloned();
        let entry = serving(newest.as_ref().unwrap_or(entry))?;
        let tenant = self.tenant_slot(&entry)?;
        let Tenant { clients, limits, .. } = &mut self.tenants[tenant];
        if *clients >= limits.client_connections_max {
            return Err(Refusal::Limit { name: "client_connections_max", value: limits.client_connections_max, unit: "" });
        }
        *clients += 1;
        if let Some(session) = self.clients.get_mut(at).and_then(Client::session) {
            session.tenant = Some(tenant);
        }
        Ok(())
    }

    /// Answers a statement of the gateway's own. `group`: the answers to the messages before, for the extended protocol; `closed`: how
    /// many names were given up behind it; `ready`: whether its end is there as well.
    pub(super) fn own_statement(&mut self, at: usize, text: &[u8], group: Option<Vec<u8>>, closed: usize, ready: bool) {
        let is_simple = group.is_none();
        let mut out = group.unwrap_or_default();
        let outcome = self.run_own(at, text, is_simple, &mut out);
        let write_end = |out: &mut Vec<u8>, closed: usize| {
            (0..closed).for_each(|_| backend::write_close_complete(out));
            if ready {
                backend::write_ready(out, b'I');
            }
        };
        match outcome {
            Ok(Outcome::Stays) => {
                write_end(&mut out, closed);
                self.send_client(at, &out);
            }
            Ok(Outcome::Moves(entry, bound_until_s)) => {
                write_end(&mut out, closed);
                self.send_client(at, &out);
                self.rebind(at, &entry, bound_until_s);
            }
            Err(refusal) => {
                if let Some(tenant) = self.clients.get_mut(at).and_then(Client::session).and_then(|session| session.tenant) {
                    self.tenants[tenant].counts.refusals += 1;
                }
                self.shared.refused(&refusal);
                refusal.write_error(&mut out);
                write_end(&mut out, 0);
                if !ready && let Some(session) = self.clients.get_mut(at).and_then(Client::session) {
                    session.down.skip_group();
                }
                self.send_client(at, &out);
            }
        }
    }

    fn run_own(&mut self, at: usize, text: &[u8], is_simple: bool, out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return Ok(Outcome::Stays) };
        let (login, tenant) = (Arc::clone(&session.login), session.tenant);
        let may = match login.scope {
            LoginScope::AnyTenant { switch } => switch,
            LoginScope::Tenant { .. } | LoginScope::Admin => Switch::Never,
        };
        let may_not = |by| Refusal::MayNotSwitch { login: login.name.clone(), by };
        match switch::own(text).ok_or(Refusal::SwitchMalformed)? {
            Own::ShowTenant => {
                let tenant = tenant.map(|tenant| &self.tenants[tenant]).filter(|tenant| !tenant.nobody);
                let slug = tenant.map_or_else(String::new, |tenant| tenant.entry.slug.to_string());
                if is_simple {
                    backend::write_row_description(out, &["guardian.tenant"]);
                }
                backend::write_row(out, &[Some(&slug)]);
                backend::write_complete(out, "SHOW");
                Ok(Outcome::Stays)
            }
            Own::ResetTenant => {
                if may == Switch::Never {
                    return Err(may_not("RESET guardian.tenant"));
                }
                self.unbind(at);
                backend::write_complete(out, "RESET");
                Ok(Outcome::Stays)
            }
            Own::SetTenant(name) => {
                if may != Switch::Tenant {
                    return Err(may_not("SET guardian.tenant"));
                }
                // Whatever goes wrong from here on, nothing may go on in the tenant that the client meant to leave.
                self.unbind(at);
                let unknown = || Refusal::UnknownTenant(name.chars().take(80).collect());
                let entry = serving(self.view.tenant_named(&name).ok_or_else(unknown)?)?;
                backend::write_complete(out, "SET");
                Ok(Outcome::Moves(entry, None))
            }
            Own::SetIdentity(token) => {
                if may == Switch::Never {
                    return Err(may_not("SET guardian.identity"));
                }
                self.unbind(at);
                let identity = self.shared.identities.verify(&token, now_s());
                let identity = identity.map_err(|error| Refusal::Identity(error.to_string()))?;
                let found = self.view.tenant_named(&identity.tenant);
                let found = found.ok_or_else(|| Refusal::Identity("its tenant is not known here".to_owned()))?;
                let entry = serving(found)?;
                backend::write_complete(out, "SET");
                Ok(Outcome::Moves(entry, Some(identity.expires_at_s)))
            }
        }
    }

    /// Leaves the client without a tenant.
    fn unbind(&mut self, at: usize) {
        self.leave_server(at);
        let Some(session) = self.clients.get_mut(at).and_then(Client::session) else { return };
        session.bound_until_s = None;
        if let Some(tenant) = session.tenant.take() {
            self.tenants[tenant].clients -= 1;
        }
    }

    /// Binds a client that was just unbound, here or at the worker that serves the tenant.
    fn rebind(&mut self, at: usize, entry: &Arc<SnapshotTenant>, bound_until_s: Option<u64>) {
        let cluster = &entry.placement.place.cluster;
        let (worker, _) = self.shared.home(cluster, Some(entry.id));
        if worker == self.number {
            match self.bind(at, entry) {
                Ok(()) => {
                    if let Some(session) = self.clients.get_mut(at).and_then(Client::session) {
                        session.bound_until_s = bound_until_s;
                    }
                }
                // It was told that the change was made, so it must not go on.
                Err(refusal) => self.end_client(at, &refusal),
            }
            return;
        }
        let Some(client) = self.clients.get_mut(at) else { return };
        let stage = std::mem::replace(&mut client.stage, Stage::Gone);
        let Stage::Session(session) = stage else { return };
        let wished = Rc::try_unwrap(session.wished).unwrap_or_else(|shared| Vec::clone(&shared));
        let (login, told) = (session.login, session.told);
        let arrival = self.depart(at, login, Some(Arc::clone(entry)), bound_until_s, wished, session.down, Some(told));
        if let Some(arrival) = arrival {
            self.send_off(arrival);
        }
    }
}

enum Outcome {
    Stays,
    Moves(Arc<SnapshotTenant>, Option<u64>),
}
