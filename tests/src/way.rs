//! The ways of making a call, so that one test can be made of each.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use mesh_core::{
    Code, Mesh,
    config::HttpProtocol,
    testing::{Retry, Service},
};
use mesh_hyper::Client;
use mesh_tonic::Channel;
use tonic::Status;

use crate::pb::{EchoRequest, echo_client::EchoClient};

/// The path of a call, whichever way it is made.
pub const PATH: &str = "/mesh.test.Echo/Unary";

/// How calls are made, and how servers are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A generated client over [`mesh_tonic::channel`].
    Grpc,
    /// [`mesh_hyper::Client`] over HTTP/1.1.
    Http1,
    /// The same over HTTP/2.
    Http2,
}

/// Makes calls of the echo service.
pub trait Call: Clone + Send + Sync + 'static {
    /// Makes one call; the name of the server that answered.
    ///
    /// # Errors
    /// If the call fails. Failures of plain HTTP are told in gRPC's words, so that one test can
    /// judge both: a response's status as "HTTP to gRPC Status Code Mapping" has it.
    fn call(&self) -> impl Future<Output = Result<String, Status>> + Send;
}

/// Whoever makes calls in one of the ways.
#[derive(Debug, Clone)]
pub enum Caller {
    /// [`Way::Grpc`].
    Grpc(Channel),
    /// [`Way::Http1`] or [`Way::Http2`], as the cluster has it.
    Http(Client),
}

/// Makes tests of functions that take a [`Way`]: of each one for every way, named after it. `grpc
/// and http2` leaves HTTP/1.1 out.
#[macro_export]
macro_rules! every_way {
    ($flavor:meta; $($test:ident),+ $(,)?) => {
        $(mod $test {
            $crate::every_way!(@one $flavor, $test, grpc, Grpc);
            $crate::every_way!(@one $flavor, $test, http1, Http1);
            $crate::every_way!(@one $flavor, $test, http2, Http2);
        })+
    };
    (grpc and http2, $flavor:meta; $($test:ident),+ $(,)?) => {
        $(mod $test {
            $crate::every_way!(@one $flavor, $test, grpc, Grpc);
            $crate::every_way!(@one $flavor, $test, http2, Http2);
        })+
    };
    (grpc and http2: $($test:ident),+ $(,)?) => {
        $crate::every_way!(grpc and http2, tokio::test; $($test),+);
    };
    (@one $flavor:meta, $test:ident, $name:ident, $way:ident) => {
        #[$flavor]
        async fn $name() {
            super::$test($crate::way::Way::$way).await;
        }
    };
    ($($test:ident),+ $(,)?) => {
        $crate::every_way!(tokio::test; $($test),+);
    };
}

// === impl Way ===

impl Way {
    /// Whoever calls `target`, which has a port, this way.
    ///
    /// # Panics
    /// If the target is not valid.
    pub fn caller(self, mesh: &Mesh, target: &str) -> Caller {
        match self {
            Self::Grpc => {
                Caller::Grpc(mesh_tonic::channel(mesh, target).expect("the target is valid"))
            }
            Self::Http1 | Self::Http2 => {
                let url = format!("http://{target}");
                Caller::Http(Client::to(mesh, &url).expect("the target is valid"))
            }
        }
    }

    /// The service, so that its servers are spoken to this way.
    pub fn of(self, service: Service) -> Service {
        match self {
            Self::Grpc => service,
            Self::Http1 => service.protocol(HttpProtocol::Http1),
            Self::Http2 => service.protocol(HttpProtocol::Http2),
        }
    }

    /// How many connections so many calls at a time take at most.
    pub fn connections(self, calls: u64) -> u64 {
        match self {
            Self::Http1 => calls,
            Self::Grpc | Self::Http2 => 1,
        }
    }

    /// A policy for calls that no server has answered, or with "unavailable".
    pub fn retry(self) -> Retry {
        match self {
            Self::Grpc => Retry::on([Code::Unavailable]),
            Self::Http1 | Self::Http2 => {
                Retry::conditions(["gateway-error", "reset", "connect-failure"])
            }
        }
    }
}

// === impl Caller ===

impl Caller {
    /// The channel.
    ///
    /// # Panics
    /// If it is not one: for tests of gRPC alone.
    pub fn grpc(&self) -> &Channel {
        match self {
            Self::Grpc(channel) => channel,
            Self::Http(_) => panic!("this test is of gRPC alone"),
        }
    }
}

impl Call for Caller {
    async fn call(&self) -> Result<String, Status> {
        match self {
            Self::Grpc(channel) => channel.call().await,
            Self::Http(client) => client.call().await,
        }
    }
}

impl Call for Channel {
    async fn call(&self) -> Result<String, Status> {
        let request = EchoRequest {
            payload: Bytes::from_static(b"ping"),
            count: 0,
        };
        let reply = EchoClient::new(self.clone()).unary(request).await?;
        Ok(reply.into_inner().server)
    }
}

impl Call for Client {
    async fn call(&self) -> Result<String, Status> {
        let request = Request::builder().method(Method::POST).uri(PATH);
        let request = request
            .body(Full::new(Bytes::from_static(b"ping")))
            .expect("the path is one");
        let failed = |error: mesh_hyper::Error| {
            let code = tonic::Code::from_i32(error.code() as i32);
            Status::new(code, error.message())
        };
        let (head, body) = self.request(request).await.map_err(failed)?.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        match head.status {
            StatusCode::OK => Ok(text),
            status => Err(Status::new(code_of(status), text)),
        }
    }
}

/// "HTTP to gRPC Status Code Mapping" of gRPC's documentation.
fn code_of(status: StatusCode) -> tonic::Code {
    match status.as_u16() {
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502..=504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    }
}
