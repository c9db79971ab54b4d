//! Observes the traffic of an application that is being adopted: which statements would fare otherwise once everything is
//! enforced.
//!
//! Workers only listen (`tap`), count (`table`) and hand over samples, through a bounded queue that they never wait for. A thread
//! of its own looks at them on connections of its own (`check`). Literals and parameters are in memory only as long as that
//! takes; what is reported is the text without them (`text`). While nothing is observed, none of this runs.

mod check;
mod kind;
mod plan;
mod server;
mod table;
mod tap;
mod text;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use guardian_model::{
    observation::{ObservationReceipt, ObservationReport, ObservationVerdict},
    placement::ApplicationRoles,
    snapshot::SnapshotTenant,
};

pub(crate) use self::tap::{End, Heard, Tap};
use self::{
    check::{Checker, Sample},
    kind::Kind,
    server::Credentials,
    table::{Table, Totals, Verdict},
};
use super::shared::Shared;
use crate::View;

/// What the observer's connections call themselves.
pub(crate) const APPLICATION_NAME: &str = "guardian observer";
/// Why a statement without a tenant would be refused.
pub(crate) const NO_TENANT: &str = "the client named no tenant; the gateway refuses it once everything is enforced";
/// Samples that may wait.
const QUEUE_LEN_MAX: usize = 1024;
/// How often the thread looks up from waiting.
const LOOK_UP: Duration = Duration::from_millis(500);
/// How long after a failure nobody tries to connect again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often the control plane is told that there is nothing to tell: it answers whether to begin anew.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Whether the view has the application observed.
pub(crate) fn is_observing(view: &View) -> bool {
    view.adoption.stage.uses_adopt_role() && view.adoption.password.is_some()
}

/// What workers tell, and the data plane reports.
pub(crate) struct Observer {
    queue: SyncSender<Sample>,
    /// Taken by the thread.
    samples: Mutex<Option<Receiver<Sample>>>,
    state: Mutex<State>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    table: Table,
    /// What the control plane said last.
    generation: Option<u64>,
    reported_at: Option<Instant>,
}

impl Observer {
    pub(crate) fn new() -> Self {
        let (queue, samples) = mpsc::sync_channel(QUEUE_LEN_MAX);
        Self { queue, samples: Mutex::new(Some(samples)), state: Mutex::default(), stopped: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// A statement came to its end. `None`: its client named no tenant. Called by workers: never waits for the observer's thread
    /// to be done with anything.
    pub(crate) fn saw(&self, tenant: Option<&SnapshotTenant>, heard: &Heard, end: End<'_>) {
        let Some(kind) = Kind::of(end) else { return };
        let shown = text::shown(heard.text());
        let fingerprint = fingerprint(&shown.full, tenant.is_some());
        let mut state = self.state();
        let wanted = state.table.saw(fingerprint, tenant.map(|tenant| tenant.id), || match heard {
            Heard::Unknown => "(too long, or prepared before anybody looked)".to_owned(),
            Heard::Simple(_) | Heard::Bound { .. } => shown.text,
        });
        if !wanted {
            return;
        }
        if tenant.is_none() {
            let verdict = Verdict::new(ObservationVerdict::NoTenant, NO_TENANT).with_sqlstate("28000");
            state.table.judged_ahead(fingerprint, verdict);
        }
        let tenant = match tenant.map(|tenant| (tenant.secret.clone(), tenant.register.clone())) {
            Some((Some(secret), register)) => Some((secret, register)),
            Some((None, _)) => return state.table.overlook(fingerprint),
            None => None,
        };
        let sample = Sample { fingerprint, heard: heard.clone(), kind, tenant };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(sample) {
            state.table.overlook(fingerprint);
        }
    }

    /// What there is to report, if anything.
    pub(crate) fn report(&self, is_observing: bool) -> Option<ObservationReport> {
        let mut state = self.state();
        let (observations, fine, totals) = state.table.take();
        let is_due = state.reported_at.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if observations.is_empty() && fine.is_empty() && totals == Totals::default() && !(is_observing && is_due) {
            return None;
        }
        state.reported_at = Some(Instant::now());
        Some(ObservationReport {
            generation: state.generation.unwrap_or(0),
            observations,
            fine,
            statements: totals.statements,
            looked_at: totals.looked_at,
            overlooked: totals.overlooked,
        })
    }

    /// It could not be told.
    pub(crate) fn not_reported(&self, report: &ObservationReport) {
        let totals = Totals { statements: report.statements, looked_at: report.looked_at, overlooked: report.overlooked };
        self.state().table.give_back(&report.observations, &report.fine, totals);
    }

    /// It was told. When the observations were cleared meanwhile, everything is looked at anew; a report that was not taken only
    /// because nobody had said the generation yet goes into the next one.
    pub(crate) fn reported(&self, report: &ObservationReport, receipt: ObservationReceipt) {
        let known = self.state().generation.replace(receipt.generation);
        match known {
            Some(known) if known != receipt.generation => self.state().table = Table::default(),
            _ if !receipt.taken => self.not_reported(report),
            _ => {}
        }
    }
}

fn fingerprint(text: &str, has_tenant: bool) -> u64 {
    let hash = digest(&SHA256, &[text.as_bytes(), &[u8::from(has_tenant)]].concat());
    hash.as_ref().first_chunk::<8>().copied().map_or(0, u64::from_be_bytes)
}

/// Looks at samples until stopped. Blocks.
pub(crate) fn work(shared: &Arc<Shared>) {
    let observer = &shared.observer;
    let Some(samples) = observer.samples.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let mut looking = Looking { shared, credentials: None, checker: None, retry_at: None };
    while !observer.stopped.load(Ordering::Relaxed) {
        let sample = match samples.recv_timeout(LOOK_UP) {
            Ok(sample) => Some(sample),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let view = shared.directory.view();
        if is_observing(&view) {
            looking.look(&view, sample.as_ref());
        } else {
            looking.checker = None;
        }
    }
}

struct Looking<'a> {
    shared: &'a Arc<Shared>,
    credentials: Option<(Credentials, Credentials)>,
    checker: Option<Checker>,
    retry_at: Option<Instant>,
}

impl Looking<'_> {
    fn look(&mut self, view: &View, sample: Option<&Sample>) {
        let observer = &self.shared.observer;
        if let Err(problem) = self.connect(view) {
            if let Some(sample) = sample {
                let why = format!("the observer cannot connect: {problem}");
                observer.state().table.judged(sample.fingerprint, Verdict::new(ObservationVerdict::NotLookedAt, why));
            }
            return;
        }
        let Some(checker) = &mut self.checker else { return };
        if let Some(sample) = sample {
            let verdict = checker.check(sample).unwrap_or_else(|broken| {
                tracing::debug!(%broken, "the observer lost its connection");
                self.checker = None;
                Verdict::new(ObservationVerdict::NotLookedAt, "the observer lost its connection")
            });
            observer.state().table.judged(sample.fingerprint, verdict);
        }
    }

    fn connect(&mut self, view: &View) -> Result<(), String> {
        let credentials = credentials(view).ok_or("`guardian apply` has not run yet")?;
        if self.credentials.as_ref() != Some(&credentials) {
            (self.checker, self.retry_at) = (None, None);
        }
        if self.checker.is_some() {
            return Ok(());
        }
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return Err("it failed a moment ago".to_owned());
        }
        let route = self.shared.routes.get(&view.installation.shared.cluster)?;
        let (enforced, present) = &credentials;
        match Checker::open(&route, enforced, present) {
            Ok(checker) => {
                self.checker = Some(checker);
                self.credentials = Some(credentials);
                Ok(())
            }
            Err(broken) => {
                tracing::warn!(problem = %broken, "the observer cannot connect; statements are served and not looked at");
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                self.credentials = Some(credentials);
                Err(broken.to_string())
            }
        }
    }
}

