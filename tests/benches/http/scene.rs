//! The control plane, the certificates of all, and the processes.

use std::{net::SocketAddr, path::Path, time::Duration};

use mesh_core::{
    config::HttpProtocol,
    testing::{
        CertificateAuthority, ControlPlane, Leaf, ListenerTls, Permission, Principal, Rbac, Retry,
        Route, SanMatch, Tls,
        envoy_types::pb::envoy::{
            extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
            r#type::v3::FractionalPercent,
        },
    },
};
use mesh_tests::{
    bench::{BoxError, Folder, Pem, Process},
    loaded::HEADERS,
};

use crate::{
    app::PATH,
    client,
    contestants::{Contestant, Who},
    server,
};

/// What is on in our clients, in words.
pub(crate) const FEATURES: &str = "xDS; route with 3 header matchers, weighted split 90/10, retry \
     policy, circuit breaker, 15 s timeout, fault filter at 0 %, recorder";

pub(crate) const SERVER_ID: &str = "spiffe://bench/items";
pub(crate) const SERVER_NAME: &str = "items.bench";
pub(crate) const CLIENT_ID: &str = "spiffe://bench/client";
/// The certificate provider of clients, and that of servers.
const CLIENTS: &str = "clients";
const SERVERS: &str = "servers";

pub(crate) struct Scene {
    control_plane: ControlPlane,
    /// With the files of each, as Envoy wants them.
    pub(crate) server: (Pem, Folder),
    pub(crate) client: (Pem, Folder),
}

/// A server process.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Scene {
    pub(crate) async fn new() -> Result<Self, BoxError> {
        let ca = CertificateAuthority::new("bench");
        let control_plane = ControlPlane::start().await;
        let side = |provider, leaf| {
            let pem = Pem::issue(&ca, leaf);
            let folder = Folder::new(provider)?;
            control_plane.certificate_provider(provider, pem.write(&folder)?);
            Ok::<_, BoxError>((pem, folder))
        };
        let server = side(SERVERS, Leaf::spiffe(SERVER_ID).dns(SERVER_NAME))?;
        let client = side(CLIENTS, Leaf::spiffe(CLIENT_ID))?;
        Ok(Self {
            control_plane,
            server,
            client,
        })
    }

    /// Starts a server and waits until it serves.
    pub(crate) fn server(
        &self,
        contestant: Contestant,
        callgrind: Option<&Path>,
    ) -> Result<Served, BoxError> {
        let name = contestant.name();
        let mut process = Process::start(&name, &["--role", "server"], callgrind)?;
        let order = server::Order {
            contestant,
            bootstrap: self.control_plane.bootstrap_json("bench"),
            pem: self.server.0.clone(),
        };
        let address = process.ask(&serde_json::to_string(&order)?)?.parse()?;
        let mut listener = self.control_plane.server(address);
        if contestant.mtls {
            let tls = ListenerTls::present(SERVERS).require_client(CLIENTS);
            listener = listener.tls(tls).rbac(ten_rules());
        }
        listener.apply();
        match &*process.answer()? {
            "serving" => Ok(Served { process, address }),
            other => Err(format!("{name} said {other:?}").into()),
        }
    }

    /// Starts a client of the server at `address` and waits until it has had an answer.
    pub(crate) fn client(
        &self,
        contestant: Contestant,
        address: SocketAddr,
        callgrind: Option<&Path>,
    ) -> Result<Process, BoxError> {
        let name = contestant.name();
        let url = match contestant.who {
            Who::Mesh => format!("http://{}{PATH}", self.service(contestant, address)),
            _ if contestant.mtls => format!("https://{address}{PATH}"),
            _ => format!("http://{address}{PATH}"),
        };
        let order = client::Order {
            contestant,
            url,
            bootstrap: self.control_plane.bootstrap_json("bench"),
            pem: self.client.0.clone(),
        };
        let mut process = Process::start(&name, &["--role", "client"], callgrind)?;
        process.ask(&serde_json::to_string(&order)?)?;
        Ok(process)
    }

    /// The name of the service with one endpoint, which has everything on.
    fn service(&self, contestant: Contestant, address: SocketAddr) -> String {
        let name = format!("{}-{}.bench:80", contestant.name(), address.port());
        let [tenant, version, shard] = HEADERS;
        let retry = Retry::conditions(["5xx", "reset", "connect-failure"]).times(2);
        let route = Route::path(PATH)
            .header(tenant.0, tenant.1)
            .header_prefix(version.0, "v7")
            .header_present(shard.0, true)
            .split(&[("v1", 90), ("v2", 10)])
            .retry(retry)
            .timeout(Duration::from_secs(15));
        let tls = Tls::trust(CLIENTS).present(CLIENTS);
        let tls = tls.san(SanMatch::uri(SERVER_ID));
        let protocol = match contestant.http2 {
            true => HttpProtocol::Http2,
            false => HttpProtocol::Http1,
        };
        let mut service = self.control_plane.service(&*name);
        for (version, weight) in [("v1", 90), ("v2", 10)] {
            service = service
                .version(version)
                .weight(weight)
                .endpoint(address)
                .protocol(protocol)
                .tls(contestant.mtls.then(|| tls.clone()));
        }
        service
            .max_requests(1024)
            .route(route)
            .http_filter("fault", &no_fault())
            .apply();
        name
    }
}

/// Nine that do not apply, and the one that lets the client in.
fn ten_rules() -> Rbac {
    let mut rbac = Rbac::allow();
    for number in 0..9 {
        let other = Principal::identity(format!("spiffe://bench/other-{number}"));
        let path = Permission::path(format!("/others/{number}"));
        rbac = rbac.policy(format!("other-{number}"), path, other);
    }
    let client = Principal::identity(CLIENT_ID);
    rbac.policy("client", Permission::path(PATH), client)
}

/// A fault filter that never does anything.
fn no_fault() -> HttpFault {
    HttpFault {
        abort: Some(FaultAbort {
            percentage: Some(FractionalPercent::default()),
            error_type: Some(ErrorType::HttpStatus(503)),
            ..FaultAbort::default()
        }),
        ..HttpFault::default()
    }
}
