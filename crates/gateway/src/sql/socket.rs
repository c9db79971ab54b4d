//! One connection, to a client or to a server: TCP or a unix socket, in clear or under TLS, never blocking.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpStream, UnixStream},
};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, pki_types::ServerName};

/// What the operating system carries the bytes over.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// So many bytes; with `drained`, a further read would find nothing for now.
    Bytes { len: usize, drained: bool },
    /// Nothing for now.
    Nothing,
    /// The other side is done.
    End,
}

/// A connection.
pub(crate) struct Socket {
    stream: Stream,
    tls: Option<Box<Tls>>,
    /// The other side's end was announced, once. It may lie behind the last bytes, so a short read is not the last one.
    ends: bool,
}

struct Tls {
    connection: rustls::Connection,
}

fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self {
                Self::Tcp(stream) => stream.write(bytes),
                Self::Unix(stream) => stream.write(bytes),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(parts),
            Self::Unix(stream) => stream.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    pub(crate) fn new(stream: Stream) -> Self {
        if let Stream::Tcp(stream) = &stream {
            // Small answers must not wait for the acknowledgement of the ones before.
            let _ = stream.set_nodelay(true);
        }
        Self { stream, tls: None, ends: false }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.stream.source(), token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) {
        let _ = registry.deregister(self.stream.source());
    }

    /// Where the other side is; `None` for a unix socket.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    pub(crate) const fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    /// The error of a connection attempt that came to nothing.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        match &self.stream {
            Stream::Tcp(stream) => {
                if let Some(error) = stream.take_error()? {
                    return Err(error);
                }
                match stream.peer_addr() {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                }
            }
            Stream::Unix(stream) => stream.take_error()?.map_or(Ok(true), Err),
        }
    }

    /// The first byte, left where it is.
    pub(crate) fn peek(&self) -> io::Result<Option<u8>> {
        let Stream::Tcp(stream) = &self.stream else { return Ok(None) };
        let mut byte = [0];
        Ok(unless_blocked(stream.peek(&mut byte))?.filter(|len| *len == 1).map(|_| byte[0]))
    }

    /// Turns to TLS as the server.
    pub(crate) fn accept_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        self.tls = Some(Box::new(Tls { connection: connection.into() }));
        Ok(())
    }

    /// Turns to TLS as the client.
    pub(crate) fn begin_tls(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<()> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        self.tls = Some(Box::new(Tls { connection: connection.into() }));
        Ok(())
    }

    pub(crate) fn tls(&self) -> Option<&rustls::Connection> {
        self.tls.as_ref().map(|tls| &tls.connection)
    }

    /// An event said that the other side is done: from here on reads go on to the end.
    pub(crate) fn announce_end(&mut self) {
        self.ends = true;
    }

    /// The name that a client asked for by SNI.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match self.tls()? {
            rustls::Connection::Server(connection) => connection.server_name(),
            rustls::Connection::Client(_) => None,
        }
    }

    /// Goes on with the handshake; true once it is done.
    pub(crate) fn handshake(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        loop {
            while tls.connection.wants_write() {
                if unless_blocked(tls.connection.write_tls(&mut self.stream))?.is_none() {
                    return Ok(false);
                }
            }
            if !tls.connection.is_handshaking() {
                return Ok(true);
            }
            match unless_blocked(tls.connection.read_tls(&mut self.stream))? {
                None => return Ok(false),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // A short one may only mean that rustls had little room.
                Some(_) => {}
            }
            if let Err(error) = tls.connection.process_new_packets() {
                // Says why to the other side, at best.
                let _ = tls.connection.write_tls(&mut self.stream);
                return Err(io::Error::other(error));
            }
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let Some(tls) = &mut self.tls else {
            return Ok(match unless_blocked(self.stream.read(buffer))? {
                None => Got::Nothing,
                Some(0) => Got::End,
                // A short read has emptied the socket; whatever comes later makes an event of its own.
                Some(len) => Got::Bytes { len, drained: len < buffer.len() && !self.ends },
            });
        };
        loop {
            match tls.connection.reader().read(buffer) {
                Ok(0) => return Ok(Got::End),
                Ok(len) => return Ok(Got::Bytes { len, drained: false }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Got::End),
                Err(error) => return Err(error),
            }
            match unless_blocked(tls.connection.read_tls(&mut self.stream))? {
                None => return Ok(Got::Nothing),
                Some(0) => return Ok(Got::End),
                // A short one may only mean that rustls had little room.
                Some(_) => {}
            }
            tls.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Takes as many bytes as fit; fewer than given when the other side is slow.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let mut written = 0;
            while written < bytes.len() {
                match unless_blocked(self.stream.write(&bytes[written..]))? {
                    Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Some(len) => written += len,
                    None => break,
                }
            }
            return Ok(written);
        };
        let mut written = 0;
        while written < bytes.len() {
            let taken = tls.connection.writer().write(&bytes[written..])?;
            written += taken;
            while tls.connection.wants_write() {
                if unless_blocked(tls.connection.write_tls(&mut self.stream))?.is_none() {
                    return Ok(written);
                }
            }
        }
        Ok(written)
    }

    /// Sends what TLS holds back; true when nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.connection.wants_write() {
            if unless_blocked(tls.connection.write_tls(&mut self.stream))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says goodbye under TLS; what cannot be sent at once is not.
    pub(crate) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
            let _ = tls.connection.write_tls(&mut self.stream);
        }
    }
}
