//! gRPC streams that the mesh opens for itself, each on a connection of its own.

mod connect;
mod framing;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod tls;

use std::{fmt, future::Future, path::Path, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2::SendRequest},
};
use mesh_core::{
    Code,
    bootstrap::{CallCreds, ChannelCreds, ServerConfig},
    identity::default_crypto_provider,
    runtime::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture},
};
use rustls::crypto::CryptoProvider;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use self::{
    framing::{Decoder, Framed},
    target::Target,
};
use crate::{
    body::Outgoing,
    conn::{Dial, Driver, Ended, Http2, SystemDial, chain, code_of, handshake},
};

/// The mesh's own gRPC streams, over hyper.
#[derive(Debug, Clone)]
pub struct HyperSideCall {
    dial: Arc<dyn Dial>,
    connect_timeout: Duration,
    crypto: Option<Arc<CryptoProvider>>,
    tls13_only: bool,
}

/// One stream to open.
#[derive(Debug)]
struct Call {
    dial: Arc<dyn Dial>,
    target: Target,
    channel_creds: ChannelCreds,
    call_creds: Vec<CallCreds>,
    path: &'static str,
    metadata: HeaderMap,
    limits: Limits,
    connect_timeout: Duration,
    crypto: Option<Arc<CryptoProvider>>,
    tls13_only: bool,
}

/// gRPC's least time for a connection attempt (connection backoff).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A dead control plane is noticed within the sum of the two.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long the reset of an abandoned stream may take to leave.
const CLOSE: Duration = Duration::from_secs(1);

/// Messages that may wait to be sent.
const SEND_QUEUE: usize = 1;

// === impl HyperSideCall ===

impl HyperSideCall {
    /// Connections through `dial`.
    pub fn with_dial(dial: Arc<dyn Dial>) -> Self {
        Self {
            dial,
            connect_timeout: CONNECT_TIMEOUT,
            crypto: default_crypto_provider(),
            tls13_only: false,
        }
    }

    /// How long a connection may take, from the name's resolution to HTTP/2's SETTINGS. Default
    /// 20 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The cryptography of TLS. Default: [`default_crypto_provider`]; where there is none, servers
    /// with channel credentials `tls` cannot be reached.
    pub fn crypto_provider(mut self, crypto: Arc<CryptoProvider>) -> Self {
        self.crypto = Some(crypto);
        self
    }

    /// Whether nothing older than TLS 1.3 is spoken; default false: TLS 1.2 too.
    pub fn tls13_only(mut self, only: bool) -> Self {
        self.tls13_only = only;
        self
    }
}

/// Through the operating system.
impl Default for HyperSideCall {
    fn default() -> Self {
        Self::with_dial(Arc::new(SystemDial))
    }
}

/// Call credentials are sent over TLS or a Unix domain socket only. Dropping
/// [`Messages::recv`] resets the stream and closes the connection, even if [`Messages::send`] is
/// still there.
impl SideCall for HyperSideCall {
    fn stream(
        &self,
        server: &ServerConfig,
        path: &'static str,
        metadata: HeaderMap,
        limits: Limits,
    ) -> SideCallFuture {
        let name = server.uri.clone();
        let call = Target::of(server).map(|target| Call {
            dial: Arc::clone(&self.dial),
            target,
            channel_creds: server.channel_creds.clone(),
            call_creds: server.call_creds.clone(),
            path,
            metadata,
            limits,
            connect_timeout: self.connect_timeout,
            crypto: self.crypto.clone(),
            tls13_only: self.tls13_only,
        });
        Box::pin(async move {
            let opened = async { call?.open().await }.await;
            opened.map_err(|reason| SideCallError {
                server: name,
                reason,
            })
        })
    }
}

// === impl Call ===

