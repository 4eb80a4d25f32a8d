//! Where the fake listens: a loopback port that it keeps while it is stopped.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tonic::transport::{Server, server::Connected};

use super::{ads_server::AdsServer, lrs_server::LrsServer, shared::Shared};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The port in one of its states.
#[derive(Debug)]
pub(super) enum Port {
    /// Connections are accepted.
    Open { task: JoinHandle<()> },
    /// Bound and not listening: connections are refused, and nobody else can take the port.
    Reserved(TcpSocket),
    /// In memory there is none, and while it changes nobody else has it.
    Absent,
}

impl Port {
    /// Listens on a port of the system's choice.
    pub(super) async fn open(shared: &Arc<Shared>) -> io::Result<(SocketAddr, Self)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok((address, Self::serve(listener, shared)))
    }

    /// Listens again.
    pub(super) fn reopen(self, shared: &Arc<Shared>) -> io::Result<Self> {
        match self {
            Port::Reserved(socket) => Ok(Self::serve(socket.listen(BACKLOG)?, shared)),
            port => Ok(port),
        }
    }

    /// Stops listening. The port is closed when this returns.
    pub(super) async fn reserve(self, address: SocketAddr) -> io::Result<Self> {
        match self {
            Port::Open { task } => {
                task.abort();
                let _ = task.await;
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(address)?;
                Ok(Port::Reserved(socket))
            }
            port => Ok(port),
        }
    }

    /// Stops listening for good.
    pub(super) fn close(&self) {
        if let Port::Open { task } = self {
            task.abort();
        }
    }

    fn serve(listener: TcpListener, shared: &Arc<Shared>) -> Self {
        let server = Server::builder()
            .add_service(AdsServer(Arc::clone(shared)))
            .add_service(LrsServer(Arc::clone(shared)));
        let shared = Arc::clone(shared);
        let connections = stream::unfold((listener, shared), |(listener, shared)| async {
            let accepted = listener.accept().await;
            let accepted = accepted.map(|(io, _)| Connection::new(io, Arc::clone(&shared)));
            Some((accepted, (listener, shared)))
        });
        let task = tokio::spawn(async {
            // Ends only by being aborted: a connection that fails to be accepted is skipped.
            let _ = server.serve_with_incoming(connections).await;
        });
        Port::Open { task }
    }
}

/// A connection that can be cut from outside.
struct Connection {
    io: TcpStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    shared: Arc<Shared>,
}

impl Connection {
    fn new(io: TcpStream, shared: Arc<Shared>) -> Self {
        shared.connected();
        let _ = io.set_nodelay(true);
        let cut = Box::pin(shared.cut());
        Self { io, cut, shared }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.disconnected();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The server ends a connection whose read failed, and polls this no more.
        if self.cut.as_mut().poll(cx).is_ready() {
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
