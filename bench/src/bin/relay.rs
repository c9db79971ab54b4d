//! A relay of bytes that knows nothing of PostgreSQL: the least that a proxy on this machine can cost. One server connection a
//! client connection, one thread, one shared buffer.
//!
//! `relay --mio LISTEN SERVER` runs on a loop of its own over `mio`, `relay --tokio LISTEN SERVER` on tokio's current-thread
//! runtime. Addresses are `127.0.0.1:6432`, or the path of a unix socket. It deliberately lacks a limit, a deadline and a drain.

use std::{
    cell::RefCell,
    env,
    io::{self, ErrorKind, Read, Write},
    net,
    os::unix::net as unix,
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::{Result, bail};
use guardian_bench::Address;
use mio::{Events, Interest, Registry, Token, event::Source};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS: usize = 256;
const LISTENER: Token = Token(usize::MAX);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mode, listen, server] = arguments.as_slice() else { bail!("usage: relay --mio|--tokio LISTEN SERVER") };
    let (listen, server) = (listen.parse()?, server.parse()?);
    match mode.as_str() {
        "--mio" => own_loop(&listen, &server),
        "--tokio" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(on_tokio(&listen, server))
        }
        _ => bail!("`{mode}` is neither --mio nor --tokio"),
    }
}

/// A connected socket in non-blocking mode.
enum Connected {
    Tcp(net::TcpStream),
    Unix(unix::UnixStream),
}

fn connect(address: &Address) -> io::Result<Connected> {
    Ok(match address {
        Address::Tcp(address) => {
            let stream = net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Connected::Tcp(stream)
        }
        Address::Unix(path) => {
            let stream = unix::UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            Connected::Unix(stream)
        }
    })
}

enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl From<Connected> for Socket {
    fn from(connected: Connected) -> Self {
        match connected {
            Connected::Tcp(stream) => Self::Tcp(mio::net::TcpStream::from_std(stream)),
            Connected::Unix(stream) => Self::Unix(mio::net::UnixStream::from_std(stream)),
        }
    }
}

impl Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

enum Listener {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Listener {
    fn bind(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Tcp(address) => Self::Tcp(mio::net::TcpListener::bind(*address)?),
            Address::Unix(path) => Self::Unix(mio::net::UnixListener::bind(path)?),
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Self::Unix(listener) => Socket::Unix(listener.accept()?.0),
        })
    }
}

/// A client (end 0) and its server (end 1).
struct Pair {
    ends: [Socket; 2],
    /// What the kernel did not take yet, by the end it goes to. While there is some, nothing is read for that end.
    pending: [Vec<u8>; 2],
}

/// What is left of a pair.
#[derive(PartialEq)]
enum After {
    Open,
    Closed,
}

fn own_loop(listen: &Address, server: &Address) -> Result<()> {
    let mut poll = mio::Poll::new()?;
    let mut events = Events::with_capacity(EVENTS);
    let mut listener = Listener::bind(listen)?;
    poll.registry().register(listener.source(), LISTENER, Interest::READABLE)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, server, poll.registry(), &mut pairs)?;
                continue;
            }
            let (slot, end) = (event.token().0 / 2, event.token().0 % 2);
            let Some(pair) = &mut pairs[slot] else { continue };
            let mut after = Ok(After::Open);
            if event.is_writable() {
                after = pair.flush(slot, end, poll.registry(), &mut buffer);
            }
            if matches!(after, Ok(After::Open)) && (event.is_readable() || event.is_read_closed()) {
                after = pair.pump(slot, end, poll.registry(), &mut buffer);
            }
            if !matches!(after, Ok(After::Open)) {
                pairs[slot] = None;
            }
        }
    }
}

