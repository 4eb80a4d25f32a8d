//! The process of one client.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use mesh_core::{Mesh, bootstrap::Bootstrap};
use mesh_tests::{
    bench::{self, BoxError, Pem, roles},
    loaded::HEADERS,
};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::{
    ALLOCATOR,
    app::ITEM,
    contestants::{Contestant, Who},
    scene::{FEATURES, SERVER_NAME},
};

/// What a client is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) contestant: Contestant,
    /// What is asked for.
    pub(crate) url: String,
    /// The way to the control plane, for whom that concerns.
    pub(crate) bootstrap: String,
    pub(crate) pem: Pem,
}

pub(crate) fn run() -> Result<(), BoxError> {
    roles::client(ALLOCATOR, false, connect)
}

struct Connected {
    caller: Caller,
    mtls: bool,
}

/// Makes one request after another.
#[derive(Clone)]
struct Caller {
    client: Client,
    uri: Uri,
    version: Version,
}

#[derive(Clone)]
enum Client {
    Hyper(HyperClient<HttpConnector, Empty<Bytes>>),
    HyperTls(HyperClient<HttpsConnector<HttpConnector>, Empty<Bytes>>),
    Mesh(mesh_hyper::Client),
}

async fn connect(order: Order) -> Result<Connected, BoxError> {
    let Contestant { who, http2, mtls } = order.contestant;
    let mut builder = HyperClient::builder(TokioExecutor::new());
    builder.http2_only(http2).pool_timer(TokioTimer::new());
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = match (who, mtls) {
        (Who::Timed | Who::Lean, _) => return Err("there is a server only".into()),
        (Who::Hyper, false) => Client::Hyper(builder.build(connector)),
        (Who::Hyper, true) => {
            connector.enforce_http(false);
            let secured = HttpsConnectorBuilder::new()
                .with_tls_config(order.pem.client_config(&[])?)
                .https_only()
                .with_server_name_resolver(FixedServerNameResolver::new(ServerName::try_from(
                    SERVER_NAME,
                )?));
            Client::HyperTls(match http2 {
                true => builder.build(secured.enable_http2().wrap_connector(connector)),
                false => builder.build(secured.enable_http1().wrap_connector(connector)),
            })
        }
        (Who::Mesh, _) => {
            let bootstrap = Bootstrap::from_json(&order.bootstrap)?;
            let mesh = Mesh::builder().bootstrap(bootstrap).build().await?;
            Client::Mesh(mesh_hyper::Client::new(&mesh))
        }
    };
    let version = match http2 {
        true => Version::HTTP_2,
        false => Version::HTTP_11,
    };
    let mut caller = Caller {
        client,
        uri: order.url.parse()?,
        version,
    };
    bench::Caller::call(&mut caller).await?;
    Ok(Connected { caller, mtls })
}

impl roles::Contestant for Connected {
    type Caller = Caller;

    fn features(&self) -> String {
        match &self.caller.client {
            Client::Hyper(_) => "hyper-util's legacy client, defaults".to_owned(),
            Client::HyperTls(_) => "hyper-util's legacy client, hyper-rustls, defaults".to_owned(),
            Client::Mesh(_) if self.mtls => {
                format!("mTLS, server's identity checked; {FEATURES}")
            }
            Client::Mesh(_) => FEATURES.to_owned(),
        }
    }

    fn caller(&self) -> Caller {
        self.caller.clone()
    }
}

impl bench::Caller for Caller {
    async fn call(&mut self) -> Result<(), BoxError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        for (name, value) in HEADERS {
            let headers = request.headers_mut();
            headers.insert(name, HeaderValue::from_static(value));
        }
        match &self.client {
            Client::Hyper(client) => self.check(client.request(request).await?).await,
            Client::HyperTls(client) => self.check(client.request(request).await?).await,
            Client::Mesh(client) => self.check(client.request(request).await?).await,
        }
    }
}

impl Caller {
    async fn check<B>(&self, response: Response<B>) -> Result<(), BoxError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(Into::into)?.to_bytes();
        match head.status == StatusCode::OK && head.version == self.version && body == ITEM {
            true => Ok(()),
            false => Err(format!("not the item: {head:?} {body:?}").into()),
        }
    }
}