/// As the application's own role, and as the role that serves it now.
fn credentials(view: &View) -> Option<(Credentials, Credentials)> {
    let installation = &view.installation;
    let roles = ApplicationRoles::of(&installation.application);
    let of = |role, password| Credentials {
        database: installation.shared.database.clone(),
        schema: installation.shared.schema.clone(),
        role,
        password,
    };
    let enforced = of(roles.app, installation.application_password.clone()?);
    Some((enforced, of(roles.adopt, view.adoption.password.clone()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::tenant;

    fn simple(text: &str) -> Heard {
        Heard::Simple(text.as_bytes().into())
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_counted_and_nobody_waits() {
        let observer = Observer::new();
        let tenant = tenant(1, "acme", guardian_model::TenantState::Active);
        let more = 10;
        for number in 0..QUEUE_LEN_MAX + more {
            observer.saw(Some(&tenant), &simple(&format!("SELECT a{number}")), End::Tag(b"SELECT 1"));
        }
        let mut overlooked = 0;
        let mut reported = 0;
        while let Some(report) = observer.report(false) {
            overlooked += report.overlooked;
            reported += report.observations.len();
            assert!(report.observations.iter().all(|found| found.verdict == ObservationVerdict::NotLookedAt));
        }
        assert_eq!((overlooked, reported), (more as u64, more));
    }

    #[test]
    fn a_client_without_a_tenant_is_reported_at_once_and_without_its_literals() {
        let observer = Observer::new();
        observer.saw(None, &simple("SELECT 'secret', 42 FROM t -- secret"), End::Tag(b"SELECT 1"));
        observer.saw(None, &simple("BEGIN"), End::Tag(b"BEGIN"));
        let report = observer.report(false).unwrap();
        let found: Vec<_> = report.observations.iter().map(|found| (found.verdict, found.statement.as_str())).collect();
        assert_eq!(found, [(ObservationVerdict::NoTenant, "SELECT ?, … FROM t")]);
        assert!(!format!("{report:?}").contains("secret"));
    }

    #[test]
    fn a_report_is_told_again_until_it_is_taken_and_forgotten_once_cleared() {
        let observer = Observer::new();
        observer.saw(None, &simple("SELECT 1"), End::Tag(b"SELECT 1"));
        let report = observer.report(true).unwrap();
        observer.not_reported(&report);
        let again = observer.report(true).unwrap();
        assert_eq!((again.generation, again.observations.len()), (0, 1));
        observer.reported(&again, ObservationReceipt { generation: 3, taken: false });
        let again = observer.report(true).unwrap();
        assert_eq!((again.generation, again.observations.len(), again.statements), (3, 1, 1));
        observer.reported(&again, ObservationReceipt { generation: 3, taken: true });
        assert_eq!(observer.report(false), None);
        observer.reported(&again, ObservationReceipt { generation: 4, taken: false });
        assert_eq!(observer.report(false), None);
        // Everything is new again.
        observer.saw(None, &simple("SELECT 1"), End::Tag(b"SELECT 1"));
        assert_eq!(observer.report(true).unwrap().observations[0].count, 1);
    }
}
