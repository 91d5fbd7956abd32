//! From an open socket to the last answer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{loopback, router};
use crate::Service;

/// How long requests that are under way may take once the server was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Serves on the socket until `shutdown` ends; then takes no more connections and lets the requests under way finish,
/// for 30 seconds at most. At a loopback address it answers this machine alone, and none of the pages of other sites
/// that a browser here may show.
///
/// # Errors
/// When the socket cannot be used any more.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody listens any more when the server has ended by itself.
        let _ = stopping.send(());
    };
    // There are no keys yet: what listens at loopback is this machine's alone.
    let routes = match listener.local_addr()?.ip().is_loopback() {
        true => router(service).layer(middleware::from_fn(loopback::only_this_machine)),
        false => router(service),
    };
    // Answers are written whole, so that waiting for more to send only delays them.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
    });
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, routes).with_graceful_shutdown(shutdown);
    let deadline = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(GRACE).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = server => ended,
        () = deadline => {
            tracing::warn!("requests were still under way after {GRACE:?}; they are cut off");
            Ok(())
        }
    }
}
