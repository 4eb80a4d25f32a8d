//! How calls reach the service.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use tokio::{net::TcpListener, sync::mpsc, task::AbortHandle};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};

use super::Shared;
use crate::{
    Code,
    bootstrap::{CallCreds, ServerConfig},
    control::istio_ca::CREATE_CERTIFICATE,
    runtime::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture},
    testing::ads_server::Raw,
};

/// Calls without a network.
#[derive(Debug)]
pub(super) struct InMemory(pub(super) Arc<Shared>);

#[derive(Debug, Clone)]
struct Signing(Arc<Shared>);

/// Serves what connects to `listener` until it is aborted.
pub(super) fn serve(listener: TcpListener, shared: &Arc<Shared>) -> AbortHandle {
    let server = Server::builder().add_service(Signing(Arc::clone(shared)));
    let connections = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((accepted.map(|(io, _)| io), listener))
    });
    let task = tokio::spawn(async {
        // Ends only by being aborted: a connection that fails to be accepted is skipped.
        let _ = server.serve_with_incoming(connections).await;
    });
    task.abort_handle()
}

// === impl InMemory ===

impl SideCall for InMemory {
    fn stream(
        &self,
        server: &ServerConfig,
        path: &'static str,
        metadata: HeaderMap,
        _: Limits,
    ) -> SideCallFuture {
        let (send, mut requests) = mpsc::channel(1);
        let (responses, recv) = mpsc::channel(2);
        let shared = Arc::clone(&self.0);
        let server = server.clone();
        Box::pin(async move {
            let metadata = with_token(&server, metadata)
                .await
                .map_err(|reason| SideCallError {
                    server: server.uri.clone(),
                    reason,
                })?;
            tokio::spawn(async move {
                let call = async {
                    if path != CREATE_CERTIFICATE {
                        return Err(RpcStatus {
                            code: Code::Unimplemented,
                            message: format!("{path} is not served"),
                        });
                    }
                    let request = requests.recv().await.unwrap_or_default();
                    shared.answer(&metadata, request).await
                };
                tokio::select! {
                    answer = call => drop(responses.send(answer).await),
                    () = responses.closed() => {}
                }
            });
            Ok(Messages { send, recv })
        })
    }
}

/// Adds the token of the server's credentials, read afresh.
async fn with_token(server: &ServerConfig, mut metadata: HeaderMap) -> Result<HeaderMap, String> {
    for CallCreds::JwtTokenFile(path) in &server.call_creds {
        let token = tokio::fs::read_to_string(path)
            .await
            .map_err(|error| format!("cannot read the token file {}: {error}", path.display()))?;
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|error| error.to_string())?;
        metadata.append(header::AUTHORIZATION, value);
    }
    Ok(metadata)
}

// === impl Signing ===

impl NamedService for Signing {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

impl Service<http::Request<Body>> for Signing {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != CREATE_CERTIFICATE {
            let status = Status::unimplemented("only CreateCertificate is served");
            return Box::pin(async { Ok(status.into_http()) });
        }
        let signing = self.clone();
        Box::pin(async { Ok(Grpc::new(Raw).unary(signing, request).await) })
    }
}

impl UnaryService<Bytes> for Signing {
    type Response = Bytes;
    type Future = BoxFuture<tonic::Response<Bytes>, Status>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let (metadata, _, message) = request.into_parts();
            let answer = shared.answer(&metadata.into_headers(), message).await;
            answer.map(tonic::Response::new).map_err(|status| {
                let code = tonic::Code::from_i32(status.code as i32);
                Status::new(code, status.message)
            })
        })
    }
}
