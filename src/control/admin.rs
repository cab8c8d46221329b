//! The admin port: `/metrics`, `/healthz`, `/readyz`, a page for people, and the API for who has the token ([`door`](super::door)).

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, Uri, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinSet, spawn_blocking},
};

use super::{
    accounts::Issuers,
    collect::Collector,
    door::{self, Door},
    page,
    status::{Status, unix_seconds},
    users,
};
use crate::observe::{
    NamesCell, event,
    process::Process,
    prometheus::{self, CONTENT_TYPE, Page},
    writer::Handle as LogHandle,
};

/// Connections at once; further ones wait in the backlog.
const CONNECTIONS_MAX: usize = 64;
/// For a request head, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest body of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// After a failed `accept`, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages are made from.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) status: Arc<Status>,
    pub(super) collector: Arc<Collector>,
    pub(super) names: Arc<NamesCell>,
    pub(super) log: LogHandle,
    pub(super) issuers: Issuers,
}

/// Where requests come from.
pub(super) enum Listener {
    Port(tokio::net::TcpListener),
    Socket(tokio::net::UnixListener),
}

enum Accepted {
    Port(tokio::net::TcpStream),
    Socket(tokio::net::UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Port(listener) => listener.accept().await.map(|(stream, _)| Accepted::Port(stream)),
            Self::Socket(listener) => listener.accept().await.map(|(stream, _)| Accepted::Socket(stream)),
        }
    }
}

/// Serves until it is dropped, and ends its connections then. Once it is `left`, nothing more is accepted and each connection ends with
/// the request under way: another process answers at this address.
pub(super) async fn serve(listener: Listener, admin: Admin, door: Door, mut left: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(routes(admin, door));
    // Not axum's own loop: it bounds neither connections nor the time for a head.
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = leaving(&mut left) => break,
        };
        match accepted {
            Ok(Accepted::Port(stream)) => {
                connections.spawn(connection(stream, service.clone(), left.clone(), permit));
            }
            Ok(Accepted::Socket(stream)) => {
                connections.spawn(connection(stream, service.clone(), left.clone(), permit));
            }
            Err(error) => {
                event::warn("admin", format_args!("accept: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    // Not the end of a task of the control thread: that would be a bug.
    std::future::pending::<()>().await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: TowerToHyperService<Router>,
    mut left: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What goes wrong here is the client's concern.
    tokio::select! {
        _ = &mut connection => {}
        () = leaving(&mut left) => {
            connection.as_mut().graceful_shutdown();
            _ = connection.await;
        }
    }
}

/// Until the port is left to another process.
async fn leaving(left: &mut watch::Receiver<bool>) {
    // Fails when the gateway ends, and that ends whoever waits as well.
    drop(left.wait_for(|left| *left).await);
}

fn routes(admin: Admin, door: Door) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .route("/api/v1/users", get(users::list).post(users::add))
        .route("/api/v1/users/{name}", get(users::show).patch(users::change))
        .route("/api/v1/users/{name}/logout", post(users::log_out))
        .fallback(async |uri: Uri| problem(StatusCode::NOT_FOUND, &format!("nothing is at {}", uri.path())))
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "this method is not answered here")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(door, door::pass))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let process = spawn_blocking(Process::read).await.unwrap_or_default();
    let mut page = Page::new();
    let collected = admin.collector.collect().await;
    prometheus::write_totals(&mut page, &collected.totals, &admin.names.load());
    prometheus::write_gauges(&mut page, &collected.gauges);
    drop(collected);
    prometheus::write_process(&mut page, &process, admin.log.dropped());
    admin.status.write_metrics(&mut page);
    admin.issuers.write_metrics(&mut page);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.finish()).into_response()
}

/// 200 while a snapshot serves on every shard, else 503. After a failed reload the old configuration serves: that is
/// said, and is no reason to take the gateway out.
async fn readiness(State(admin): State<Admin>) -> Response {
    let collected = admin.collector.collect().await;
    let mut reasons: Vec<String> =
        collected.silent().map(|shard| format!("shard {shard} does not answer")).collect();
    let shards = collected.gauges.len();
    drop(collected);
    if admin.status.is_draining() {
        reasons.push("the gateway is stopping".to_owned());
    }
    let serving = admin.status.serving();
    let refused = admin.status.refused();
    let body = json!({
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "shards": shards,
        "snapshot": {
            "version": serving.version,
            "source": serving.source,
            "since": unix_seconds(serving.since),
        },
        "last_reload_error": refused.map(|refused| json!({
            "at": unix_seconds(refused.at),
            "problems": refused.problems,
        })),
    });
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn page(State(admin): State<Admin>) -> Response {
    let collected = admin.collector.collect().await;
    let html = page::render(&page::View {
        serving: &admin.status.serving(),
        refused: admin.status.refused().as_deref(),
        is_draining: admin.status.is_draining(),
        shards: &collected.gauges,
        requests: collected.totals.requests(),
    });
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // Nothing on the page runs or is loaded; its styles are its own.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, html).into_response()
}

/// An error as RFC 9457 has it.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response()
}