fn accept_all(listener: &Listener, server: &Address, registry: &Registry, pairs: &mut Vec<Option<Pair>>) -> Result<()> {
    loop {
        let client = match listener.accept() {
            Ok(client) => client,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Ok(server) = connect(server) else { continue };
        let mut pair = Pair { ends: [client, server.into()], pending: [Vec::new(), Vec::new()] };
        let slot = pairs.iter().position(Option::is_none).unwrap_or(pairs.len());
        for end in 0..2 {
            registry.register(pair.ends[end].source(), Token(2 * slot + end), Interest::READABLE)?;
        }
        if slot == pairs.len() {
            pairs.push(Some(pair));
        } else {
            pairs[slot] = Some(pair);
        }
    }
}

impl Pair {
    /// Reads all that one end has and writes it to the other.
    fn pump(&mut self, slot: usize, from: usize, registry: &Registry, buffer: &mut [u8]) -> io::Result<After> {
        let to = 1 - from;
        while self.pending[to].is_empty() {
            let read = match self.ends[from].read(buffer) {
                Ok(0) => return Ok(After::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(After::Open),
                Err(error) => return Err(error),
            };
            let written = written(self.ends[to].write(&buffer[..read]))?;
            if written < read {
                self.pending[to].extend_from_slice(&buffer[written..read]);
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.reregister(self.ends[to].source(), Token(2 * slot + to), both)?;
            }
            // A short read has emptied the socket: what comes next is a new edge.
            if read < buffer.len() {
                return Ok(After::Open);
            }
        }
        Ok(After::Open)
    }

    /// Writes what waits for one end; then reads on from the other.
    fn flush(&mut self, slot: usize, to: usize, registry: &Registry, buffer: &mut [u8]) -> io::Result<After> {
        if self.pending[to].is_empty() {
            return Ok(After::Open);
        }
        let written = written(self.ends[to].write(&self.pending[to]))?;
        self.pending[to].drain(..written);
        if !self.pending[to].is_empty() {
            return Ok(After::Open);
        }
        self.pending[to] = Vec::new();
        registry.reregister(self.ends[to].source(), Token(2 * slot + to), Interest::READABLE)?;
        self.pump(slot, 1 - to, registry, buffer)
    }
}

fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

async fn on_tokio(listen: &Address, server: Address) -> Result<()> {
    match listen {
        Address::Tcp(address) => {
            let listener = tokio::net::TcpListener::bind(address).await?;
            loop {
                let (client, _) = listener.accept().await?;
                client.set_nodelay(true)?;
                spawn_relay(client, &server)?;
            }
        }
        Address::Unix(path) => {
            let listener = tokio::net::UnixListener::bind(path)?;
            loop {
                spawn_relay(listener.accept().await?.0, &server)?;
            }
        }
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

fn spawn_relay(client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, server: &Address) -> Result<()> {
    match connect(server) {
        Ok(Connected::Tcp(stream)) => drop(tokio::spawn(relay(client, tokio::net::TcpStream::from_std(stream)?))),
        Ok(Connected::Unix(stream)) => drop(tokio::spawn(relay(client, tokio::net::UnixStream::from_std(stream)?))),
        Err(_) => {}
    }
    Ok(())
}

/// One task a pair, which reads and writes within one poll. `poll_read` takes a short read for an emptied socket, as the own
/// loop does; `try_read` would ask the kernel once more.
async fn relay(mut client: impl AsyncRead + AsyncWrite + Unpin, mut server: impl AsyncRead + AsyncWrite + Unpin) {
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let _ = std::future::poll_fn(|context| {
        BUFFER.with_borrow_mut(|buffer| {
            let up = pump(context, &mut client, &mut server, &mut to_server, buffer);
            let down = pump(context, &mut server, &mut client, &mut to_client, buffer);
            if up.is_ready() { up } else { down }
        })
    })
    .await;
}

/// Ready when one end has closed.
fn pump(
    context: &mut Context<'_>,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    pending: &mut Vec<u8>,
    buffer: &mut [u8],
) -> Poll<io::Result<()>> {
    loop {
        while !pending.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(context, pending))?;
            pending.drain(..written);
        }
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *from).poll_read(context, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        let written = match Pin::new(&mut *to).poll_write(context, read.filled())? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        pending.extend_from_slice(&read.filled()[written..]);
    }
}
