//! Where a server or a proxy listens.

use std::{convert::Infallible, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// A TCP address, or the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `127.0.0.1:6432`
    Tcp(SocketAddr),
    /// `/tmp/sockets/.s.PGSQL.6432`
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Infallible;

    /// What is not a TCP address is a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Unix(text.into()), Self::Tcp))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}
