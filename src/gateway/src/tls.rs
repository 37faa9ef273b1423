//! The certificate authority of a laptop: made at the first start, kept in the data folder, known to the kubeconfig.
//!
//! A CA and a separate leaf: rustls refuses a CA certificate that is presented as the server's own.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Names under which the API is reached. Source: the SANs of a kubeadm API server.
const NAMES: [&str; 6] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the authority.
    #[error("{path} cannot be {act}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read`, `written`.
        act: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// What the files hold is not what they should.
    #[error("{path} does not hold what it should; delete the folder {folder} to have new certificates made")]
    Content {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// Certificate and key do not fit together.
    #[error("the server certificate cannot be used")]
    Use(#[from] rustls::Error),
}

/// The authority and what the API's listener presents.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The CA's certificate as PEM, for kubeconfigs and pods.
    pub ca_pem: String,
    /// For the listener; offers HTTP/2 and 1.1.
    pub server: Arc<ServerConfig>,
}

impl Authority {
    /// Opens the authority in `folder`, making it if it is not there.
    ///
    /// # Errors
    /// When files cannot be read or written, or do not fit together.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let file = |name: &str| folder.join(name);
        if !file("server.key").exists() {
            make(folder)?;
        }
        let ca_pem = read(&file("ca.crt"))?;
        let content = |path: PathBuf| Error::Content { path, folder: folder.to_owned() };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(read(&file("server.crt"))?.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| content(file("server.crt")))?;
        let key = PrivateKeyDer::from_pem_slice(read(&file("server.key"))?.as_bytes())
            .map_err(|_| content(file("server.key")))?;
        let mut server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { ca_pem, server: Arc::new(server) })
    }
}

fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.to_owned(), act: "written", source })?;
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "kubeflow-ca");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    (ca.not_before, ca.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2054, 1, 1));
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    leaf.distinguished_name.push(DnType::CommonName, "kubeflow-apiserver");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2054, 1, 1));
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, &ca_key))?;
    write(&folder.join("ca.key"), &ca_key.serialize_pem(), 0o600)?;
    write(&folder.join("ca.crt"), &ca_certificate.pem(), 0o644)?;
    write(&folder.join("server.crt"), &certificate.pem(), 0o644)?;
    // Last: its presence says that the others are there.
    write(&folder.join("server.key"), &key.serialize_pem(), 0o600)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), act: "read", source })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let written = || -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(&temporary)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().map_err(|source| Error::File { path: path.to_owned(), act: "written", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_found_again() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("kubeflow-tls-{}", std::process::id()));
        let first = Authority::open(&folder).expect("made");
        let second = Authority::open(&folder).expect("found");
        assert_eq!(first.ca_pem, second.ca_pem);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
