//! Starting, telling and stopping the workers.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use guardian_model::{
    config,
    observation::{ObservationReceipt, ObservationReport},
};
use mio::{Poll, Waker};

use super::{
    listener::Listener,
    metrics::{self, Measured},
    observe::{self, Observer},
    shared::{Event, Routes, Settled, Shared, WAKER},
    tls::{Acceptor, TlsError, TlsFiles},
    worker::{Answer, Ask, Mailbox, Message, Question, Worker},
};
use crate::{Directory, identity::Verifier};

/// How long a worker gets to answer what metrics ask.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address} (gateway.listen in guardian.toml)")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The unix socket cannot be made.
    #[error("cannot listen on `{}` (gateway.unix_socket_folder in guardian.toml)", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system refuses what an event loop needs.
    #[error("cannot start a worker")]
    Worker(#[source] io::Error),
}

/// What a gateway is started with.
pub struct Options {
    /// `[gateway]`, checked.
    pub config: config::Gateway,
    /// What relative paths in it are relative to.
    pub folder: PathBuf,
    /// Listening sockets that another process handed over, in place of new ones.
    pub adopted: Vec<OwnedFd>,
    /// Told what the control plane ought to know; called by workers, so it may not block.
    pub events: Box<dyn Fn(Event) + Send + Sync>,
}

/// A running gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    address: Option<SocketAddr>,
    /// The listening sockets again, for a process that takes over.
    sockets: Mutex<Vec<OwnedFd>>,
    socket_path: Option<PathBuf>,
    tenants_named_max: usize,
}

