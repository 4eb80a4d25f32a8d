use std::sync::Arc;

use futures_util::future::BoxFuture;
use mesh_core::{
    config::HttpProtocol,
    identity::{IdentityError, PeerCertificate, UpstreamContext},
    runtime::EndpointInfo,
};
use tokio_rustls::TlsConnector;

use crate::conn::{ConnectError, Dial, Stage, Stream};

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
    let address = || endpoint.address.clone();
    let connections = &endpoint.cluster.connections;
    let limit = connections.connect_timeout;
    let mut stage = Stage::Dial;
    let attempt = async {
        let no_tls = |error| ConnectError::Tls {
            address: address(),
            error,
        };
        if let Some(context) = tls {
            // Without them there is no use in dialling. The handshake takes what is new by then.
            stage = Stage::Certificates;
            context.handshake().await.map_err(no_tls)?;
            stage = Stage::Dial;
        }
        let io = dial.dial(&endpoint.address).await;
        let io = io.map_err(|error| ConnectError::Dial {
            address: address(),
            error,
        })?;
        match tls {
            None => Ok(Secured {
                io,
                is_http2: connections.protocol == HttpProtocol::Http2,
                trusted: None,
            }),
            Some(context) => {
                stage = Stage::Tls;
                let secured = handshake(io, context, connections.protocol).await;
                secured.map_err(no_tls)
            }
        }
    };
    let attempt = tokio::time::timeout(limit, attempt).await;
    attempt.unwrap_or_else(|_| {
        Err(ConnectError::Timeout {
            address: address(),
            limit,
            stage,
        })
    })
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
