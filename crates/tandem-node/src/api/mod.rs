//! The local API: HTTP with JSON, a WebSocket of events, Prometheus metrics; and the page, which uses it.
//!
//! It speaks to the node only through [`NodeHandle`]. It listens on loopback, and refuses whoever does not know the token
//! of this start, any request addressed to another host name, and any page of another site (DNS rebinding).

mod assets;
mod body;
mod events;
mod files;
mod guard;
mod metrics;
mod openapi;
mod page;
mod routes;
mod strangers;
mod volunteer;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem_api::{PageLink, Problem};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use files::ApiInfo;
pub use openapi::openapi_json;

use crate::handle::NodeHandle;
use crate::messages::Code;
use crate::platform::random;

/// A request's body may have so many bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// A request is answered within this time, or not at all.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// Programs that listen to events at once.
const LISTENERS_MAX: usize = 32;

/// Is the page in this build?
pub const HAS_PAGE: bool = cfg!(feature = "page");

/// The API of one node, running.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    links: page::Links,
    data: PathBuf,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// Why the API does not run.
#[derive(Debug, Error)]
pub enum ApiError {
    #[error("{0} is not on loopback")]
    NotLoopback(SocketAddr),
    #[error("{0} is taken")]
    PortTaken(SocketAddr),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
}

impl ApiError {
    /// For a person.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NotLoopback(address) => Code::ApiNotLoopback.with(&[("address", &address.to_string())]),
            Self::PortTaken(address) => Code::ApiPortTaken.with(&[("address", &address.to_string())]),
            Self::Listen { address, error } => {
                Code::ApiListen.with(&[("address", &address.to_string()), ("detail", &error.to_string())])
            }
            Self::Write { path, error } => Code::DataFolder
                .with(&[("path", &path.display().to_string()), ("detail", &error.to_string())]),
        }
    }
}

/// What every handler sees.
#[derive(Debug)]
struct Context {
    node: NodeHandle,
    token: String,
    /// What `Host` may say.
    hosts: Vec<String>,
    /// What opens the page.
    codes: page::Links,
    listeners: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// A port held for the API. Taken before anything else is started, so that a taken one costs nothing.
#[derive(Debug)]
pub struct ApiListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl ApiListener {
    /// Takes the port.
    ///
    /// # Errors
    /// `NotLoopback`, `PortTaken` or `Listen`.
    pub async fn bind(address: SocketAddr) -> Result<Self, ApiError> {
        if !address.ip().is_loopback() {
            return Err(ApiError::NotLoopback(address));
        }
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ApiError::PortTaken(address),
            _ => ApiError::Listen { address, error },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Writes `api-token` and `api.json` into the data folder and begins to serve.
    ///
    /// # Errors
    /// `Write`.
    pub fn serve(self, node: NodeHandle, data: &Path) -> Result<ApiServer, ApiError> {
        let token = random::hex::<32>();
        files::write(data, self.address, &token)?;
        let (stop, stopped) = watch::channel(false);
        let links = page::Links::new(self.address);
        let context = Arc::new(Context {
            node,
            token,
            hosts: guard::hosts(self.address),
            codes: links.clone(),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            stop: stopped.clone(),
        });
        let router = routes::router(context);
        let listener = self.listener;
        let server = tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(signalled(stopped)).await;
            if let Err(error) = served {
                tracing::error!(%error, "the local API ended");
            }
        });
        Ok(ApiServer { address: self.address, links, data: data.to_owned(), stop, server })
    }
}

/// Takes the port and begins to serve.
///
/// # Errors
/// [`ApiError`].
pub async fn serve(address: SocketAddr, data: &Path, node: NodeHandle) -> Result<ApiServer, ApiError> {
    ApiListener::bind(address).await?.serve(node, data)
}

impl ApiServer {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A link that opens the page once.
    #[must_use]
    pub fn page_link(&self) -> PageLink {
        self.links.link()
    }

    /// Ends it: requests under way get a second. Takes `api.json` and `api-token` away.
    pub async fn stop(mut self) {
        files::remove(&self.data);
        self.stop.send_replace(true);
        if tokio::time::timeout(Duration::from_secs(1), &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Resolves when the API is to stop.
async fn signalled(mut stop: watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    drop(stop.wait_for(|stop| *stop).await);
}
