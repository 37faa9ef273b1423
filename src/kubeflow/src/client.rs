//! How commands reach a platform: the unix socket of a data folder, or `--server` with `--token`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::instance;
use crate::output::NotRunning;

/// Where the platform is.
#[derive(Debug, Clone)]
pub enum Target {
    /// Through the socket of a data folder.
    Folder(PathBuf),
    /// Over the network.
    Server {
        /// `http://127.0.0.1:8080`.
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
                let rest = url.strip_prefix("http://").context("read --server: it must begin with http://")?;
                let authority = rest.trim_end_matches('/').to_owned();
                let address = if authority.contains(':') { authority.clone() } else { format!("{authority}:80") };
                let stream = tokio::net::TcpStream::connect(&address).await;
                let stream = stream.with_context(|| format!("connect to {url}"))?;
                if let Some(token) = token {
                    request = request.header(AUTHORIZATION, format!("Bearer {token}"));
                }
                exchange(stream, request.header(HOST, authority).body(content)?).await
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
