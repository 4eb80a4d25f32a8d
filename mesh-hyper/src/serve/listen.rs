//! Accepts connections, whatever happens.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use mesh_core::resolve::Ends;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep_until},
};

use super::{LocalAddress, ServeError};
use crate::conn::Stream;

/// Where connections come from.
pub(super) trait Listen: Send {
    type Io;

    /// The next one. Nothing is lost when this is dropped.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Ends)>> + Send;
}

/// Accepts connections of a listener that fails at times.
pub(super) struct Acceptor<L> {
    listener: L,
    pause: Duration,
    /// Not before then.
    resume: Option<Instant>,
}

/// Where a server listens: an address, or a listener that is bound already.
///
/// A Unix domain socket has no listener of a control plane, which are for IP addresses and ports (gRFC
/// A36): its connections are secured as [`Server::tls`](super::Server::tls) says, whatever the
/// bootstrap has, and no route or access rule of a control plane applies to its requests. Peers
/// have no address.
#[derive(Debug)]
#[non_exhaustive]
pub enum Bind {
    /// Listen on this address; port 0 lets the system choose.
    Address(SocketAddr),
    /// Accept from this.
    Listener(TcpListener),
    /// Listen on a Unix domain socket at this path. There must be nothing yet, and what was made
    /// stays when the server ends.
    Path(PathBuf),
    /// Accept from this Unix domain socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

/// A socket that listens.
pub(super) enum Bound {
    Tcp(TcpListener, SocketAddr),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, PathBuf),
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl From<([u8; 4], u16)> for Bind {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<(IpAddr, u16)> for Bind {
    fn from(address: (IpAddr, u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<(Ipv4Addr, u16)> for Bind {
    fn from(address: (Ipv4Addr, u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<(Ipv6Addr, u16)> for Bind {
    fn from(address: (Ipv6Addr, u16)) -> Self {
        Self::Address(address.into())
    }
}

impl From<TcpListener> for Bind {
    fn from(listener: TcpListener) -> Self {
        Self::Listener(listener)
    }
}

impl From<PathBuf> for Bind {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixListener> for Bind {
    fn from(listener: tokio::net::UnixListener) -> Self {
        Self::Unix(listener)
    }
}

// === impl Bind ===

impl Bind {
    /// Listens.
    ///
    /// # Errors
    /// If that cannot be done.
    pub(super) async fn listen(self) -> Result<Bound, ServeError> {
        let given = "a listener that was given";
        match self {
            Self::Listener(listener) => {
                let address = listener.local_addr();
                let address = address.map_err(|source| bind_error(given, source))?;
                Ok(Bound::Tcp(listener, address))
            }
            Self::Address(address) => {
                let bound = async {
                    let listener = TcpListener::bind(address).await?;
                    let address = listener.local_addr()?;
                    Ok(Bound::Tcp(listener, address))
                };
                bound.await.map_err(|source| bind_error(address, source))
            }
            #[cfg(unix)]
            Self::Path(path) => match tokio::net::UnixListener::bind(&path) {
                Ok(listener) => Ok(Bound::Unix(listener, path)),
                Err(source) => Err(bind_error(LocalAddress::Unix(path), source)),
            },
            #[cfg(not(unix))]
            Self::Path(path) => {
                let text = "this platform has no Unix domain sockets";
                let source = io::Error::new(io::ErrorKind::Unsupported, text);
                Err(bind_error(LocalAddress::Unix(path), source))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let address = listener.local_addr();
                let address = address.map_err(|source| bind_error(given, source))?;
                // One of the abstract namespace has a name and no path.
                let path = address
                    .as_pathname()
                    .map_or("(no path)".into(), PathBuf::from);
                Ok(Bound::Unix(listener, path))
            }
        }
    }
}

pub(super) fn bind_error(address: impl std::fmt::Display, source: io::Error) -> ServeError {
    ServeError::Bind {
        address: address.to_string(),
        source: Arc::new(source),
    }
}

// === impl Bound ===

impl Bound {
    pub(super) fn address(&self) -> LocalAddress {
        match self {
            Self::Tcp(_, address) => LocalAddress::Tcp(*address),
            #[cfg(unix)]
            Self::Unix(_, path) => LocalAddress::Unix(path.clone()),
        }
    }
}

impl Listen for Bound {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, Ends)> {
        match self {
            Self::Tcp(listener, _) => {
                let (io, ends) = Listen::accept(listener).await?;
                Ok((Stream::tcp(io), ends))
            }
            #[cfg(unix)]
            Self::Unix(listener, _) => {
                let (io, _) = listener.accept().await?;
                Ok((Stream::unix(io), Ends::UNNAMED))
            }
        }
    }
}

// === impl Listen ===

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Ends)> {
        loop {
            let (io, peer) = TcpListener::accept(self).await?;
            // One that is gone already has no address.
            let Ok(local) = io.local_addr() else { continue };
            let _ = io.set_nodelay(true);
            return Ok((io, Ends { peer, local }));
        }
    }
}

// === impl Acceptor ===

impl<L: Listen> Acceptor<L> {
    pub(super) fn new(listener: L) -> Self {
        Self {
            listener,
            pause: FIRST_PAUSE,
            resume: None,
        }
    }

    /// The next connection. Out of file descriptors or memory, it pauses and tries again: it never
    /// spins, and never ends. Nothing is lost when this is dropped, pauses included.
    pub(super) async fn accept(&mut self) -> (L::Io, Ends) {
        loop {
            if let Some(resume) = self.resume {
                sleep_until(resume).await;
                self.resume = None;
            }
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.pause = FIRST_PAUSE;
                    return accepted;
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if self.pause == FIRST_PAUSE {
                        tracing::warn!(%error, "cannot accept connections, tries again");
                    }
                    self.resume = Some(Instant::now() + self.pause);
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Whether it was the peer that went away, so that the next can be accepted at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::FutureExt;

    use super::*;

    /// Fails as told, then accepts.
    struct Failing(VecDeque<io::ErrorKind>);

    impl Listen for Failing {
        type Io = ();

        async fn accept(&mut self) -> io::Result<((), Ends)> {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            match self.0.pop_front() {
                Some(kind) => Err(kind.into()),
                None => Ok(((), Ends { peer, local: peer })),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_went_away_costs_no_time() {
        let kinds = [io::ErrorKind::ConnectionAborted; 100];
        let mut acceptor = Acceptor::new(Failing(kinds.into()));
        assert!(acceptor.accept().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn out_of_descriptors_it_pauses_for_longer_each_time_and_goes_on() {
        let kinds = [io::ErrorKind::Other; 10];
        let mut acceptor = Acceptor::new(Failing(kinds.into()));
        let start = Instant::now();
        // Dropped and asked again, it does not skip the pause.
        for _ in 0..1000 {
            assert!(acceptor.accept().now_or_never().is_none());
        }
        assert_eq!(acceptor.listener.0.len(), 9);
        acceptor.accept().await;
        // 10 + 20 + 40 + ... + 640 ms, then a second each.
        assert_eq!(start.elapsed(), Duration::from_millis(1270 + 3000));
        assert_eq!(acceptor.pause, FIRST_PAUSE);
    }
}
