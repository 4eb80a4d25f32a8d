//! A server by hand: bytes over HTTP/1.1, and streams over HTTP/2.

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use mesh_core::{
    Mesh,
    config::HttpProtocol,
    testing::{ControlPlane, Service},
};
use mesh_hyper::Client;
use mesh_tests::{fixture::within, running::port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::TARGET;

/// A port where a test accepts itself, and a client that is sent there.
pub(crate) struct ByHand {
    pub(crate) control_plane: ControlPlane,
    pub(crate) mesh: Mesh,
    pub(crate) client: Client,
    pub(crate) listener: TcpListener,
    protocol: HttpProtocol,
}

/// A connection of HTTP/1.1.
pub(crate) struct Peer(pub(crate) TcpStream);

/// A request over HTTP/2, and how it is answered. Its connection goes on by itself.
pub(crate) struct Stream {
    pub(crate) body: RecvStream,
    pub(crate) head: Request<()>,
    pub(crate) respond: SendResponse<Bytes>,
    connection: JoinHandle<()>,
}

// === impl ByHand ===

impl ByHand {
    pub(crate) async fn start(protocol: HttpProtocol) -> Self {
        let control_plane = ControlPlane::start().await;
        let mesh = control_plane.mesh("web").await;
        let by_hand = Self {
            client: Client::new(&mesh),
            mesh,
            control_plane,
            listener: port().await,
            protocol,
        };
        by_hand.service().apply();
        by_hand
    }

    /// The service, at the port.
    pub(crate) fn service(&self) -> Service {
        let service = self.control_plane.service(TARGET).clear_endpoints();
        let address = self.listener.local_addr().unwrap();
        service.endpoint(address).protocol(self.protocol)
    }

    async fn accept(&self) -> TcpStream {
        let (io, _) = within(self.listener.accept()).await.unwrap();
        io
    }

    pub(crate) async fn http1(&self) -> Peer {
        Peer(self.accept().await)
    }

    /// The first request of the next connection.
    pub(crate) async fn http2(&self) -> Stream {
        let mut connection = within(h2::server::handshake(self.accept().await))
            .await
            .unwrap();
        let (request, respond) = within(connection.accept()).await.unwrap().unwrap();
        let connection = tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let (head, body) = request.into_parts();
        Stream {
            body,
            head: Request::from_parts(head, ()),
            respond,
            connection,
        }
    }
}

// === impl Peer ===

impl Peer {
    /// Reads up to the end of `last`.
    pub(crate) async fn until(&mut self, last: &str) -> String {
        let mut got = Vec::new();
        while !got.ends_with(last.as_bytes()) {
            got.push(within(self.0.read_u8()).await.unwrap());
        }
        String::from_utf8(got).unwrap()
    }

    /// The head of a request.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }
}

// === impl Stream ===

impl Stream {
    /// The whole body, and its trailers.
    pub(crate) async fn read(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut all = Vec::new();
        while let Some(data) = within(self.body.data()).await {
            let data = data.unwrap();
            self.body
                .flow_control()
                .release_capacity(data.len())
                .unwrap();
            all.extend_from_slice(&data);
        }
        (all, within(self.body.trailers()).await.unwrap())
    }

    /// Answers with this text, and these trailers if there are any.
    pub(crate) fn answer(&mut self, text: &'static str, trailers: Option<HeaderMap>) {
        let mut send = self
            .respond
            .send_response(Response::new(()), false)
            .unwrap();
        send.send_data(Bytes::from_static(text.as_bytes()), trailers.is_none())
            .unwrap();
        if let Some(trailers) = trailers {
            send.send_trailers(trailers).unwrap();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
