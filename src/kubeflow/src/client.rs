//! How commands reach a platform: the unix socket of a data folder, or `--server` with `--token`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::instance;
use crate::output::NotRunning;

/// A server has this long for its TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Where the platform is.
#[derive(Debug, Clone)]
pub enum Target {
    /// Through the socket of a data folder.
    Folder(PathBuf),
    /// Over the network.
    Server {
        /// `http://127.0.0.1:8080`, `https://kubeflow.example`.
        url: String,
        /// A bearer token.
        token: Option<String>,
    },
}

/// Talks to a platform.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
}

impl Client {
    /// A client for a platform that may or may not run.
    pub fn new(target: Target) -> Self {
        Self { target }
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// When nothing answers, or the answer is a refusal; its message says why.
    pub async fn get(&self, path: &str) -> Result<Value> {
        json_of(self.send(Method::GET, path, None).await?).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        json_of(self.send(Method::POST, path, Some(("application/json", body.to_string().into()))).await?).await
    }

    /// Asks for something that comes piece by piece.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn stream(&self, path: &str) -> Result<Incoming> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        json_of(response).await.map(|_| ())?;
        bail!("the platform gave an empty answer")
    }

    async fn send(&self, method: Method, path: &str, body: Option<(&str, Bytes)>) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(USER_AGENT, concat!("kubeflow/", env!("CARGO_PKG_VERSION")));
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let content = Full::new(body.map(|(_, content)| content).unwrap_or_default());
        match &self.target {
            Target::Folder(folder) => {
                let stream = self.socket(folder).await?;
                exchange(stream, request.header(HOST, "localhost").body(content)?).await
            }
            Target::Server { url, token } => {
                if path.starts_with("/control/") {
                    bail!(
                        "this command asks the platform of a data folder on this machine; it does not work with --server"
                    );
                }
                if let Some(token) = token {
                    request = request.header(AUTHORIZATION, format!("Bearer {token}"));
                }
                let server = Server::parse(url)?;
                let request = request.header(HOST, &server.authority).body(content)?;
                let stream = tokio::net::TcpStream::connect((server.host.as_str(), server.port)).await;
                let stream = stream.with_context(|| format!("connect to {url}"))?;
                if server.tls {
                    exchange(encrypted(stream, &server.host).await?, request).await
                } else {
                    exchange(stream, request).await
                }
            }
        }
    }

    async fn socket(&self, folder: &Path) -> Result<tokio::net::UnixStream> {
        let path = instance::control_socket(folder);
        match tokio::net::UnixStream::connect(&path).await {
            Ok(stream) => Ok(stream),
            Err(_) => Err(NotRunning { folder: folder.to_owned() }.into()),
        }
    }
}

/// What `--server` names.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    tls: bool,
    host: String,
    port: u16,
    /// As it stands in `Host`.
    authority: String,
}

impl Server {
    fn parse(url: &str) -> Result<Self> {
        let read =
            || format!("read --server {url}: it must look like http://127.0.0.1:8080 or https://kubeflow.example");
        let uri: http::Uri = url.trim_end_matches('/').parse().with_context(read)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { bail!(read()) };
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => bail!(read()),
        };
        if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') {
            bail!(read());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, authority: authority.to_string() })
    }
}

/// TLS with the roots that this system trusts; `SSL_CERT_FILE` names others, as it does for OpenSSL.
async fn encrypted(stream: tokio::net::TcpStream, host: &str) -> Result<TlsStream<tokio::net::TcpStream>> {
    let loaded = foundation::tasks::blocking("load roots", rustls_native_certs::load_native_certs).await?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        bail!("this system has no trusted certificates; install ca-certificates, or name a file in SSL_CERT_FILE");
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).with_context(|| format!("read --server: {host:?} is no name"))?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let connected = tokio::time::timeout(HANDSHAKE_WITHIN, connector.connect(name, stream)).await;
    connected
        .context("the TLS handshake took too long")?
        .with_context(|| format!("trust {host} (SSL_CERT_FILE names the authority of a private certificate)"))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("talk to the platform")?;
    foundation::tasks::Tasks::root("command").spawn("connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the platform broke");
        }
    });
    sender.send_request(request).await.context("ask the platform")
}

async fn json_of(response: Response<Incoming>) -> Result<Value> {
    let status = response.status();
    let bytes = response.into_body().collect().await.context("read the answer")?.to_bytes();
    let value: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).trim().to_owned()));
    if status.is_success() {
        return Ok(value);
    }
    let message = value["message"].as_str().or_else(|| value["error_message"].as_str()).or_else(|| value.as_str());
    let message =
        message.filter(|message| !message.is_empty()).map(str::to_owned).unwrap_or_else(|| status.to_string());
    if status == StatusCode::UNAUTHORIZED {
        bail!("{message} (with --server pass a token: --token or KUBEFLOW_TOKEN)");
    }
    bail!("{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_scheme_host_and_port() {
        let of = |url: &str| Server::parse(url).map(|server| (server.tls, server.host, server.port));
        assert_eq!(of("http://127.0.0.1:8080/").ok(), Some((false, "127.0.0.1".to_owned(), 8080)));
        assert_eq!(of("https://kubeflow.example").ok(), Some((true, "kubeflow.example".to_owned(), 443)));
        assert_eq!(of("http://[::1]:80").ok(), Some((false, "::1".to_owned(), 80)));
        for bad in ["", "127.0.0.1:8080", "ftp://a", "http://a/b", "https://user@a", "http://a?b"] {
            let error = of(bad).expect_err(bad);
            assert!(format!("{error:#}").contains("--server"), "{error:#}");
        }
    }
}
