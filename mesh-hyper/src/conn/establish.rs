use std::sync::Arc;

use hyper::client::conn::{http1, http2::SendRequest};
use mesh_core::{identity::UpstreamContext, runtime::EndpointInfo};

use super::{
    dial::Dial,
    drive::{Driver, Ended, Http2, handshake},
    drive1::{self, Bytes1},
    error::{ConnectError, Stage},
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
pub(super) async fn establish(
    endpoint: &EndpointInfo,
    dial: &dyn Dial,
    tls: Option<&Arc<UpstreamContext>>,
    speaks: Speaks,
    http2: &Http2,
) -> Result<Established, ConnectError> {
    let address = || endpoint.address.clone();
    let limit = endpoint.cluster.connections.connect_timeout;
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
        let mut io = io.map_err(|error| ConnectError::Dial {
            address: address(),
            error,
        })?;
        let (mut trusted, mut version) = (None, speaks.in_plaintext());
        if let Some(context) = tls {
            stage = Stage::Tls;
            let secured = tls::secure(io, context, speaks).await.map_err(no_tls)?;
            let peer;
            (io, peer, version) = secured;
            trusted = Some(peer);
        }
        let failed = |error| ConnectError::Handshake {
            address: address(),
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
        stage = Stage::Settings;
        let (sender, mut driver) = handshake(io, http2).await.map_err(failed)?;
        match driver.settings().await {
            Ok(limit) => Ok(Established::Http2(Box::new(Established2 {
                sender,
                limit,
                driver,
                trusted,
            }))),
            Err(Ended::Broken(error)) => Err(failed(error)),
            Err(_) => Err(ConnectError::Closed { address: address() }),
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
