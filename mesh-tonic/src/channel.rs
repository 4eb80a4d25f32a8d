use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, uri::Authority};
use mesh_core::Mesh;
use mesh_hyper::{CallOptions, Caller};
use tonic::GrpcMethod;
use tower_service::Service;

use crate::{Error, InvalidTarget, ResponseBody};

/// A gRPC channel to one target of a mesh, for any client that tonic generates.
///
/// It is always ready: waiting and failing happen in the call. Before the first configuration
/// arrives a call waits for it, at most until its deadline, until a resource timer (15 s for each resource, from when a connected control plane was asked) says
/// that there is none, or until no control plane can be reached. A call to a target without a
/// usable endpoint fails at once with UNAVAILABLE and the reason. A call that is
/// [wait-for-ready](Self::wait_for_ready) waits on, until its deadline if it has one, where no control
/// plane can be reached and where no endpoint is connected; if there is no such target, it fails too.
///
/// Cheap to clone; clones share everything. A call can be spawned.
#[derive(Debug, Clone)]
pub struct Channel {
    caller: Caller,
    options: CallOptions,
}

/// A response under way.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(mesh_hyper::ResponseFuture);

/// A channel to `target`: the name of a listener, such as `greeter.shop:8080`, alone or as
/// `xds:///greeter.shop:8080` or `xds://authority/name` (gRFC A27, A47). Names are taken verbatim.
///
/// Must be called in a tokio runtime. Configuration is watched from now on until the last clone
/// and the last call is dropped.
///
/// # Errors
/// If the target is empty, is no authority, or names an authority that the bootstrap lacks.
pub fn channel(mesh: &Mesh, target: &str) -> Result<Channel, InvalidTarget> {
    let invalid = |reason: String| InvalidTarget {
        target: target.to_owned(),
        reason,
    };
    let name = mesh
        .bootstrap()
        .listener_name(target)
        .map_err(|error| invalid(error.to_string()))?;
    let authority: Authority = name
        .authority
        .parse()
        .map_err(|error| invalid(format!("{:?} is no authority: {error}", name.authority)))?;
    let caller = Caller::grpc(mesh, &name.resource, authority);
    Ok(Channel {
        caller,
        options: CallOptions::default(),
    })
}

// === impl Channel ===

impl Channel {
    /// Sets whether calls wait for configuration and a connected endpoint where they would
    /// otherwise fail at once; default false. A request's own [`CallOptions`] extension wins where it
    /// says something of it.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.options = self.options.wait_for_ready(wait);
        self
    }

    /// Waits until the target has a configuration.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.caller.ready().await?)
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<tonic::body::Body>) -> ResponseFuture {
        // What generated code makes says so.
        let registered = request.extensions().get::<GrpcMethod<'static>>().is_some();
        let options = self.options.registered_method(registered);
        ResponseFuture(self.caller.call(request, options))
    }
}

// === impl ResponseFuture ===

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| match result {
            Ok(response) => Ok(response.map(ResponseBody::new)),
            Err(error) => Err(error.into()),
        })
    }
}
