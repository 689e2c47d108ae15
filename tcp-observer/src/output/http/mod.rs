//! The agent's web server: `/metrics`, `/healthz` and an index page, over HTTP/1.
//!
//! It answers one request per connection and holds a client to short times: a scrape comes every few seconds, and
//! nothing that a slow or hostile client does may cost the agent more than a bounded number of sockets. One scrape
//! reads the tables at a time, on a thread of its own; others wait for it.
//!
//! What it refuses to do: TLS and authentication. It listens on the loopback address unless told otherwise.

mod page;

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::metrics::{self, Exporter};

/// Connections at a time; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take for the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole connection may last, the reading of the response included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long responses that are under way may take when the agent stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest request head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Whether the agent does what it is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Ok,
    /// It does not, and why: one line.
    Failing(String),
}

/// What every request is answered from.
struct Site<H> {
    metrics: Arc<Exporter>,
    health: H,
    /// One permit: who holds it reads the tables.
    scrape: Arc<Semaphore>,
}

/// Serves until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Exporter>,
    health: impl Fn() -> Health + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let site = Arc::new(Site { metrics, health, scrape: Arc::new(Semaphore::new(1)) });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = async {
                // The semaphore is never closed; without a permit the connection would only be unbounded.
                let slot = Arc::clone(&slots).acquire_owned().await.ok();
                (slot, listener.accept().await)
            } => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            (slot, Ok((stream, _))) => {
                let site = Arc::clone(&site);
                connections.spawn(async move {
                    let _slot = slot;
                    talk(stream, site).await;
                });
            }
            (_, Err(error)) => {
                // The client is gone already, or the process is out of descriptors: the latter needs time.
                tracing::debug!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, finish).await.is_err() {
        connections.shutdown().await;
    }
}

async fn talk<S, H>(stream: S, site: Arc<Site<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn() -> Health + Send + Sync + 'static,
{
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        // A client that has shut down its sending side still reads.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a client's connection failed: {error}"),
        Err(_) => tracing::debug!("a client took longer than {CONNECTION_TIMEOUT:?}"),
    }
}

impl<H: Fn() -> Health + Send + Sync + 'static> Site<H> {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/" | "/metrics" | "/healthz") {
            return response(StatusCode::NOT_FOUND, TEXT, "not found: try /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/metrics" => self.metrics().await,
            "/healthz" => match (self.health)() {
                Health::Ok => response(StatusCode::OK, TEXT, "ok\n"),
                Health::Failing(reason) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
            },
            _ => response(StatusCode::OK, HTML, page::index(&self.metrics.attachments())),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let turn = Arc::clone(&self.scrape).acquire_owned().await;
        let exporter = Arc::clone(&self.metrics);
        let rendered = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, even where the client is not there any more.
            let _turn = turn;
            exporter.render()
        });
        let problem = match rendered.await {
            Ok(Ok(text)) => return response(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => format!("the scrape did not finish: {error}"),
        };
        tracing::warn!("cannot answer a scrape: {problem}");
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{problem}\n"))
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One client's connection, over anything that bytes go through.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) async fn talk_over<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    metrics: Arc<Exporter>,
    health: impl Fn() -> Health + Send + Sync + 'static,
) {
    talk(stream, Arc::new(Site { metrics, health, scrape: Arc::new(Semaphore::new(1)) })).await;
}

#[cfg(test)]
mod tests;
