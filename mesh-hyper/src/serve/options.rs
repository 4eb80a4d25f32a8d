use std::time::Duration;

/// Limits of a server, and how it ends its connections.
///
/// The bytes of a request's body are not limited here: they are the service's affair (such as axum's
/// `DefaultBodyLimit`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Connections that there may be at a time, those in their handshake included. With as many,
    /// nothing is accepted until one ends: clients wait in the queue of the system. Default `None`:
    /// as many as the process has file descriptors for (`RLIMIT_NOFILE`); without another one,
    /// nothing is accepted until one ends either. Zero counts as one.
    pub max_connections: Option<usize>,
    /// Connections that may be in their handshake at a time; default 256. One more closes, of the
    /// address that has the most of them (of IPv6, of the /64), the one that has been at it the
    /// longest.
    pub max_half_open: usize,
    /// How long a TLS handshake may take; default 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may take to show its first bytes, and an HTTP/1.1 request to show the
    /// rest of its headers once it has begun; default 10 s. Between two requests
    /// [`idle_timeout`](Self::idle_timeout) counts.
    pub header_timeout: Duration,
    /// Bytes that the headers of one request may have; default 64 KiB.
    pub max_header_list: u32,
    /// Requests that one HTTP/2 connection may have under way; default 200.
    pub max_concurrent_streams: u32,
    /// HTTP/2 streams that a peer may have reset before they were looked at; default 20. More close
    /// the connection (CVE-2023-44487, rapid reset).
    pub max_pending_accept_reset_streams: usize,
    /// HTTP/2 streams that were reset because the peer broke the protocol; default 1024. More close
    /// the connection.
    pub max_local_error_reset_streams: usize,
    /// Bytes of responses kept for each HTTP/2 stream whose peer does not read; default 64 KiB. More
    /// wait with their handler.
    pub max_send_buffer: usize,
    /// Protocols that an HTTP/1.1 request may ask its connection to become (`Upgrade`), such as
    /// `websocket`; default none. In force where no listener of a control plane is: a listener
    /// says so itself (`upgrade_configs`, there and in its routes). Others are answered 403, and the
    /// service does not see them; `h2c` is overlooked, as RFC 9113 has it.
    ///
    /// The service answers 101 and takes the connection with `hyper::upgrade::on`, or axum's
    /// `WebSocketUpgrade`. It counts as one request until it ends, and is cut when the connection
    /// would be: at the end of [`drain_grace`](Self::drain_grace), or because its peer is not
    /// trusted any more. WebSockets over HTTP/2 (RFC 8441) are not offered.
    pub upgrades: Vec<String>,
    /// How often an HTTP/2 peer is asked whether it is still there (PING); default 60 s. `None`:
    /// never.
    pub keep_alive_interval: Option<Duration>,
    /// How long it may take to answer; default 20 s.
    pub keep_alive_timeout: Duration,
    /// How old a connection may become, give or take 10 %; then it is drained. Default `None`: as
    /// old as it gets (gRFC A9).
    pub max_connection_age: Option<Duration>,
    /// Requests that one connection may bring; with the last of them it is drained (Envoy's
    /// `max_requests_per_connection`). What an HTTP/2 client sends before it hears of that is served
    /// as well. Default `None`: any number.
    pub max_connection_requests: Option<u64>,
    /// How long nothing may be asked on a connection before it is drained; it may be half as long
    /// again. Default 1 h. `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection that is drained may take to finish its requests; default 10 min
    /// (gRFC A36). Then it is closed.
    ///
    /// Over HTTP/1.1 a peer is told by `Connection: close` in its next response. If no request
    /// comes for a quarter of a second or a little longer, the connection is closed.
    ///
    /// A listener that is changed drains the connections it would treat otherwise now. One from
    /// plaintext to TLS does no more than that: whoever is connected in plaintext is served for as
    /// long as this. But who is connected over TLS, and would not be accepted under the TLS that is
    /// in force now (other roots, other names, a certificate where none was asked for), is closed
    /// as soon as the new roots are there.
    pub drain_grace: Duration,
    /// Whether each request carries an `Arc<`[`Peer`](mesh_core::identity::Peer)`>` in its extensions;
    /// default true. Services that do not look there are spared three allocations per request:
    /// [`Context::current().peer()`](mesh_core::Context::peer) says the same, wherever this is
    /// false too.
    pub peer_extension: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_half_open: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            max_header_list: 64 << 10,
            max_concurrent_streams: 200,
            max_pending_accept_reset_streams: 20,
            max_local_error_reset_streams: 1024,
            max_send_buffer: 64 << 10,
            upgrades: Vec::new(),
            keep_alive_interval: Some(Duration::from_secs(60)),
            keep_alive_timeout: Duration::from_secs(20),
            max_connection_age: None,
            max_connection_requests: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            drain_grace: Duration::from_secs(600),
            peer_extension: true,
        }
    }
}
