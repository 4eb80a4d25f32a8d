//! One instance of the greeter: a service that can be killed like a process.

use std::{io, net::SocketAddr, sync::Arc, thread};

use http_body_util::BodyExt;
use mesh_core::{Mesh, bootstrap::Bootstrap};
use mesh_examples::greeter::{
    GreetReply, GreetRequest,
    greeter_server::{Greeter, GreeterServer},
};
use mesh_tonic::{Server, ServingMode};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tonic::{Request, Response, Status};

use crate::{
    audit::Audit,
    catalog::{OFFER_URL, Offer},
    chain, golden,
};

/// An instance that has a port, and serves nothing yet.
pub(crate) struct Planned {
    pub(crate) name: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) address: SocketAddr,
    version: &'static str,
    listener: std::net::TcpListener,
}

/// A running instance. Its thread ends with it.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    /// The mesh as the instance sees it.
    pub(crate) mesh: Mesh,
    kill: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

struct Service {
    instance: &'static str,
    version: &'static str,
    zone: &'static str,
    /// Plain HTTP out: calls made in a handler inherit what is left of its caller's time.
    catalog: mesh_hyper::Client,
}

impl Planned {
    /// Takes a port of the system's choice.
    pub(crate) fn new(
        name: &'static str,
        version: &'static str,
        zone: &'static str,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            name,
            zone,
            address: listener.local_addr()?,
            version,
            listener,
        })
    }

    /// Starts to serve under the mesh of `bootstrap`; returns once it does.
    pub(crate) async fn start(
        self,
        bootstrap: Bootstrap,
        audit: &Arc<Audit>,
    ) -> Result<Instance, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Outside of this example it would say `Mesh::from_env().await?`.
        let mesh = Mesh::builder()
            .bootstrap(bootstrap)
            .filters(audit.filters())
            .workload(golden::workload("greeter", self.version))
            .build()
            .await?;
        let (kill, killed) = oneshot::channel();
        let (told, mut serving) = mpsc::unbounded_channel();
        let server = Server::new(&mesh)
            .on_serving(move |state| {
                let _ = told.send(state.mode.clone());
            })
            .add_service(GreeterServer::new(Service {
                instance: self.name,
                version: self.version,
                zone: self.zone,
                catalog: mesh_hyper::Client::new(&mesh),
            }));
        let listener = self.listener;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let serve = async {
                    let listener = TcpListener::from_std(listener)?;
                    Ok::<_, Box<dyn std::error::Error>>(server.serve(listener).await?)
                };
                tokio::select! {
                    served = serve => {
                        if let Err(error) = served {
                            eprintln!("an instance ended: {error}");
                        }
                    }
                    _ = killed => {}
                }
            });
            // Dropping the runtime here closes every socket, whatever is going on: no GOAWAY.
        });
        while serving.recv().await.ok_or("an instance ended early")? != ServingMode::Serving {}
        Ok(Instance {
            address: self.address,
            mesh,
            kill,
            thread,
        })
    }
}

impl Instance {
    /// Kills the instance: connections break, the port closes.
    pub(crate) fn kill(self) {
        drop(self.kill);
        let _ = self.thread.join();
    }
}

impl Service {
    /// What the catalog offers.
    async fn offer(&self) -> Result<Offer, Status> {
        let failed = |error| mesh_tonic::Error::from(error).status().clone();
        let response = self.catalog.get(OFFER_URL).await.map_err(failed)?;
        match response.status() {
            http::StatusCode::OK => {}
            http::StatusCode::GATEWAY_TIMEOUT => {
                return Err(Status::deadline_exceeded("the catalog had no time left"));
            }
            status => return Err(Status::unavailable(format!("the catalog says {status}"))),
        }
        let offer = response.into_body().collect().await.map_err(failed)?;
        serde_json::from_slice(&offer.to_bytes())
            .map_err(|error| Status::internal(format!("what the catalog says: {error}")))
    }
}

#[tonic::async_trait]
impl Greeter for Service {
    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        let here = chain::hop(self.instance);
        let offer = self.offer().await?;
        Ok(Response::new(GreetReply {
            message: format!("Hello, {}!", request.into_inner().name),
            instance: self.instance.to_owned(),
            version: self.version.to_owned(),
            zone: self.zone.to_owned(),
            offer: offer.offer,
            hops: vec![here, offer.seen.into()],
        }))
    }
}
