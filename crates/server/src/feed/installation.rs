//! What `guardian.toml` says and a gateway needs: the servers, how to protect the way to them, and the issuers of identities.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use guardian_model::{
    ClusterName, Config,
    config::{Issuer, IssuerDeclaration, Keys, LOCAL},
    http::SnapshotHttp,
    snapshot::{Secret, ServerTls, SnapshotCluster, SnapshotInstallation},
};
use guardian_postgres::connect::{Address, Clusters};
use url::Url;

/// What `guardian.toml` says of gateways cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// A file that it names is not there.
    #[error("`{key}` in guardian.toml: cannot read `{path}`", path = .path.display())]
    Unreadable {
        /// The key that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key set that is none.
    #[error("`{key}` in guardian.toml: `{path}` holds no JSON Web Key Set", path = .path.display())]
    KeySet {
        /// The key that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A cluster without an administrator's way into it.
    #[error("there is no cluster `{0}`; declare [clusters.{0}] in guardian.toml")]
    Cluster(ClusterName),
    /// A word that PostgreSQL's clients do not know.
    #[error("`clusters.{cluster}.url` in guardian.toml: there is no sslmode `{word}`; use `verify-full`")]
    SslMode {
        /// The cluster.
        cluster: ClusterName,
        /// The word.
        word: String,
    },
}

/// Reads the files that the configuration names.
pub(super) fn read(
    config: &Config,
    folder: &Path,
    clusters: &Clusters,
    password: Option<Secret>,
) -> Result<SnapshotInstallation, InstallationError> {
    let servers = config.clusters.iter().map(|(name, cluster)| {
        let Address { host, port } = clusters.address(name).ok_or_else(|| InstallationError::Cluster(name.clone()))?;
        let tls = tls(name, &cluster.url, &host)?;
        Ok(SnapshotCluster { name: name.clone(), host, port, tls })
    });
    let issuers = config.issuers.iter().map(|(name, declared)| issuer(name, declared, folder));
    Ok(SnapshotInstallation {
        http: config.http.enabled.then(|| http(config, folder)).transpose()?,
        identity_keys: None,
        application: config.application.name.clone(),
        shared: config.shared_place(),
        application_password: password,
        clusters: servers.collect::<Result<_, _>>()?,
        issuers: issuers.collect::<Result<_, _>>()?,
    })
}

/// What the API gateway runs on, with the files that its upstreams name.
fn http(config: &Config, folder: &Path) -> Result<SnapshotHttp, InstallationError> {
    let mut http = config.http.declared();
    for (name, upstream) in &mut http.upstreams {
        if let Some(file) = &upstream.authorities_file {
            upstream.authorities = Some(text(&format!("http.upstreams.{name}.authorities_file"), &folder.join(file))?);
        }
    }
    Ok(http)
}

/// How to speak to a server, by the administrator's URL. The weaker modes of PostgreSQL's clients stop no one who can
/// redirect a connection, so all that ask for TLS get the certificate checked.
fn tls(cluster: &ClusterName, url: &str, host: &str) -> Result<ServerTls, InstallationError> {
    let (mut mode, mut authorities) = (None, None);
    if url != LOCAL
        && let Ok(url) = Url::parse(url)
    {
        for (key, value) in url.query_pairs() {
            match &*key {
                "sslmode" | "ssl-mode" => mode = Some(value.into_owned()),
                "sslrootcert" | "ssl-root-cert" | "ssl-ca" => authorities = Some(value.into_owned()),
                _ => {}
            }
        }
    }
    match mode.as_deref() {
        None if is_on_this_machine(host) => return Ok(ServerTls::Disable),
        Some("disable") => return Ok(ServerTls::Disable),
        None | Some("allow" | "prefer" | "require" | "verify-ca" | "verify-full") => {}
        Some(word) => return Err(InstallationError::SslMode { cluster: cluster.clone(), word: word.to_owned() }),
    }
    // As libpq has it: this word means the system's own.
    let authorities = authorities.filter(|file| file != "system");
    let authorities = authorities.map(|file| text(&format!("clusters.{cluster}.url"), Path::new(&file))).transpose()?;
    Ok(ServerTls::VerifyFull { authorities })
}

fn is_on_this_machine(host: &str) -> bool {
    host.starts_with('/') || host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn issuer(name: &str, declared: &IssuerDeclaration, folder: &Path) -> Result<Issuer, InstallationError> {
    let keys = match (&declared.jwks_file, &declared.jwks_url) {
        (Some(file), _) => {
            let (key, path) = (format!("issuers.{name}.jwks_file"), folder.join(file));
            let set = text(&key, &path)?;
            if let Err(source) = serde_json::from_str::<KeySet>(&set) {
                return Err(InstallationError::KeySet { key, path, source });
            }
            Keys::Set(set)
        }
        // `Config::parse` has refused a declaration with neither, unless it says `oidc`.
        (None, None) => Keys::Discovery,
        (None, Some(url)) => Keys::Url(url.clone()),
    };
    Ok(Issuer {
        name: name.to_owned(),
        issuer: declared.issuer.clone(),
        audience: declared.audience.clone(),
        tenant_claim: declared.tenant_claim.clone(),
        subject_claim: declared.subject_claim.clone(),
        roles_claim: declared.roles_claim.clone(),
        tenants: declared.tenants.clone(),
        algorithms: declared.algorithms.clone(),
        keys,
    })
}

/// As much of a key set as shows that it is one; which keys can be used is the gateway's to say.
#[derive(serde::Deserialize)]
struct KeySet {
    #[serde(rename = "keys")]
    _keys: Vec<serde_json::Map<String, serde_json::Value>>,
}

fn text(key: &str, path: &Path) -> Result<String, InstallationError> {
    fs::read_to_string(path).map_err(|source| InstallationError::Unreadable {
        key: key.to_owned(),
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str, host: &str) -> Result<ServerTls, InstallationError> {
        tls(&"main".parse().unwrap(), url, host)
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_clear_unasked() {
        for host in ["127.0.0.1", "::1", "localhost", "/run/postgresql"] {
            assert_eq!(mode("postgres://admin@x/", host).unwrap(), ServerTls::Disable, "{host}");
        }
        assert_eq!(mode(LOCAL, "127.0.0.1").unwrap(), ServerTls::Disable);
        let checked = ServerTls::VerifyFull { authorities: None };
        assert_eq!(mode("postgres://admin@db.example.com/", "db.example.com").unwrap(), checked);
        for word in ["allow", "prefer", "require", "verify-ca", "verify-full"] {
            let url = format!("postgres://admin@x/?sslmode={word}&sslrootcert=system");
            assert_eq!(mode(&url, "127.0.0.1").unwrap(), checked, "{word}");
        }
        assert_eq!(mode("postgres://a@x/?sslmode=disable", "db.example.com").unwrap(), ServerTls::Disable);
        let refused = mode("postgres://a@x/?sslmode=full", "db.example.com").unwrap_err();
        assert!(refused.to_string().contains("`clusters.main.url`"), "{refused}");
    }

    #[test]
    fn the_authorities_are_read_from_their_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "-----BEGIN CERTIFICATE-----").unwrap();
        let url = format!("postgres://a@x/?sslmode=verify-full&sslrootcert={}", file.path().display());
        let authorities = Some("-----BEGIN CERTIFICATE-----".to_owned());
        assert_eq!(mode(&url, "x").unwrap(), ServerTls::VerifyFull { authorities });
        drop(file);
        assert!(matches!(mode(&url, "x"), Err(InstallationError::Unreadable { .. })));
    }

    #[test]
    fn a_key_set_is_looked_at_before_anything_runs() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "[application]\nname = \"x\"\n[issuers.edge]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"keys.json\"\n";
        let config = Config::parse("guardian.toml", text).unwrap();
        let read = || issuer("edge", &config.issuers["edge"], folder.path());
        assert!(matches!(read(), Err(InstallationError::Unreadable { .. })));
        fs::write(folder.path().join("keys.json"), "{}").unwrap();
        assert!(matches!(read(), Err(InstallationError::KeySet { .. })));
        fs::write(folder.path().join("keys.json"), r#"{"keys":[]}"#).unwrap();
        assert_eq!(read().unwrap().keys, Keys::Set(r#"{"keys":[]}"#.to_owned()));
    }
}
