//! The server's side of the operator's socket.
//!
//! A connection carries one request after another; each answer is a run of lines that ends with `End` or `Error`.
//! Lists are asked of the backend page by page and written as they come, so that 100,000 sessions cost no more
//! memory than a page. Bounds: connections at once, octets of a request, time to send or to take a line.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Listener;
use super::cluster::{ClusterOrder, ClusterStatus};
use super::types::{
    ApiError, Envelope, ErrorCode, Fault, Page, ReloadReport, Reply, Request, SessionInfo, StatusReport,
    Target, TunnelInfo, VERSION,
};
use crate::metrics::{Limit, Metrics};

/// Connections at once; one more is told so and closed.
pub const MAX_CONNECTIONS: usize = 32;
/// Octets of a request line.
pub const MAX_REQUEST: u64 = 16 * 1024;
/// Items asked of the backend at once.
pub const PAGE: usize = 512;
/// A client that sends nothing, or takes nothing, for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that asked for the end waits for it on its open connection; ending 100,000 sessions takes a while.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(3600);

/// What the node answers. Called on the API's own runtime; a slow answer delays its connection alone.
pub trait Backend: Send + Sync + 'static {
    /// The whole report; `counters` asks for every counter too.
    fn status(&self, counters: bool) -> impl Future<Output = Result<StatusReport, ApiError>> + Send;

    /// Up to `limit` tunnels in the order of their ids, from just after `after`.
    fn tunnels(
        &self,
        after: Option<Target>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<TunnelInfo>, ApiError>> + Send;

    /// Up to `limit` sessions in the order of their ids, from just after `after`; of one user, or of all.
    fn sessions(
        &self,
        user: Option<&str>,
        after: Option<Target>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<SessionInfo>, ApiError>> + Send;

    /// Begins to end a tunnel or a session; answers with how many sessions that ends.
    fn disconnect(&self, id: Target) -> impl Future<Output = Result<u64, ApiError>> + Send;

    /// Begins to stop the process, and answers with how many sessions that ends or keeps. The client waits for
    /// the connection to close, which the end of the process does.
    fn shutdown(&self, disconnect: bool) -> impl Future<Output = Result<u64, ApiError>> + Send;

    /// Reads the configuration again.
    fn reload(&self) -> impl Future<Output = Result<ReloadReport, ApiError>> + Send;

    /// Carries out an order for the cluster, and says how that is then.
    fn cluster(&self, order: ClusterOrder) -> impl Future<Output = Result<ClusterStatus, ApiError>> + Send;

    /// Has an actor panic, where the process was started for that.
    fn inject(&self, fault: Fault) -> impl Future<Output = Result<(), ApiError>> + Send;
}

/// Serves until it is dropped. To be awaited on a tokio runtime with IO and time.
pub async fn serve<B: Backend>(
    listener: &Listener,
    backend: Arc<B>,
    metrics: Arc<Metrics>,
) -> io::Result<()> {
    let socket = UnixListener::from_std(listener.handle()?)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    metrics.set_limit(Limit::ApiConnections, MAX_CONNECTIONS as u64);
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: they come back, and the backlog keeps who is waiting.
                tracing::warn!(%error, "cannot accept a connection on the operator's socket");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metrics.hit(Limit::ApiConnections);
            tokio::spawn(refuse(stream));
            continue;
        };
        metrics.set_current(
            Limit::ApiConnections,
            (MAX_CONNECTIONS - places.available_permits()) as u64,
        );
        let (backend, metrics, places) = (Arc::clone(&backend), Arc::clone(&metrics), Arc::clone(&places));
        tokio::spawn(async move {
            // A client that goes away in the middle (`| head`) is no news.
            if let Err(error) = converse(stream, &*backend).await {
                tracing::debug!(%error, "an operator's connection ended early");
            }
            drop(place);
            metrics.set_current(
                Limit::ApiConnections,
                (MAX_CONNECTIONS - places.available_permits()) as u64,
            );
        });
    }
}

async fn refuse(stream: UnixStream) {
    let (_, writer) = stream.into_split();
    let message = format!("{MAX_CONNECTIONS} connections are open already; try again");
    let mut writer = Writer::new(writer);
    // The client may have gone; there is nobody else to tell.
    let _ = writer
        .send(&Reply::Error(ApiError::new(ErrorCode::Unavailable, message)))
        .await;
    let _ = writer.flush().await;
}

