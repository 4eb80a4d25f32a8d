use std::sync::Arc;

use hyper::client::conn::{http1, http2::SendRequest};
use mesh_core::{config::Address, identity::UpstreamContext, runtime::EndpointInfo};
use tokio::time::Instant;

use super::{
    dial::Dial,
    drive::{Driver, Ended, Http2, handshake},
    drive1::{self, Bytes1},
    error::{ConnectError, Stage},
    happy,
    protocol::{Speaks, Version},
    tls::{self, Trusted},
};
use crate::body::Outgoing;

/// A connection that takes requests.
pub(super) enum Established {
    Http1(Box<Established1>),
    Http2(Box<Established2>),
}

/// A connection that HTTP/1.1 is spoken on.
pub(super) struct Established1 {
    pub(super) sender: http1::SendRequest<Outgoing>,
    pub(super) bytes: Bytes1,
    /// `None`: plaintext.
    pub(super) trusted: Option<Trusted>,
}

/// A connection on which the server's SETTINGS have arrived.
pub(super) struct Established2 {
    pub(super) sender: SendRequest<Outgoing>,
    /// Streams that the server allows.
    pub(super) limit: u32,
    pub(super) driver: Driver,
    /// `None`: plaintext.
    pub(super) trusted: Option<Trusted>,
}

/// Dials and shakes hands. With HTTP/2 until the server's SETTINGS are here: a port that accepts and
/// says nothing is not a server. With HTTP/1.1 no server says anything before a request.
///
/// Of several addresses the first at which all of this succeeds wins (gRFC A61).
pub(super) async fn establish(
    endpoint: &EndpointInfo,
    dial: &dyn Dial,
    tls: Option<&Arc<UpstreamContext>>,
    speaks: Speaks,
    http2: &Http2,
) -> Result<Established, ConnectError> {
    let way = Way {
        dial,
        tls,
        speaks,
        http2,
    };
    let limit = endpoint.cluster.connections.connect_timeout;
    let way = &way;
    happy::connect(endpoint, |address: Address, until: Instant| async move {
        let mut stage = Stage::Dial;
        let attempt = way.attempt(&address, &mut stage);
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

/// How each address of an endpoint is connected to.
struct Way<'a> {
    dial: &'a dyn Dial,
    tls: Option<&'a Arc<UpstreamContext>>,
    speaks: Speaks,
    http2: &'a Http2,
}

impl Way<'_> {
    async fn attempt(
        &self,
        address: &Address,
        stage: &mut Stage,
    ) -> Result<Established, ConnectError> {
        let no_tls = |error| ConnectError::Tls {
            address: address.clone(),
            error,
        };
        if let Some(context) = self.tls {
            // Without them there is no use in dialling. The handshake takes what is new by then.
            *stage = Stage::Certificates;
            context.handshake().await.map_err(no_tls)?;
            *stage = Stage::Dial;
        }
        let io = self.dial.dial(address).await;
        let mut io = io.map_err(|error| ConnectError::Dial {
            address: address.clone(),
            error,
        })?;
        let (mut trusted, mut version) = (None, self.speaks.in_plaintext());
        if let Some(context) = self.tls {
            *stage = Stage::Tls;
            let secured = tls::secure(io, context, self.speaks).await;
            let peer;
            (io, peer, version) = secured.map_err(no_tls)?;
            trusted = Some(peer);
        }
        let failed = |error| ConnectError::Handshake {
            address: address.clone(),
            error,
        };
        if version == Version::Http1 {
            let (sender, bytes) = drive1::handshake(io).await.map_err(failed)?;
            return Ok(Established::Http1(Box::new(Established1 {
                sender,
                bytes,
                trusted,
            })));
        }
        *stage = Stage::Settings;
        let (sender, mut driver) = handshake(io, self.http2).await.map_err(failed)?;
        match driver.settings().await {
            Ok(limit) => Ok(Established::Http2(Box::new(Established2 {
                sender,
                limit,
                driver,
                trusted,
            }))),
            Err(Ended::Broken(error)) => Err(failed(error)),
            Err(_) => Err(ConnectError::Closed {
                address: address.clone(),
            }),
        }
    }
}
