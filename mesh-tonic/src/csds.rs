use std::{convert::Infallible, pin::Pin};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, stream};
use mesh_core::{Mesh, control::xds::StatusRequest};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::{Grpc, NamedService, StreamingService, UnaryService},
};

/// The client status discovery service (gRFC A40): tells `grpcdebug` and its like what the mesh has
/// from its control planes, for each resource that is watched: asked for, accepted, refused and
/// why, or not there, with both versions and the contents as they were received.
///
/// A service like any other, to be added to [`Server`](crate::Server) or to tonic's own. Private
/// keys are not told; everything else of the configuration is, so who may call it matters. It keeps
/// the mesh alive.
///
/// One control plane is one `ClientConfig`; where the mesh asked several (gRFC A71), `client_scope`
/// names each. `node_matchers` are refused with INVALID_ARGUMENT, and `exclude_resource_contents` is
/// obeyed. `StreamClientStatus` answers each request as `FetchClientStatus` does.
///
/// ```
/// # async fn example(mesh: mesh_core::Mesh) -> Result<(), mesh_tonic::ServeError> {
/// mesh_tonic::Server::new(&mesh)
///     .add_service(mesh_tonic::Csds::new(&mesh))
///     .serve(([127, 0, 0, 1], 8081))
///     .await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Csds {
    mesh: Mesh,
}

/// Messages as they are: what they mean is known where the rest of the protocol is.
#[derive(Debug, Clone, Copy)]
struct Raw;

type Answers = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

// === impl Csds ===

impl Csds {
    /// Tells of this mesh.
    pub fn new(mesh: &Mesh) -> Self {
        Self { mesh: mesh.clone() }
    }

    async fn answer(&self, request: &[u8]) -> Result<Bytes, Status> {
        let request = StatusRequest::decode(request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let dump = self.mesh.config_dump().await;
        Ok(request.answer(&self.mesh.bootstrap().node, &dump).into())
    }
}

impl NamedService for Csds {
    const NAME: &'static str = "envoy.service.status.v3.ClientStatusDiscoveryService";
}

impl Service<http::Request<Body>> for Csds {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        let path = request.uri().path();
        let method = path.rsplit_once('/').map_or(path, |(_, method)| method);
        match method {
            "FetchClientStatus" => {
                Box::pin(async { Ok(Grpc::new(Raw).unary(service, request).await) })
            }
            "StreamClientStatus" => {
                Box::pin(async { Ok(Grpc::new(Raw).streaming(service, request).await) })
            }
            other => {
                let status = Status::unimplemented(format!("{}/{other}", Self::NAME));
                Box::pin(async { Ok(status.into_http()) })
            }
        }
    }
}

impl UnaryService<Bytes> for Csds {
    type Response = Bytes;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.answer(request.get_ref()).await.map(Response::new) })
    }
}

impl StreamingService<Bytes> for Csds {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let state = (self.clone(), request.into_inner());
        let answers = stream::try_unfold(state, |(service, mut requests)| async {
            let Some(request) = requests.message().await? else {
                return Ok(None);
            };
            let answer = service.answer(&request).await?;
            Ok(Some((answer, (service, requests))))
        });
        Box::pin(async { Ok(Response::new(Box::pin(answers) as Answers)) })
    }
}

// === impl Raw ===

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
