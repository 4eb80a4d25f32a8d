use std::sync::Arc;

use futures_util::future::BoxFuture;
use mesh_core::{
    config::{Address, HttpProtocol},
    identity::{IdentityError, PeerCertificate, UpstreamContext},
    runtime::EndpointInfo,
};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::conn::{ConnectError, Dial, Stage, Stream, happy};

/// A connection that is as secure as its cluster says.
pub(super) struct Secured {
    pub(super) io: Stream,
    /// What is to be spoken on it.
    pub(super) is_http2: bool,
    /// `None`: plaintext.
    pub(super) trusted: Option<Trusted>,
}

/// Who is at the other end of a connection, for as long as it is trusted.
pub(super) struct Trusted {
    context: Arc<UpstreamContext>,
    peer: PeerCertificate,
    /// Since the handshake.
    changed: BoxFuture<'static, ()>,
}

/// Dials the endpoint and makes the handshake, within the cluster's `connect_timeout`.
pub(super) async fn secure(
    endpoint: &EndpointInfo,
    dial: &dyn Dial,
    tls: Option<&Arc<UpstreamContext>>,
) -> Result<Secured, ConnectError> {
    let connections = &endpoint.cluster.connections;
    let limit = connections.connect_timeout;
    happy::connect(endpoint, |address: Address, until: Instant| async move {
        let mut stage = Stage::Dial;
        let attempt = secure_at(&address, dial, tls, connections.protocol, &mut stage);
        let attempt = tokio::time::timeout_at(until, attempt).await;
        attempt.unwrap_or_else(|_| {
            Err(ConnectError::Timeout {
                address,
                limit,
                stage,
            })
        })
    })
    .await
}

async fn secure_at(
    address: &Address,
    dial: &dyn Dial,
    tls: Option<&Arc<UpstreamContext>>,
    protocol: HttpProtocol,
    stage: &mut Stage,
) -> Result<Secured, ConnectError> {
    let no_tls = |error| ConnectError::Tls {
        address: address.clone(),
        error,
    };
    if let Some(context) = tls {
        // Without them there is no use in dialling. The handshake takes what is new by then.
        *stage = Stage::Certificates;
        context.handshake().await.map_err(no_tls)?;
        *stage = Stage::Dial;
    }
    let io = dial.dial(address).await;
    let io = io.map_err(|error| ConnectError::Dial {
        address: address.clone(),
        error,
    })?;
    match tls {
        None => Ok(Secured {
            io,
            is_http2: protocol == HttpProtocol::Http2,
            trusted: None,
        }),
        Some(context) => {
            *stage = Stage::Tls;
            handshake(io, context, protocol).await.map_err(no_tls)
        }
    }
}

async fn handshake(
    io: Stream,
    context: &Arc<UpstreamContext>,
    protocol: HttpProtocol,
) -> Result<Secured, IdentityError> {
    // Before the trust is looked at: no change is missed.
    let changed = context.trust_changed();
    let handshake = context.handshake().await?;
    let stream = TlsConnector::from(handshake.config)
        .connect(handshake.server_name, io)
        .await
        .map_err(|error| IdentityError::of_handshake(&error))?;
    let connection = stream.get_ref().1;
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    if protocol == HttpProtocol::Http2 && !is_http2 {
        return Err(IdentityError::new(
            "the server does not agree on HTTP/2 (ALPN \"h2\"), which its cluster asks for",
        ));
    }
    let chain: Vec<_> = connection
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let peer =
        PeerCertificate::parse(&chain).map_err(|error| IdentityError::new(error.to_string()))?;
    let trusted = Trusted {
        context: Arc::clone(context),
        peer,
        changed: Box::pin(changed),
    };
    Ok(Secured {
        io: Stream::tls(stream),
        is_http2,
        trusted: Some(trusted),
    })
}

// === impl Trusted ===

impl Trusted {
    /// Waits until the peer is not trusted any more: why.
    pub(super) async fn ends(self) -> IdentityError {
        let Self {
            context,
            peer,
            mut changed,
        } = self;
        loop {
            changed.await;
            changed = Box::pin(context.trust_changed());
            if let Err(why) = context.recheck(&peer) {
                return why;
            }
        }
    }
}
