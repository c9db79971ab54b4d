//! Who gets a server connection, and which: queues, limits, the reserve, and fairness by virtual server time.

use std::{cell::RefCell, collections::BTreeSet, collections::VecDeque, rc::Rc, sync::Arc};

use guardian_model::{ClusterName, Isolation, Place, TenantId, placement::ApplicationRoles, snapshot::SnapshotTenant};

use super::{
    Job, Worker,
    state::{Client, Passwords, Pool, Server, ServerState, Target, Tenant},
};
use crate::sql::{fairness, metrics::Measured, refusal::Refusal};

/// Tenants without clients and connections that are remembered.
const TENANTS_KEPT: usize = 10_000;

/// What a client that wants a server connection gets.
pub(super) enum Acquired {
    /// This one, ready or being made ready.
    Server(usize),
    /// A place in the queue.
    Queued,
}

/// Whose tables a server connection leads to.
#[derive(Debug, Clone, Copy)]
enum Tables {
    /// One tenant's.
    Own,
    /// All row tenants', under every policy.
    Shared,
    /// The same, as the role that an application used before it was adopted.
    Observed,
}

impl Worker {
    /// The slot of a tenant, made for a client that has proved it may be its.
    pub(super) fn tenant_slot(&mut self, entry: &Arc<SnapshotTenant>) -> Result<usize, Refusal> {
        if let Some(&at) = self.tenant_of.get(&entry.id) {
            return Ok(at);
        }
        let tier = self.view.tier(&entry.tier).ok_or_else(|| Refusal::Server("its tier is not known here".to_owned()))?;
        let (limits, weight, pooling) =
            (tier.limits.with(&entry.limits), entry.limits.weight.unwrap_or(tier.weight), tier.pooling);
        let place = &entry.placement.place;
        let target = self.target(entry)?;
        let pool = self.pool(&place.cluster, Some(entry.id));
        if self.tenants.len() >= TENANTS_KEPT {
            self.forget_idle_tenants();
        }
        let at = self.tenants.insert(Tenant {
            id: entry.id,
            nobody: false,
            entry: Arc::clone(entry),
            limits,
            weight,
            pooling,
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
        self.tenant_of.insert(entry.id, at);
        Ok(at)
    }

    pub(super) fn forget_idle_tenants(&mut self) {
        let tagged: std::collections::HashSet<usize> = self.servers.iter().filter_map(|(_, server)| server.tag).collect();
        let idle =
            self.tenants.iter().filter(|(at, tenant)| tenant.clients == 0 && tenant.held == 0 && !tagged.contains(at));
        let idle: Vec<usize> = idle.map(|(at, _)| at).collect();
        for at in idle {
            let tenant = self.tenants.remove(at);
            self.tenant_of.remove(&tenant.id);
            self.shared.retire(&tenant.counts);
        }
    }

    pub(super) fn target(&mut self, entry: &SnapshotTenant) -> Result<Rc<Target>, Refusal> {
        let placement = &entry.placement;
        let place = &placement.place;
        if placement.isolation == Isolation::Row {
            return self.row_target(place);
        }
        let password = entry.secret.clone();
        let now = password.ok_or_else(|| Refusal::Server("the tenant has no password".to_owned()))?;
        Ok(self.target_of(place, &placement.role, Tables::Own, Passwords { now, next: entry.next_secret.clone() }))
    }

    fn target_of(&mut self, place: &Place, role: &str, tables: Tables, passwords: Passwords) -> Rc<Target> {
        let Place { cluster, database, schema } = place;
        let key = (cluster.clone(), database.clone(), role.to_owned());
        let known = self.targets.get(&key).filter(|target| target.schema == *schema);
        if let Some(target) = known.filter(|target| target.passwords.borrow().now == passwords.now) {
            *target.passwords.borrow_mut() = passwords;
            return Rc::clone(target);
        }
        let target = Rc::new(Target {
            cluster: cluster.clone(),
            database: database.clone(),
            role: role.to_owned(),
            schema: schema.clone(),
            is_row: !matches!(tables, Tables::Own),
            observed: matches!(tables, Tables::Observed),
            passwords: RefCell::new(passwords),
            base: RefCell::new(None),
            pins: RefCell::new(Vec::new()),
            spelled: RefCell::default(),
            last_settings: RefCell::default(),
            welcomes: RefCell::new(Vec::new()),
        });
        self.targets.insert(key, Rc::clone(&target));
        target
    }

    /// Where row tenants live: what clients without a tenant are told they are connected to.
    pub(super) fn shared_target(&mut self) -> Result<(Rc<Target>, usize), Refusal> {
        let installation = Arc::clone(&self.view.installation);
        let place = &installation.shared;
        Ok((self.row_target(place)?, self.pool(&place.cluster, None)))
    }

    /// Shared tables, as the role that serves them at present.
    fn row_target(&mut self, place: &Place) -> Result<Rc<Target>, Refusal> {
        let roles = ApplicationRoles::of(&self.view.installation.application);
        let (role, tables, password) = if self.observing {
            (roles.adopt, Tables::Observed, self.view.adoption.password.clone())
        } else {
            (roles.app, Tables::Shared, self.view.installation.application_password.clone())
        };
        let password = password.ok_or_else(|| Refusal::Server("`guardian apply` has not run yet".to_owned()))?;
        Ok(self.target_of(place, &role, tables, Passwords { now: password, next: None }))
    }

    pub(super) fn pool(&mut self, cluster: &ClusterName, tenant: Option<TenantId>) -> usize {
        let options = &self.shared.options;
        let (_, shard) = self.shared.home(cluster, tenant);
        if let Some(at) = self.pools.iter().position(|pool| pool.cluster == *cluster && pool.shard == shard) {
            return at;
        }
        // The first shards take what does not divide evenly.
        let (all, shards) = (options.server_connections, options.shards);
        let len_max = usize::from(all / shards) + usize::from(shard < all % shards);
        self.pools.push(Pool {
            cluster: cluster.clone(),
            shard,
            servers: Vec::new(),
            idle: 0,
            connecting: 0,
            len_max,
            reserved: usize::from(options.server_connections_reserved),
            waiting: BTreeSet::new(),
            paused: false,
            retry_at: None,
            problem: None,
        });
        self.pools.len() - 1
    }

    /// A server connection for a client's next message, now or later.
    pub(super) fn acquire(&mut self, client: usize, tenant: usize) -> Result<Acquired, Refusal> {
        let Tenant { pool, queue, .. } = &self.tenants[tenant];
        let pool_at = *pool;
        let must_queue = !queue.is_empty() || self.is_paused(tenant);
        if !must_queue
            && self.may_hold(tenant)
            && self.pools[pool_at].waiting.is_empty()
            && let Some(server) = self.pick(tenant)
        {
            self.use_server(server, client, tenant);
            return Ok(Acquired::Server(server));
        }
        let Tenant { queue, limits, .. } = &self.tenants[tenant];
        if u32::try_from(queue.len()).unwrap_or(u32::MAX) >= limits.queue_len_max {
            return Err(Refusal::Limit { name: "queue_len_max", value: limits.queue_len_max, unit: "" });
        }
        self.enqueue(client, tenant);
        self.jobs.push_back(Job::Dispatch(pool_at));
        Ok(Acquired::Queued)
    }

    pub(super) fn is_paused(&self, tenant: usize) -> bool {
        let tenant = &self.tenants[tenant];
        tenant.paused || self.pools[tenant.pool].paused
    }

    /// Whether the tenant's limit and the reserve let it have one more connection.
    fn may_hold(&self, tenant: usize) -> bool {
        let tenant = &self.tenants[tenant];
        let pool = &self.pools[tenant.pool];
        let free = pool.idle as usize + pool.len_max.saturating_sub(pool.servers.len()) + pool.connecting as usize;
        tenant.held < tenant.limits.server_connections_max && (tenant.held == 0 || free > pool.reserved)
    }

    fn enqueue(&mut self, client: usize, tenant_at: usize) {
        let tenant = &self.tenants[tenant_at];
        if tenant.held == 0 && tenant.queue.is_empty() {
            let floor = self.least_virtual(tenant.pool);
            let tenant = &mut self.tenants[tenant_at];
            tenant.virtual_us = fairness::joins(tenant.virtual_us, floor);
        }
        let tenant = &mut self.tenants[tenant_at];
        tenant.queue.push_back(client);
        tenant.counts.waits += 1;
        let key = (tenant.virtual_us, tenant_at);
        let pool = tenant.pool;
        self.pools[pool].waiting.insert(key);
        if let Some(session) = self.clients.get_mut(client).and_then(Client::session) {
            session.queued = Some(self.now);
        }
    }

    /// The least virtual time among the tenants that hold connections or wait for one.
    fn least_virtual(&self, pool: usize) -> Option<u64> {
        let pool = &self.pools[pool];
        let waiting = pool.waiting.first().map(|(virtual_us, _)| *virtual_us);
        let holding = pool.servers.iter().filter_map(|&server| {
            let server = &self.servers[server];
            match server.state {
                ServerState::Attached(_) | ServerState::Preparing { client: Some(_), .. } => server.holder,
                _ => None,
            }
        });
        holding.map(|tenant| self.tenants[tenant].virtual_us).chain(waiting).min()
    }

    /// Takes a client out of its queue.
    pub(super) fn leave_queue(&mut self, client: usize) {
        let Some(session) = self.clients.get_mut(client).and_then(Client::session) else { return };
        if session.queued.take().is_none() {
            return;
        }
        let Some(tenant_at) = session.tenant else { return };
        let tenant = &mut self.tenants[tenant_at];
        tenant.queue.retain(|waiting| *waiting != client);
        if tenant.queue.is_empty() {
            self.pools[tenant.pool].waiting.remove(&(tenant.virtual_us, tenant_at));
        }
    }

    /// Charges a tenant for the time since it was last charged for the connection.
    pub(super) fn charge(&mut self, server: usize) {
        let server = &mut self.servers[server];
        let Some(tenant_at) = server.holder else { return };
        let used = self.now.saturating_duration_since(server.charged_to);
        server.charged_to = self.now;
        let tenant = &mut self.tenants[tenant_at];
        let us = u64::try_from(used.as_micros()).unwrap_or(u64::MAX);
        tenant.counts.server_us += us;
        let before = tenant.virtual_us;
        tenant.virtual_us = fairness::charged(before, us, tenant.weight);
        if !tenant.queue.is_empty() && before != tenant.virtual_us {
            let waiting = &mut self.pools[tenant.pool].waiting;
            waiting.remove(&(before, tenant_at));
            waiting.insert((tenant.virtual_us, tenant_at));
        }
    }

    /// Gives idle connections to waiting clients: first to the tenant that had the least.
    pub(super) fn dispatch(&mut self, pool: usize) {
        let mut after = None;
        loop {
            let waiting = &self.pools[pool].waiting;
            let next = match after {
                None => waiting.first(),
                Some(key) => waiting.range((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded)).next(),
            };
            let Some(&key) = next else { return };
            let tenant = key.1;
            if self.is_paused(tenant) || !self.may_hold(tenant) {
                after = Some(key);
                continue;
            }
            let Some(server) = self.pick(tenant) else {
                // Connections are being opened, or there is none to be had.
                after = Some(key);
                continue;
            };
            let Some(client) = self.tenants[tenant].queue.pop_front() else { return };
            if self.tenants[tenant].queue.is_empty() {
                self.pools[pool].waiting.remove(&key);
            }
            if let Some(session) = self.clients.get_mut(client).and_then(Client::session)
                && let Some(queued) = session.queued.take()
            {
                let waited = u64::try_from((self.now - queued).as_micros()).unwrap_or(u64::MAX);
                self.tenants[tenant].counts.wait_us += waited;
                self.use_server(server, client, tenant);
                self.jobs.push_back(Job::Client(client));
            }
        }
    }

    /// The idle connection that costs least to hand over. Opens one when there is none and room for it.
    fn pick(&mut self, tenant_at: usize) -> Option<usize> {
        let tenant = &self.tenants[tenant_at];
        let pool_at = tenant.pool;
        let target = Rc::clone(&tenant.target);
        let pool = &self.pools[pool_at];
        let mut best: Option<(u8, usize)> = None;
        if pool.idle > 0 {
            for &at in &pool.servers {
                let server = &self.servers[at];
                if !matches!(server.state, ServerState::Idle) || !Rc::ptr_eq(&server.target, &target) {
                    continue;
                }
                let cost = match server.tag {
                    Some(tag) if tag == tenant_at => 0,
                    None => 1,
                    Some(_) => 2,
                };
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, at));
                    if cost == 0 {
                        break;
                    }
                }
            }
        }
        if let Some((_, at)) = best {
            return Some(at);
        }
        self.make_room(pool_at, &target);
        None
    }

    /// Opens a connection for a target, in the place of an idle one of another target if need be.
    fn make_room(&mut self, pool_at: usize, target: &Rc<Target>) {
        let pool = &self.pools[pool_at];
        if pool.retry_at.is_some_and(|at| at > self.now) {
            return;
        }
        let connecting = pool.servers.iter().filter(|&&at| {
            let server: &Server = &self.servers[at];
            Rc::ptr_eq(&server.target, target) && matches!(server.state, ServerState::Connecting(_))
        });
        let wanted: usize = pool
            .waiting
            .iter()
            .map(|(_, tenant)| &self.tenants[*tenant])
            .filter(|tenant| Rc::ptr_eq(&tenant.target, target))
            .map(|tenant| tenant.queue.len())
            .sum();
        if connecting.count() >= wanted.max(1) {
            return;
        }
        if pool.servers.len() >= pool.len_max {
            let others = pool.servers.iter().copied().filter(|&at| {
                matches!(self.servers[at].state, ServerState::Idle) && !Rc::ptr_eq(&self.servers[at].target, target)
            });
            let Some(oldest) = others.min_by_key(|&at| self.servers[at].idle_since) else { return };
            self.close_server(oldest);
        }
        self.open_server(pool_at, target);
    }

    /// A first connection, so that clients can be told what it reports.
    pub(super) fn open_for_welcome(&mut self, pool_at: usize, target: &Rc<Target>) {
        if let Some(problem) = &self.pools[pool_at].problem
            && self.pools[pool_at].retry_at.is_some_and(|at| at > self.now)
        {
            let problem = problem.clone();
            self.fail_welcomes(target, &problem);
            return;
        }
        let has_one = self.pools[pool_at].servers.iter().any(|&at| Rc::ptr_eq(&self.servers[at].target, target));
        if !has_one {
            self.make_room(pool_at, target);
        }
    }

    /// Sends away the clients that wait to be told they are in.
    pub(super) fn fail_welcomes(&mut self, target: &Target, problem: &Refusal) {
        for client in target.welcomes.take() {
            if self.waits_for_welcome(client) {
                self.end_client(client, problem);
            }
        }
    }

    pub(super) fn waits_for_welcome(&mut self, client: usize) -> bool {
        self.clients.get_mut(client).and_then(Client::session).is_some_and(|session| !session.welcomed)
    }
}
