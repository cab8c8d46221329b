//! The admin port: `/metrics`, `/healthz`, `/readyz` and a page for people.

use std::{future::Future, io, net::TcpListener, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinSet, spawn_blocking},
};

use super::{
    accounts::Issuers,
    collect::Collector,
    page,
    status::{Status, unix_seconds},
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

/// Serves until it is dropped, and ends its connections then. Once it is `left`, nothing more is accepted and each connection ends with
/// the request under way: another process answers at this address.
pub(super) fn serve(
    listener: TcpListener,
    admin: Admin,
    mut left: watch::Receiver<bool>,
) -> io::Result<impl Future<Output = ()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = TowerToHyperService::new(routes(admin));
    // Not axum's own loop: it bounds neither connections nor the time for a head.
    Ok(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let permit = Arc::clone(&room).acquire_owned().await;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = leaving(&mut left) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    event::warn("admin", format_args!("accept: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service.clone());
            let mut left = left.clone();
            connections.spawn(async move {
                let mut connection = std::pin::pin!(connection);
                // What goes wrong here is the client's concern.
                tokio::select! {
                    _ = &mut connection => {}
                    () = leaving(&mut left) => {
                        connection.as_mut().graceful_shutdown();
                        _ = connection.await;
                    }
                }
                drop(permit);
            });
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        // Not the end of a task of the control thread: that would be a bug.
        std::future::pending::<()>().await;
    })
}

/// Until the port is left to another process.
async fn leaving(left: &mut watch::Receiver<bool>) {
    // Fails when the gateway ends, and that ends whoever waits as well.
    drop(left.wait_for(|left| *left).await);
}

fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .fallback(async |uri: Uri| problem(StatusCode::NOT_FOUND, &format!("nothing is at {}", uri.path())))
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here")
        })
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
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response()
}
