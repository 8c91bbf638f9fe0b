//! One listening socket: accepts, bounds and serves connections, and stops without losing any
//! request that it accepted.

use crate::{
    config::TlsFiles,
    leftover::Leftover,
    pace::{PacedBody, PacedWrites},
};
use anyhow::{Context as _, Result};
use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::Response,
    routing::future::RouteFuture,
};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tenantry_api::{Peer, name_by_path};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tower::util::{MapResponse, future::MapResponseFuture};

/// From the first byte that may come to the end of the headers; also how long a connection may
/// idle between two requests. Slow senders of headers hold a connection no longer than this.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one request's line and headers, up to one read more.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// After `accept` failed, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, with what it serves.
#[derive(Debug)]
pub(crate) struct Listener {
    name: &'static str,
    socket: TcpListener,
    tls: Option<TlsAcceptorConfig>,
    connections: Arc<Semaphore>,
}

/// A TLS configuration, loaded once for all listeners.
pub(crate) type TlsAcceptorConfig = Arc<ServerConfig>;

type Service = TowerToHyperService<Paced>;

type Change = fn(Response) -> Response;

/// The router for one connection, with every request's body held to its pace, and read out if it is
/// small. Requests know who has connected, and the tenant that their paths begin with.
#[derive(Debug, Clone)]
struct Paced {
    router: MapResponse<Router, Change>,
    peer: Option<Peer>,
}

impl tower::Service<Request<Incoming>> for Paced {
    type Response = Response;
    type Error = Infallible;
    type Future = MapResponseFuture<RouteFuture<Infallible>, Change>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let mut request = Leftover::of(request).map(PacedBody::new);
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        name_by_path(&mut request);
        tower::Service::call(&mut self.router, request)
    }
}

fn paced(router: Router, peer: Option<Peer>) -> Service {
    let router = MapResponse::new(router, without_methods as Change);
    TowerToHyperService::new(Paced { router, peer })
}

/// Takes away the methods that the router adds to every answer at a path that it knows, behind all
/// of its layers: also where this caller is answered as on a path that does not exist.
fn without_methods(mut answer: Response) -> Response {
    if answer.status() != StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().remove(header::ALLOW);
    }
    answer
}

impl Listener {
    /// Takes the address. Connections wait until [`Listener::serve`] runs.
    pub(crate) async fn bind(
        name: &'static str,
        address: SocketAddr,
        tls: Option<TlsAcceptorConfig>,
        connections_max: u32,
    ) -> Result<Self> {
        let socket = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} ({name})"))?;
        let connections = Arc::new(Semaphore::new(connections_max as usize));
        Ok(Self { name, socket, tls, connections })
    }

    /// Where it listens, as a URL without a path.
    pub(crate) fn url(&self) -> Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.socket.local_addr()?))
    }

    /// What it serves, for people: `native`, `chroma`, `admin`.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Serves `router` until `stop` turns true, then waits for the requests that were accepted,
    /// at most `grace` long. True if all were answered.
    pub(crate) async fn serve(
        self,
        router: Router,
        mut stop: watch::Receiver<bool>,
        grace: Duration,
    ) -> bool {
        let open = GracefulShutdown::new();
        let acceptor = self.tls.map(TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => break,
                accepted = accept(&self.socket, &self.connections) => accepted,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
            let service = paced(router.clone(), peer);
            let (watcher, acceptor) = (open.watcher(), acceptor.clone());
            tokio::spawn(async move {
                connection(stream, acceptor, service, watcher).await;
                drop(permit);
            });
        }
        drop(self.socket);
        timeout(grace, open.shutdown()).await.is_ok()
    }
}

/// The next connection, once there is room for it: further ones wait in the system's queue.
async fn accept(
    socket: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = socket.accept().await?;
    // Answers are written whole; waiting for more to send only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection<S>(stream: S, acceptor: Option<TlsAcceptor>, service: Service, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Below TLS, where every byte that the client takes is seen.
    let stream = PacedWrites::new(stream);
    match acceptor {
        None => exchange(stream, service, watcher).await,
        Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => exchange(stream, service, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake timed out"),
        },
    }
}

async fn exchange<S>(stream: S, service: Service, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Reads certificate and key.
pub(crate) fn load_tls(files: &TlsFiles) -> Result<TlsAcceptorConfig> {
    let certificates = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read certificate {}", files.cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("read private key {}", files.key.display()))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .with_context(|| format!("use certificate {} with its key", files.cert.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
