//! Serving on a socket, and ending well: new requests get 503 while running ones finish within a bound, the rest is
//! cancelled with a proper end, then connections close.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::listener::BoundedListener;
use crate::routes::router;
use crate::state::AppState;

/// How often it is asked whether the engine gave up.
const WATCH: Duration = Duration::from_millis(500);

/// Why serving ended other than by being asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error("the listening socket failed: {0}")]
    Socket(#[from] io::Error),
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
    let listener = BoundedListener::new(listener, limits.connections_max);
    let (drained, draining_over) = oneshot::channel::<()>();
    let ending = {
        let state = state.clone();
        async move {
            tokio::select! {
                () = shutdown => {
                    if let Some(engine) = state.try_engine() {
                        tracing::info!(seconds_max = limits.drain.as_secs(), "draining");
                        engine.drain(limits.drain).await;
                    }
                }
                () = engine_death(&state) => tracing::error!("the engine gave up"),
            }
            // The receiver is gone only when serving has ended already.
            let _ = drained.send(());
        }
    };
    let serving = axum::serve(listener, router(state.clone())).with_graceful_shutdown(ending).into_future();
    let closing_over = async {
        // An error means that the ending was dropped with the server; the other branch has ended then.
        let _ = draining_over.await;
        tokio::time::sleep(limits.close).await;
    };
    tokio::select! {
        served = serving => served?,
        () = closing_over => tracing::warn!("connections that stayed open are cut"),
    }
    if is_dead(&state) { Err(ServeError::EngineDead) } else { Ok(()) }
}

fn is_dead(state: &AppState) -> bool {
    state.try_engine().is_some_and(|engine| engine.is_dead())
}

async fn engine_death(state: &AppState) {
    while !is_dead(state) {
        tokio::time::sleep(WATCH).await;
    }
}
