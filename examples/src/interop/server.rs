use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::Server,
};

use crate::testing::{
    Empty, SimpleRequest, SimpleResponse,
    test_service_server::{TestService, TestServiceServer},
};

/// A server that the interop client can call: answers with its hostname, in the response and in the
/// `hostname` metadata. Ends when dropped, as soon as the calls under way have.
///
/// Request metadata `rpc-behavior` changes what it does: `sleep-N` answers after N seconds,
/// `keep-open` never answers, `error-code-N` fails with status N. Several are done in order.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Service {
    hostname: AsciiMetadataValue,
}

// === impl TestServer ===

impl TestServer {
    /// Serves on a free loopback port, in a task of its own.
    ///
    /// # Errors
    /// If no port can be had, or `hostname` is no metadata value.
    pub async fn start(hostname: &str) -> io::Result<Self> {
        let hostname = hostname.parse().map_err(io::Error::other)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::builder()
            .add_service(TestServiceServer::new(Service { hostname }))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        let serving = tokio::spawn(async {
            // A connection's error is its caller's; the listener itself does not fail.
            let _ = server.await;
        });
        Ok(Self {
            address,
            stop,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: accepts no more calls, and waits for those under way.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.serving.await;
    }
}

// === impl Service ===

impl Service {
    async fn answer<T>(&self, metadata: &MetadataMap, message: T) -> Result<Response<T>, Status> {
        for value in metadata.get_all("rpc-behavior") {
            for behavior in value.to_str().unwrap_or_default().split(',') {
                behave(behavior.trim()).await?;
            }
        }
        let mut response = Response::new(message);
        response
            .metadata_mut()
            .insert("hostname", self.hostname.clone());
        Ok(response)
    }
}

#[tonic::async_trait]
impl TestService for Service {
    async fn empty_call(&self, request: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.answer(request.metadata(), Empty {}).await
    }

    async fn unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        let hostname = self.hostname.to_str().unwrap_or_default().to_owned();
        self.answer(request.metadata(), SimpleResponse { hostname })
            .await
    }
}

async fn behave(behavior: &str) -> Result<(), Status> {
    let unknown = || Status::invalid_argument(format!("unknown rpc-behavior {behavior:?}"));
    if behavior == "keep-open" {
        std::future::pending().await
    } else if let Some(seconds) = behavior.strip_prefix("sleep-") {
        let seconds = seconds.parse().map_err(|_| unknown())?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    } else if let Some(code) = behavior.strip_prefix("error-code-") {
        let code = Code::from_i32(code.parse().map_err(|_| unknown())?);
        Err(Status::new(
            code,
            format!("asked for by rpc-behavior {behavior}"),
        ))
    } else {
        Err(unknown())
    }
}