async fn converse<B: Backend>(stream: UnixStream, backend: &B) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut writer = Writer::new(writer);
    let mut line = Vec::new();
    let mut patience = PATIENCE;
    loop {
        line.clear();
        let mut limited = (&mut reader).take(MAX_REQUEST);
        if timeout(patience, limited.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let oversized = line.len() as u64 == MAX_REQUEST && !line.ends_with(b"\n");
        let outcome = match parse(&line, oversized) {
            Ok(request) => {
                if matches!(request, Request::Shutdown { .. }) {
                    patience = PATIENCE_AT_THE_END;
                }
                answer(request, backend, &mut writer).await?
            }
            Err(error) => Err(error),
        };
        let last = match outcome {
            Ok(count) => Reply::End { count },
            Err(error) => Reply::Error(error),
        };
        writer.send(&last).await?;
        writer.flush().await?;
        if oversized {
            return Ok(());
        }
    }
}

fn parse(line: &[u8], oversized: bool) -> Result<Request, ApiError> {
    let bad = |message: String| ApiError::new(ErrorCode::BadRequest, message);
    if oversized {
        return Err(bad(format!("a request has at most {MAX_REQUEST} octets")));
    }
    // The version first: a request of another one need not have our shape.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } =
        serde_json::from_slice(line).map_err(|error| bad(format!("not a request: {error}")))?;
    if version != VERSION {
        return Err(bad(format!(
            "the request has version {version}, this node speaks {VERSION}; use the holdfast program of this node's release"
        )));
    }
    let envelope: Envelope =
        serde_json::from_slice(line).map_err(|error| bad(format!("not a request: {error}")))?;
    Ok(envelope.request)
}

/// Sends the replies but for the last line, and says how many there were.
async fn answer<B: Backend>(
    request: Request,
    backend: &B,
    writer: &mut Writer,
) -> io::Result<Result<u64, ApiError>> {
    let reply = match request {
        Request::Status { counters } => backend
            .status(counters)
            .await
            .map(|report| Reply::Status(Box::new(report))),
        Request::Tunnels => {
            let page = |after| backend.tunnels(after, PAGE);
            return stream_pages(page, Reply::Tunnel, writer).await;
        }
        Request::Sessions { user } => {
            let page = |after| backend.sessions(user.as_deref(), after, PAGE);
            return stream_pages(page, |info| Reply::Session(Box::new(info)), writer).await;
        }
        Request::Disconnect { id } => backend
            .disconnect(id)
            .await
            .map(|sessions| Reply::Disconnected { sessions }),
        Request::Shutdown { disconnect } => backend
            .shutdown(disconnect)
            .await
            .map(|sessions| Reply::ShuttingDown { sessions }),
        Request::Reload => backend.reload().await.map(Reply::Reloaded),
        Request::Cluster { order } => backend
            .cluster(order)
            .await
            .map(|status| Reply::Cluster(Box::new(status))),
        Request::Inject { fault } => backend.inject(fault).await.map(|()| Reply::Injected),
    };
    match reply {
        Ok(reply) => writer.send(&reply).await.map(|()| Ok(1)),
        Err(error) => Ok(Err(error)),
    }
}

async fn stream_pages<T, F>(
    mut page: impl FnMut(Option<Target>) -> F,
    reply: impl Fn(T) -> Reply,
    writer: &mut Writer,
) -> io::Result<Result<u64, ApiError>>
where
    F: Future<Output = Result<Page<T>, ApiError>> + Send,
{
    let (mut count, mut after) = (0, None);
    loop {
        let Page { items, after: next } = match page(after).await {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        for item in items {
            writer.send(&reply(item)).await?;
            count += 1;
        }
        // Ids must rise, or a mistaken backend would keep us here for ever.
        if next.is_none() || next <= after {
            return Ok(Ok(count));
        }
        after = next;
    }
}

/// Lines out, each within [`PATIENCE`].
struct Writer {
    inner: BufWriter<OwnedWriteHalf>,
    line: Vec<u8>,
}

impl Writer {
    fn new(inner: OwnedWriteHalf) -> Self {
        Self {
            inner: BufWriter::with_capacity(64 * 1024, inner),
            line: Vec::new(),
        }
    }

    async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, reply)?;
        self.line.push(b'\n');
        timeout(PATIENCE, self.inner.write_all(&self.line)).await?
    }

    async fn flush(&mut self) -> io::Result<()> {
        timeout(PATIENCE, self.inner.flush()).await?
    }
}
