//! A listener that holds no more than so many connections open, and a few more that are kept for probes, so that a
//! server that is full is not taken for a dead one. What comes beyond these waits in the system's backlog. A client that
//! stops reading what it is sent loses its connection.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::limits::Limits;

/// Connections that the system keeps until they are accepted. Where more arrive at once than it keeps, clients try again
/// only after a second; the usual 128 are fewer than come at once.
const BACKLOG: u32 = 4096;

/// Listens on an address.
///
/// # Errors
/// The system's, such as an address that is taken.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that ended a moment ago does not keep the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// See the module.
pub(crate) struct BoundedListener {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    write_timeout: Duration,
}

impl BoundedListener {
    pub fn new(tcp: TcpListener, limits: &Limits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let reserved = Arc::new(Semaphore::new(limits.reserved_connections_max.min(Semaphore::MAX_PERMITS)));
        Self { tcp, permits, reserved, write_timeout: limits.write_timeout }
    }
}

/// A connection and its permit; closing gives the permit back.
pub(crate) struct Connection {
    tcp: TcpStream,
    write_timeout: Duration,
    /// Runs while the client takes nothing of what it is sent.
    stalled: Option<Pin<Box<Sleep>>>,
    /// All others were taken: it is for probes.
    is_reserved: bool,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Whether it serves probes only, and one of them.
    pub fn is_reserved(&self) -> bool {
        self.is_reserved
    }

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
        let (ordinary, reserved) = (self.permits.clone(), self.reserved.clone());
        let (permit, is_reserved) = tokio::select! {
            biased;
            permit = ordinary.acquire_owned() => (permit, false),
            permit = reserved.acquire_owned() => (permit, true),
        };
        let mut permit = permit.expect("these semaphores are never closed");
        let (tcp, _) = Listener::accept(&mut self.tcp).await;
        // While nobody came, an ordinary place may have become free.
        let mut is_reserved = is_reserved;
        if is_reserved && let Ok(freed) = self.permits.clone().try_acquire_owned() {
            (permit, is_reserved) = (freed, false);
        }
        // Tokens are small and must leave at once; a socket that refuses still works.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "nodelay");
        }
        Connection { tcp, write_timeout: self.write_timeout, stalled: None, is_reserved, _permit: permit }
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
