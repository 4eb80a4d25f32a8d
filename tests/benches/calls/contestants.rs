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
    loaded::{self, HEADERS, PATH, TARGET, request},
    pb::{EchoReply, EchoRequest, echo_client::EchoClient},
};
use prost::Message;
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use crate::{server::Ready, shape::Shape};

/// All contestants.
pub(crate) const NAMES: [&str; 10] = [
    PLAIN,
    HYPER,
    OURS,
    TONIC_XDS,
    ENVOYS,
    SECURED,
    OURS_SECURED,
    ENVOYS_SECURED,
    CORE,
    CORE_XDS,
];
pub(crate) const PLAIN: &str = "tonic";
pub(crate) const HYPER: &str = "hyper";
pub(crate) const OURS: &str = "mesh";
pub(crate) const TONIC_XDS: &str = "tonic-xds";
/// tonic's channel, an Envoy beside it and one beside the server.
pub(crate) const ENVOYS: &str = "envoys";
pub(crate) const SECURED: &str = "tonic-mtls";
pub(crate) const OURS_SECURED: &str = "mesh-mtls";
/// The same with mTLS between the Envoys.
pub(crate) const ENVOYS_SECURED: &str = "envoys-mtls";
/// gRPC C-core from Python, with the server's address and with a target of xDS: the two differ by what
/// its mesh adds.
pub(crate) const CORE: &str = "c-core";
pub(crate) const CORE_XDS: &str = "c-core-xds";
/// Who the server is, and what tonic calls it.
pub(crate) const SERVER_ID: &str = "spiffe://bench/echo";
pub(crate) const SERVER_NAME: &str = "echo.bench";
pub(crate) const CLIENT_ID: &str = "spiffe://bench/client";
/// The service that is reached over mTLS.
const SECURED_TARGET: &str = "secured.bench:50051";
/// The service that C-core calls: without a deadline from its route, which it reckons in cycles of the
/// processor, whose counter in a virtual machine may be far from its clock.
pub(crate) const CORE_TARGET: &str = "core.bench:50051";
/// The certificate provider of the bootstrap.
const PROVIDER: &str = "default";

/// The contestant that `name` is compared with.
pub(crate) fn baseline_of(name: &str) -> &'static str {
    match name {
        SECURED | OURS_SECURED | ENVOYS_SECURED => SECURED,
        CORE | CORE_XDS => CORE,
        _ => PLAIN,
    }
}

/// A connected contestant, and what its calls are.
pub(crate) struct Contestant {
    client: Client,
    features: String,
    shape: Shape,
}

#[derive(Clone)]
enum Client {
    Hyper(hyper::client::conn::http2::SendRequest<RawBody>, SocketAddr),
    Tonic(EchoClient<tonic::transport::Channel>),
    Mesh(EchoClient<mesh_tonic::Channel>),
    #[cfg(feature = "tonic-xds")]
    TonicXds(EchoClient<crate::tonic_xds::Channel>),
}

/// The raw body of a unary request: one frame.
type RawBody = StreamBody<
    futures_util::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 1>>,
>;

/// Connects a contestant.
pub(crate) async fn connect(
    name: &str,
    server: &Ready,
    shape: Shape,
) -> Result<Contestant, BoxError> {
    let (client, features) = match name {
        HYPER => {
            let stream = tokio::net::TcpStream::connect(server.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await?;
            tokio::spawn(connection);
            let client = Client::Hyper(sender, server.address);
            (client, "one connection, SendRequest, no codec".to_owned())
        }
        PLAIN => (tonic(server).await?, "Channel, defaults".to_owned()),
        ENVOYS | ENVOYS_SECURED => {
            let features =
                "tonic's Channel; two Envoys, one worker each, with our route, retries, \
                            circuit breaker, timeout and fault filter"
                    .to_owned();
            (tonic(server).await?, features)
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
            let client = Client::Tonic(EchoClient::new(endpoint.connect().await?));
            (client, "Channel, mTLS".to_owned())
        }
        OURS => {
            let client = Client::Mesh(mesh(server, TARGET).await?);
            (client, loaded::FEATURES.to_owned())
        }
        OURS_SECURED => {
            let features = format!("mTLS, server's identity checked; {}", loaded::FEATURES);
            let client = Client::Mesh(mesh(server, SECURED_TARGET).await?);
            (client, features)
        }
        TONIC_XDS => tonic_xds(server).await?,
        other => return Err(format!("unknown contestant {other:?}").into()),
    };
    Ok(Contestant {
        client,
        features,
        shape,
    })
}

async fn tonic(server: &Ready) -> Result<Client, BoxError> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address))?;
    Ok(Client::Tonic(EchoClient::new(endpoint.connect().await?)))
}

#[cfg(feature = "tonic-xds")]
async fn tonic_xds(server: &Ready) -> Result<(Client, String), BoxError> {
    let client = crate::tonic_xds::connect(server).await?;
    Ok((
        Client::TonicXds(client),
        crate::tonic_xds::FEATURES.to_owned(),
    ))
}

#[cfg(not(feature = "tonic-xds"))]
async fn tonic_xds(_: &Ready) -> Result<(Client, String), BoxError> {
    Err("it is left out of this build: add --features tonic-xds".into())
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
    let limit = Some(loaded::DEADLINE);
    loaded::configure_as(
        &control_plane,
        SECURED_TARGET,
        tls_address,
        Some(tls),
        limit,
    );
    loaded::configure_as(&control_plane, CORE_TARGET, address, None, None);
    control_plane
}

impl bench::roles::Contestant for Contestant {
    type Caller = Caller;

    fn features(&self) -> String {
        self.features.clone()
    }

    fn caller(&self) -> Caller {
        Caller {
            client: self.client.clone(),
            metadata: loaded::metadata(),
            shape: self.shape.clone(),
        }
    }
}

/// Makes one call after another.
pub(crate) struct Caller {
    client: Client,
    metadata: MetadataMap,
    shape: Shape,
}

impl bench::Caller for Caller {
    async fn call(&mut self) -> Result<(), BoxError> {
        let (metadata, shape) = (&self.metadata, &self.shape);
        match &mut self.client {
            Client::Hyper(sender, address) => {
                let reply = raw_call(sender, *address, &shape.message()).await;
                reply.and_then(|reply| shape.check(&reply.payload, &reply.server))
            }
            Client::Tonic(client) => shape.call(client, metadata).await,
            Client::Mesh(client) => shape.call(client, metadata).await,
            #[cfg(feature = "tonic-xds")]
            Client::TonicXds(client) => shape.call(client, metadata).await,
        }
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
