//! A listener that holds no more than so many connections open: further ones wait in the system's backlog. A client
//! that stops reading what it is sent loses its connection.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::limits::Limits;

/// See the module.
pub(crate) struct BoundedListener {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
    write_timeout: Duration,
}

impl BoundedListener {
    pub fn new(tcp: TcpListener, limits: &Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
        Self { tcp, permits, write_timeout: limits.write_timeout }
    }
}

/// A connection and its permit; closing gives the permit back.
pub(crate) struct Connection {
    tcp: TcpStream,
    write_timeout: Duration,
    /// Runs while the client takes nothing of what it is sent.
    stalled: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// What writing came to; an error where it has waited too long.
    fn within_time<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl BoundedListener {
    /// The next connection. Errors of single ones are passed over.
    pub async fn accept(&mut self) -> Connection {
        let permit = self.permits.clone().acquire_owned().await.expect("this semaphore is never closed");
        let (tcp, _) = Listener::accept(&mut self.tcp).await;
        // Tokens are small and must leave at once; a socket that refuses still works.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        Connection { tcp, write_timeout: self.write_timeout, stalled: None, _permit: permit }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.within_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.within_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
