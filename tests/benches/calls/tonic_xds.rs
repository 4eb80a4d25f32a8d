//! The channel of `tonic-xds`, a client of xDS in tonic's own repository.

use std::{
    error::Error,
    fmt,
    task::{Context, Poll},
};

use futures_util::{TryFutureExt, future::MapErr};
use mesh_tests::{
    bench::BoxError,
    loaded::{self, TARGET, request},
    pb::echo_client::EchoClient,
};
use tonic::body::Body;
use tonic_xds::{BootstrapConfig, XdsChannelBuilder, XdsChannelConfig, XdsChannelGrpc, XdsUri};
use tower_service::Service;

use crate::server::Ready;

/// What it has of our configuration, in words.
pub(crate) const FEATURES: &str = "xDS; our route, weighted split, retry policy, circuit breaker";

/// The channel with an error type of its own: with boxed errors compilers do not see that the futures
/// of generated clients may go from thread to thread.
#[derive(Clone)]
pub(crate) struct Channel(XdsChannelGrpc);

#[derive(Debug)]
pub(crate) struct Failed(BoxError);

pub(crate) async fn connect(server: &Ready) -> Result<EchoClient<Channel>, BoxError> {
    let mut bootstrap: serde_json::Value = serde_json::from_str(&server.bootstrap)?;
    // It wants a URI with a scheme where gRPC has a name to resolve (gRFC A27).
    let uri = &mut bootstrap["xds_servers"][0]["server_uri"];
    *uri = format!("http://{}", uri.as_str().unwrap_or_default()).into();
    let bootstrap = BootstrapConfig::from_json(&bootstrap.to_string())?;
    let target = XdsUri::parse(&format!("xds:///{TARGET}"))?;
    let config = XdsChannelConfig::new(target).with_bootstrap(bootstrap);
    let channel = Channel(XdsChannelBuilder::new(config).build_grpc_channel()?);
    let mut client = EchoClient::new(channel);
    client.unary(request(&loaded::metadata())).await?;
    Ok(client)
}

// === impl Channel ===

impl Service<http::Request<Body>> for Channel {
    type Response = <XdsChannelGrpc as Service<http::Request<Body>>>::Response;
    type Error = Failed;
    type Future =
        MapErr<<XdsChannelGrpc as Service<http::Request<Body>>>::Future, fn(BoxError) -> Failed>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.0.poll_ready(cx).map_err(Failed)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request).map_err(Failed)
    }
}

// === impl Failed ===

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
