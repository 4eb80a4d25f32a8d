//! Who makes the calls, and with what.

use std::{convert::Infallible, net::SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::{
    Mesh,
    bootstrap::{Bootstrap, FileWatcherConfig},
    testing::{ControlPlane, SanMatch, Tls},
};
use mesh_tests::{
    bench::{self, BoxError, Pem},
    loaded::{self, HEADERS, PATH, PAYLOAD, TARGET, message, request},
    pb::{EchoReply, EchoRequest, echo_client::EchoClient},
};
use prost::Message;
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use crate::server::Ready;

/// All contestants.
pub(crate) const NAMES: [&str; 5] = [PLAIN, "hyper", "mesh", SECURED, "mesh-mtls"];
const PLAIN: &str = "tonic";
const SECURED: &str = "tonic-mtls";
/// Who the server is, and what tonic calls it.
pub(crate) const SERVER_ID: &str = "spiffe://bench/echo";
pub(crate) const SERVER_NAME: &str = "echo.bench";
/// The service that is reached over mTLS.
const SECURED_TARGET: &str = "secured.bench:50051";
/// The certificate provider of the bootstrap.
const PROVIDER: &str = "default";

/// The contestant that `name` is compared with.
pub(crate) fn baseline_of(name: &str) -> &'static str {
    match name.ends_with("-mtls") {
        true => SECURED,
        false => PLAIN,
    }
}

/// A connected contestant.
pub(crate) enum Contestant {
    Hyper(hyper::client::conn::http2::SendRequest<RawBody>, SocketAddr),
    Tonic(EchoClient<tonic::transport::Channel>),
    Mesh(EchoClient<mesh_tonic::Channel>, String),
}

/// The raw body of a unary request: one frame.
type RawBody = StreamBody<
    futures_util::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 1>>,
>;

/// Connects a contestant.
pub(crate) async fn connect(name: &str, server: &Ready) -> Result<Contestant, BoxError> {
    Ok(match name {
        "hyper" => {
            let stream = tokio::net::TcpStream::connect(server.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await?;
            tokio::spawn(connection);
            Contestant::Hyper(sender, server.address)
        }
        PLAIN => {
            let endpoint =
                tonic::transport::Endpoint::from_shared(format!("http://{}", server.address))?;
            Contestant::Tonic(EchoClient::new(endpoint.connect().await?))
        }
        SECURED => {
            let Pem { chain, key, roots } = &server.client;
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(roots))
                .identity(Identity::from_pem(chain, key))
                .domain_name(SERVER_NAME);
            let endpoint =
                tonic::transport::Endpoint::from_shared(format!("https://{}", server.tls_address))?
                    .tls_config(tls)?;
            Contestant::Tonic(EchoClient::new(endpoint.connect().await?))
        }
        "mesh" => Contestant::Mesh(mesh(server, TARGET).await?, loaded::FEATURES.to_owned()),
        "mesh-mtls" => {
            let features = format!("mTLS, server's identity checked; {}", loaded::FEATURES);
            Contestant::Mesh(mesh(server, SECURED_TARGET).await?, features)
        }
        other => return Err(format!("unknown contestant {other:?}").into()),
    })
}

async fn mesh(server: &Ready, target: &str) -> Result<EchoClient<mesh_tonic::Channel>, BoxError> {
    let bootstrap = Bootstrap::from_json(&server.bootstrap)?;
    let mesh = Mesh::builder().bootstrap(bootstrap).build().await?;
    let channel = mesh_tonic::channel(&mesh, target)?.wait_for_ready(true);
    channel.ready().await?;
    let mut client = EchoClient::new(channel);
    // Under valgrind a handshake may take longer than the deadline of the call that waits for it.
    let mut first = client.unary(request(&loaded::metadata())).await;
    for _ in 0..20 {
        if first.is_ok() {
            break;
        }
        first = client.unary(request(&loaded::metadata())).await;
    }
    first?;
    Ok(client)
}

/// The control plane of the contestants that want one, with everything on.
pub(crate) async fn control_plane(
    address: SocketAddr,
    tls_address: SocketAddr,
    files: &FileWatcherConfig,
) -> ControlPlane {
    let control_plane = ControlPlane::start().await;
    control_plane.certificate_provider(PROVIDER, files.clone());
    loaded::configure(&control_plane, address);
    let tls = Tls::trust(PROVIDER)
        .present(PROVIDER)
        .san(SanMatch::uri(SERVER_ID));
    loaded::configure_as(&control_plane, SECURED_TARGET, tls_address, Some(tls));
    control_plane
}

impl bench::roles::Contestant for Contestant {
    type Caller = Caller;

    fn features(&self) -> String {
        match self {
            Contestant::Hyper(..) => "one connection, SendRequest, no codec".to_owned(),
            Contestant::Tonic(..) => "tonic::transport::Channel, defaults".to_owned(),
            Contestant::Mesh(_, features) => features.clone(),
        }
    }

    fn caller(&self) -> Caller {
        match self {
            Contestant::Hyper(sender, address) => Caller::Hyper(sender.clone(), *address),
            Contestant::Tonic(client) => Caller::Tonic(client.clone(), loaded::metadata()),
            Contestant::Mesh(client, _) => Caller::Mesh(client.clone(), loaded::metadata()),
        }
    }
}

/// Makes one call after another.
pub(crate) enum Caller {
    Hyper(hyper::client::conn::http2::SendRequest<RawBody>, SocketAddr),
    Tonic(EchoClient<tonic::transport::Channel>, MetadataMap),
    Mesh(EchoClient<mesh_tonic::Channel>, MetadataMap),
}

impl bench::Caller for Caller {
    async fn call(&mut self) -> Result<(), BoxError> {
        let reply = match self {
            Caller::Hyper(sender, address) => raw_call(sender, *address, &message()).await?,
            Caller::Tonic(client, metadata) => client.unary(request(metadata)).await?.into_inner(),
            Caller::Mesh(client, metadata) => client.unary(request(metadata)).await?.into_inner(),
        };
        if reply.payload != PAYLOAD || reply.server != "bench" {
            return Err("the answer is not the echo".into());
        }
        Ok(())
    }
}

async fn raw_call(
    sender: &mut hyper::client::conn::http2::SendRequest<RawBody>,
    address: SocketAddr,
    message: &EchoRequest,
) -> Result<EchoReply, BoxError> {
    let mut framed = BytesMut::with_capacity(5 + message.encoded_len());
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    message.encode(&mut framed)?;
    let body = StreamBody::new(futures_util::stream::iter([Ok(Frame::data(
        framed.freeze(),
    ))]));
    let mut request = Request::post(format!("http://{address}{PATH}")).body(body)?;
    let headers = request.headers_mut();
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let collected = sender
        .send_request(request)
        .await?
        .into_body()
        .collect()
        .await?;
    let status = collected
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"));
    if status.is_none_or(|status| status != "0") {
        return Err(format!("grpc-status {status:?}").into());
    }
    let mut bytes = collected.to_bytes();
    let message = bytes.split_off(5);
    Ok(EchoReply::decode(message)?)
}
