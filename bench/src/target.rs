//! What is measured: a way to PostgreSQL, direct or by a proxy.

use crate::Address;

/// One way to a database.
#[derive(Debug, Clone)]
pub struct Target {
    /// What it is called in the figures.
    pub name: &'static str,
    /// Where clients connect.
    pub address: Address,
    /// The database that they ask for.
    pub database: String,
    /// Their login.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Whether they use TLS.
    pub tls: bool,
    /// The proxy's process; none when PostgreSQL itself listens.
    pub proxy: Option<i32>,
}

impl Target {
    /// The host and the port as libpq wants them: for a unix socket its folder and the number in its name.
    pub fn host_and_port(&self) -> (String, String) {
        match &self.address {
            Address::Tcp(address) => (address.ip().to_string(), address.port().to_string()),
            Address::Unix(path) => {
                let folder = path.parent().unwrap_or(path).display().to_string();
                let port = path.extension().unwrap_or_default().to_string_lossy().into_owned();
                (folder, port)
            }
        }
    }
}
