use hyper::client::conn::{http1, http2::SendRequest};
use mesh_core::{balance::LinkState, config::Address};

use super::{
    attempt::{self, Attempt, Secured, Way},
    drive::{Driver, Ended, Http2, handshake},
    drive1::{self, Bytes1},
    error::{ConnectError, Stage},
    protocol::Version,
    tls::Trusted,
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
    endpoint: &LinkState,
    way: Way<'_>,
    http2: &Http2,
) -> Result<Established, ConnectError> {
    attempt::connect(endpoint, &Whole { way, http2 }).await
}

/// The way to a connection that takes requests.
struct Whole<'a> {
    way: Way<'a>,
    http2: &'a Http2,
}

impl Attempt for Whole<'_> {
    type Made = Established;

    async fn attempt(
        &self,
        address: &Address,
        stage: &mut Stage,
    ) -> Result<Established, ConnectError> {
        let Secured {
            io,
            version,
            trusted,
        } = self.way.attempt(address, stage).await?;
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