impl Gateway {
    /// Listens and starts the workers.
    pub fn start(options: Options, directory: Arc<Directory>, identities: Arc<Verifier>) -> Result<Self, GatewayError> {
        let Options { config, folder, adopted, events } = options;
        let acceptor = config.tls.as_ref().map(|tls| Acceptor::open(tls_files(tls, &folder))).transpose()?;
        let (listeners, socket_path) = if adopted.is_empty() {
            listen(&config, &folder)?
        } else {
            let adopted: io::Result<Vec<_>> = adopted.into_iter().map(Listener::adopt).collect();
            (adopted.map_err(GatewayError::Worker)?, None)
        };
        let address = listeners.iter().find_map(Listener::address);
        let sockets: io::Result<Vec<_>> = listeners.iter().map(|listener| listener.as_fd().try_clone_to_owned()).collect();
        let sockets = Mutex::new(sockets.map_err(GatewayError::Worker)?);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = if config.workers == 0 { cores } else { usize::from(config.workers) };
        let settled = Settled {
            workers,
            shards: config.shards,
            server_connections: config.server_connections,
            server_connections_reserved: config.server_connections_reserved,
            clients_max: usize::try_from(config.clients_max).unwrap_or(usize::MAX),
            login: Duration::from_secs(config.login_seconds_max.into()),
            drain: Duration::from_secs(config.drain_seconds.into()),
            tls_required: config.tls.as_ref().is_some_and(|tls| tls.required),
            server_name_suffix: config.server_name_suffix.clone(),
        };
        let mut mock_secret = [0; 32];
        aws_lc_rs::rand::fill(&mut mock_secret).map_err(|_| GatewayError::Worker(io::Error::other("no randomness")))?;
        let mut mailboxes = Vec::with_capacity(workers);
        let mut seats = Vec::with_capacity(workers);
        for _ in 0..workers {
            let poll = Poll::new().map_err(GatewayError::Worker)?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(GatewayError::Worker)?);
            let (sender, receiver) = mpsc::channel();
            mailboxes.push(Mailbox { sender, waker });
            seats.push((poll, receiver));
        }
        let shared = Arc::new(Shared {
            options: settled,
            directory,
            identities,
            acceptor,
            mailboxes,
            clients: AtomicUsize::new(0),
            mock_secret,
            routes: Routes::default(),
            refusals: Mutex::new(BTreeMap::new()),
            retired: Mutex::new(Measured::default()),
            events,
            observer: Observer::new(),
        });
        shared.routes.resolve(&shared.directory.view().installation.clusters);
        let mut handles = Vec::with_capacity(workers);
        let mut listeners = Some(listeners);
        for (number, (poll, receiver)) in seats.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let own = listeners.take().unwrap_or_default();
            let work = move || {
                let worked = Worker::new(number, poll, receiver, shared, own).and_then(Worker::run);
                if let Err(error) = &worked {
                    tracing::error!(worker = number, %error, "a worker of the gateway failed");
                }
                worked
            };
            let spawned = std::thread::Builder::new().name(format!("sql-{number}")).spawn(work);
            handles.push(spawned.map_err(GatewayError::Worker)?);
        }
        let observing = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("sql-observer".to_owned())
            .spawn(move || observe::work(&observing))
            .map_err(GatewayError::Worker)?;
        let workers = Mutex::new(handles);
        let tenants_named_max = usize::from(config.metrics_tenants_max);
        Ok(Self { shared, workers, address, sockets, socket_path, tenants_named_max })
    }

    /// Where it listens for TCP.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The directory has a new view.
    pub fn changed(&self) {
        self.tell_all(|| Message::Changed);
    }

    /// Looks again at what is outside: addresses of the clusters' names, files of certificates. Blocks; call it every now
    /// and then.
    pub fn refresh(&self) {
        self.shared.routes.resolve(&self.shared.directory.view().installation.clusters);
        if let Some(acceptor) = &self.shared.acceptor {
            match acceptor.reload(false) {
                Ok(true) => tracing::info!("took over changed TLS files"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot take over the TLS files; the old ones stay in use"),
            }
        }
    }

    /// Hands the listening sockets to the process at the other end.
    pub fn hand_over(&self, successor: &UnixStream) -> io::Result<()> {
        takeover::give(successor, &self.sockets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves accepting to another process, or to nobody.
    pub fn stop_accepting(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tell_all(|| Message::StopAccepting);
    }

    /// Stops accepting, lets transactions end within the configured time, and ends the workers. Blocks.
    pub fn drain(&self) {
        self.stop_accepting();
        self.shared.observer.stop();
        self.tell_all(|| Message::Drain);
        let handles = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a worker of the gateway panicked");
            }
        }
    }

    /// Removes the unix socket's file. Not for a process that handed its sockets over.
    pub fn remove_socket(&self) {
        if let Some(path) = &self.socket_path {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Clients connected now.
    pub fn clients(&self) -> usize {
        self.shared.clients.load(Ordering::Relaxed)
    }

    /// The metrics as Prometheus reads them. Blocks for as long as workers take to answer.
    pub fn metrics(&self) -> String {
        let (sender, receiver) = mpsc::channel();
        self.tell_all(|| Message::Ask(Ask { question: Question::Stats, answer: Answer::Channel(sender.clone()) }));
        drop(sender);
        let mut tenants = BTreeMap::<String, Measured>::new();
        while let Ok(part) = receiver.recv_timeout(ANSWER_MAX) {
            for row in part.rows {
                if let Some((slug, measured)) =
                    row.split_first().and_then(|(slug, rest)| Some((slug, Measured::parse(rest)?)))
                {
                    tenants.entry(slug.clone()).or_default().add(&measured);
                }
            }
        }
        let retired = *self.shared.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let refusals = self.shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        metrics::render(tenants.into_iter().collect(), retired, &refusals, self.clients(), self.tenants_named_max)
    }

    /// What was observed since the last report, if there is anything to tell. It is either told, or given back.
    pub fn observations(&self) -> Option<ObservationReport> {
        self.shared.observer.report(observe::is_observing(&self.shared.directory.view()))
    }

    /// The control plane has the report.
    pub fn observations_told(&self, report: &ObservationReport, receipt: ObservationReceipt) {
        self.shared.observer.reported(report, receipt);
    }

    /// It could not be told: it goes into the next one.
    pub fn observations_not_told(&self, report: &ObservationReport) {
        self.shared.observer.not_reported(report);
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        for mailbox in &self.shared.mailboxes {
            mailbox.tell(message());
        }
    }
}

fn tls_files(tls: &config::Tls, folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(&tls.certificate_file),
        key: folder.join(&tls.key_file),
        client_authorities: tls.client_authorities_file.as_ref().map(|file| folder.join(file)),
    }
}

fn listen(config: &config::Gateway, folder: &Path) -> Result<(Vec<Listener>, Option<PathBuf>), GatewayError> {
    let refused = |source| GatewayError::Listen { address: config.listen.clone(), source };
    let tcp = TcpListener::bind(&config.listen).map_err(refused)?;
    let port = tcp.local_addr().map_err(refused)?.port();
    let mut listeners = vec![Listener::tcp(tcp).map_err(refused)?];
    let path = config.unix_socket_folder.as_ref().map(|sockets| folder.join(sockets).join(format!(".s.PGSQL.{port}")));
    if let Some(path) = &path {
        let refused = |source| GatewayError::Socket { path: path.clone(), source };
        // Of a process that was killed; one that lives holds the TCP port, and this one would not have got it.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        listeners.push(Listener::unix(UnixListener::bind(path).map_err(refused)?).map_err(refused)?);
    }
    Ok((listeners, path))
}

/// Handing listening sockets to another process, so that no connection is refused in between.
pub mod takeover {
    use std::{
        io::{self, IoSlice, IoSliceMut},
        mem::MaybeUninit,
        os::{
            fd::{AsFd, BorrowedFd, OwnedFd},
            unix::net::UnixStream,
        },
    };

    use rustix::net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
        sendmsg,
    };

    /// Sockets at once: TCP and unix.
    const SOCKETS_MAX: usize = 4;

    /// Sends the sockets to the process at the other end.
    pub(super) fn give(stream: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().take(SOCKETS_MAX).map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        sendmsg(stream, &[IoSlice::new(&[1])], &mut ancillary, SendFlags::empty())?;
        Ok(())
    }

    /// Receives the sockets of the process at the other end.
    pub fn take(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let mut sockets = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        Ok(sockets)
    }
}