impl Call {
    /// Connects and puts the request on the connection.
    async fn open(self) -> Result<Messages, String> {
        let limit = self.connect_timeout;
        let deadline = Instant::now() + limit;
        let authorization = self.authorization().await?;

        let io = self.connect(deadline).await?;
        let options = Http2 {
            keepalive: Some(KEEPALIVE),
            ..Http2::default()
        };
        let shaken = timeout_at(deadline, async {
            let (sender, mut driver) = handshake(io, &options).await.map_err(|e| chain(&e))?;
            match driver.settings().await {
                Ok(_) => Ok((sender, driver)),
                Err(Ended::Broken(error)) => Err(chain(&error)),
                Err(_) => Err("it closed the connection".to_owned()),
            }
        });
        let (sender, mut driver) = match shaken.await {
            Ok(shaken) => shaken.map_err(|error| format!("it does not speak HTTP/2: {error}"))?,
            Err(_) => {
                return Err(format!(
                    "it accepted the connection but sent no HTTP/2 SETTINGS within {limit:?}"
                ));
            }
        };

        let (send, queue) = mpsc::channel(SEND_QUEUE);
        let (body, keeper) = Outgoing::new(Framed::new(queue));
        let request = self.request(authorization, body)?;
        let (received, recv) = mpsc::channel(1);
        let limits = self.limits;
        tokio::spawn(async move {
            let status = run(sender, request, &mut driver, &received, limits).await;
            keeper.cancel();
            let close = async move {
                // Lets a reset out. A server that does not read is not waited for.
                let _ = timeout(CLOSE, driver.finish()).await;
            };
            let tell = async move {
                if let Err(status) = status {
                    // Nobody may be there to hear it.
                    let _ = received.send(Err(status)).await;
                }
            };
            tokio::join!(close, tell);
        });
        Ok(Messages { send, recv })
    }

    fn request(
        &self,
        authorization: Vec<HeaderValue>,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, String> {
        let scheme = match &self.channel_creds {
            ChannelCreds::Tls { .. } => "https",
            _ => "http",
        };
        let mut request = Request::post(format!(
            "{scheme}://{}{}",
            self.target.authority(),
            self.path
        ))
        .version(http::Version::HTTP_2)
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(
            header::USER_AGENT,
            concat!("grpc-rust-mesh/", env!("CARGO_PKG_VERSION")),
        )
        .body(body)
        .map_err(|error| format!("its address makes no URI: {error}"))?;
        for (name, value) in &self.metadata {
            request.headers_mut().append(name, value.clone());
        }
        for value in authorization {
            request.headers_mut().append(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// The values of `authorization`, read afresh (gRFC A97).
    async fn authorization(&self) -> Result<Vec<HeaderValue>, String> {
        let private = matches!(self.channel_creds, ChannelCreds::Tls { .. })
            || matches!(self.target, Target::Unix(_));
        if !private && !self.call_creds.is_empty() {
            return Err(
                "call credentials are not sent over plaintext TCP; use channel credentials \"tls\" \
                 or a Unix domain socket"
                    .to_owned(),
            );
        }
        let mut values = Vec::new();
        for creds in &self.call_creds {
            match creds {
                CallCreds::JwtTokenFile(path) => values.push(bearer(path).await?),
                other => return Err(format!("call credentials {other:?} are not supported")),
            }
        }
        Ok(values)
    }
}

async fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let shown = path.display();
    let token = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| format!("cannot read the token file {shown}: {error}"))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(format!("the token file {shown} is empty"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| format!("the token file {shown} holds what no HTTP header can"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The life of a stream: its status, or `Ok` if nobody wants it any more.
async fn run(
    mut sender: SendRequest<Outgoing>,
    request: Request<Outgoing>,
    driver: &mut Driver,
    received: &mpsc::Sender<Result<Bytes, RpcStatus>>,
    limits: Limits,
) -> Result<(), RpcStatus> {
    // `sender` is kept: without it, hyper counts one stream too few, and takes a connection with
    // one stream for an idle one, which gets no PINGs.
    let response = sender.try_send_request(request);
    let mut drive = pin!(async {
        driver.finish().await;
        // What was read before the connection ended is still to be taken.
        std::future::pending::<()>().await;
    });
    tokio::select! {
        biased;
        () = received.closed() => Ok(()),
        () = &mut drive => Ok(()),
        status = read(response, received, limits) => status,
    }
}

/// Reads messages as they are taken, to the stream's status. Nothing is asked of hyper while a
/// message waits to be taken, so the HTTP/2 windows close.
async fn read(
    response: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>>,
    received: &mpsc::Sender<Result<Bytes, RpcStatus>>,
    limits: Limits,
) -> Result<(), RpcStatus> {
    let response = match response.await {
        Ok(response) => response,
        Err(failed) => return Err(broken(failed.error())),
    };
    if let Some(status) = status::of_head(&response) {
        return status;
    }
    let mut body = response.into_body();
    let mut decoder = Decoder::new(limits);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        match frame.into_data() {
            Ok(data) => {
                decoder.push(data);
                while let Some(message) = decoder.next()? {
                    if received.send(Ok(message)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    return status::of_trailers(trailers, &decoder);
                }
            }
        }
    }
    Err(RpcStatus {
        code: Code::Unknown,
        message: "the server ended the stream without a status".to_owned(),
    })
}

fn broken(error: &hyper::Error) -> RpcStatus {
    RpcStatus {
        code: code_of(error),
        message: chain(error),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Host { host, port } => write!(f, "{host}:{port}"),
            Target::Socket(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
