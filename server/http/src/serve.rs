//! Serving on a socket, and ending well: new requests get 503 while running ones finish within a bound, the rest is
//! cancelled with a proper end, then connections close.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::limits::Limits;
use crate::listener::{BoundedListener, Connection};
use crate::routes::{router, router_of_probes};
use crate::state::AppState;

/// How often it is asked whether the engine gave up.
const WATCH: Duration = Duration::from_millis(500);

/// Why serving ended other than by being asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The engine; the process should end with a non-zero status.
    #[error("the engine gave up after repeated failures")]
    EngineDead,
}

/// Serves until `shutdown` completes and all is drained, or the engine gives up.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let limits = *state.limits();
    let mut listener = BoundedListener::new(listener, &limits);
    let service = TowerToHyperService::new(router(state.clone()));
    let probes = TowerToHyperService::new(router_of_probes(state.clone()));
    let (closing, is_closing) = watch::channel(false);
    // Those that are left are cut when this is dropped.
    let mut connections = JoinSet::new();
    let mut ending = pin!(end_of_service(&state, shutdown));
    loop {
        tokio::select! {
            connection = listener.accept() => {
                let service = if connection.is_reserved() { probes.clone() } else { service.clone() };
                connections.spawn(converse(connection, service, limits, is_closing.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = &mut ending => break,
        }
    }
    drop(listener);
    closing.send_replace(true);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.close, all_closed).await.is_err() {
        tracing::warn!("connections that stayed open are cut");
    }
    if is_dead(&state) { Err(ServeError::EngineDead) } else { Ok(()) }
}

/// Completes when nothing more is to be served; until then new requests get an answer, be it that they come late.
async fn end_of_service(state: &AppState, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {
            if let Some(engine) = state.try_engine() {
                let limit = state.limits().drain;
                tracing::info!(seconds_max = limit.as_secs(), "draining");
                engine.drain(limit).await;
            }
        }
        () = engine_death(state) => tracing::error!("the engine gave up"),
    }
}

/// One connection to its end: requests one after the other, each head within its time.
async fn converse(
    connection: Connection,
    service: TowerToHyperService<Router>,
    limits: Limits,
    mut is_closing: watch::Receiver<bool>,
) {
    let is_reserved = connection.is_reserved();
    let head_timeout = if is_reserved { limits.reserved_request_timeout } else { limits.head_timeout };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(!is_reserved)
        .header_read_timeout(head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .serve_connection(TokioIo::new(connection), service);
    let mut served = pin!(served);
    let closing = async {
        // A sender that is gone is the same wish.
        let _ = is_closing.wait_for(|closing| *closing).await;
    };
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = closing => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}

fn is_dead(state: &AppState) -> bool {
    state.try_engine().is_some_and(|engine| engine.is_dead())
}

async fn engine_death(state: &AppState) {
    while !is_dead(state) {
        tokio::time::sleep(WATCH).await;
    }
}
