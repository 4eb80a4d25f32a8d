//! One instance of the greeter: a service that can be killed like a process.

use std::{io, net::SocketAddr, sync::Arc, thread};

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

use crate::audit::Audit;

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

#[tonic::async_trait]
impl Greeter for Service {
    async fn greet(&self, request: Request<GreetRequest>) -> Result<Response<GreetReply>, Status> {
        Ok(Response::new(GreetReply {
            message: format!("Hello, {}!", request.into_inner().name),
            instance: self.instance.to_owned(),
            version: self.version.to_owned(),
            zone: self.zone.to_owned(),
        }))
    }
}
