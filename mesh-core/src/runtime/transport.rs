use std::{fmt, sync::Arc};

use crate::balance::LinkState;

/// How endpoints are connected to. Balancing is generic over it; its own tests use a fake.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The connection, or connections, to one endpoint. There may be a hundred thousand that nobody
    /// ever connects to: small until then.
    type Conn: fmt::Debug + Send + Sync + 'static;

    /// A handle to an endpoint, not connected yet. Reports nothing from within.
    fn open(&self, link: &Arc<LinkState>) -> Self::Conn;

    /// Starts one connection attempt unless one is under way or a connection is up: single flight.
    /// What happens is reported through `link`, which is the one that `conn` was opened for. After a
    /// failed attempt the transport waits its backoff by itself, then reports
    /// [`Connectivity::Idle`](crate::balance::Connectivity); a call before that does nothing, and
    /// neither does one after [`retire`](Self::retire). Called within a tokio runtime, which drives
    /// the connection.
    fn connect(&self, conn: &Self::Conn, link: &Arc<LinkState>);

    /// Takes no new stream; open ones end normally within 10 minutes, then all is closed.
    fn retire(&self, conn: &Self::Conn);
}
