//! TLS towards clients and servers: certificates from files, read again when they change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use guardian_model::snapshot::ServerTls;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// PostgreSQL's name in ALPN; direct TLS (17 and newer) insists on it.
pub(crate) const ALPN: &[u8] = b"postgresql";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has no such thing in it.
    #[error("`{}` holds no {what} in PEM form", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("TLS: {0}")]
    Refused(String),
}

fn refused<E: std::fmt::Display>(error: E) -> TlsError {
    TlsError::Refused(error.to_string())
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of client certificates.
    pub client_authorities: Option<PathBuf>,
}

/// TLS for clients, as of the files' newest state.
#[derive(Debug)]
pub(crate) struct Acceptor {
    files: TlsFiles,
    current: ArcSwap<Accepting>,
}

/// One state of the files.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) config: Arc<ServerConfig>,
    /// The hash of our certificate that channel binding compares (`tls-server-end-point`).
    pub(crate) end_point: Option<Vec<u8>>,
    read_at: Vec<Option<SystemTime>>,
}

impl Acceptor {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let accepting = Accepting::read(&files)?;
        Ok(Self { files, current: ArcSwap::from_pointee(accepting) })
    }

    pub(crate) fn current(&self) -> Arc<Accepting> {
        self.current.load_full()
    }

    /// Takes over changed files; those that cannot be used leave everything as it is.
    pub(crate) fn reload(&self, always: bool) -> Result<bool, TlsError> {
        if !always && self.current.load().read_at == changes(&self.files) {
            return Ok(false);
        }
        self.current.store(Arc::new(Accepting::read(&self.files)?));
        Ok(true)
    }
}

fn changes(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let all = [Some(&files.certificate), Some(&files.key), files.client_authorities.as_ref()];
    all.into_iter().flatten().map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok()).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(TlsError::Empty { path: path.to_owned(), what: "certificate" }),
    }
}

fn roots(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}

impl Accepting {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read_at = changes(files);
        let chain = certificates(&files.certificate)?;
        let text = fs::read(&files.key).map_err(|source| TlsError::File { path: files.key.clone(), source })?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| TlsError::Empty { path: files.key.clone(), what: "private key" })?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(certificates(path)?)?), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(refused)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let end_point = end_point(&chain[0]);
        let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), end_point, read_at })
    }
}

/// TLS towards a server. `None`: in clear.
pub(crate) fn connector(tls: &ServerTls) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let ServerTls::VerifyFull { authorities } = tls else { return Ok(None) };
    let roots = if let Some(text) = authorities {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        roots(found.map_err(refused)?)?
    } else {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        store
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(Arc::new(config)))
}

/// RFC 5929's `tls-server-end-point`: the certificate's hash by the hash function of its own signature, SHA-256 at least.
/// `None` where the signature has no such function; then no channel binding is offered.
pub(crate) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // md5, sha1 and sha256 with RSA; sha1 and sha256 with ECDSA.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The common name of a certificate's subject.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}
