//! One instance of the greeter: an ordinary tonic server that can be killed like a process.

use std::{io, net::SocketAddr, thread};

use mesh_examples::greeter::{
    GreetReply, GreetRequest,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A running instance. Its thread ends with it.
pub(crate) struct Instance {
    pub(crate) zone: &'static str,
    pub(crate) address: SocketAddr,
    kill: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

struct Service {
    instance: &'static str,
    version: &'static str,
    zone: &'static str,
}

impl Instance {
    /// Starts an instance on a port of the system's choice.
    pub(crate) fn start(
        instance: &'static str,
        version: &'static str,
        zone: &'static str,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (kill, killed) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                let service = Service {
                    instance,
                    version,
                    zone,
                };
                let server = tonic::transport::Server::builder()
                    .add_service(GreeterServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    _ = server => {}
                    _ = killed => {}
                }
            });
            // Dropping the runtime here closes every socket, whatever is going on: no GOAWAY.
        });
        Ok(Self {
            zone,
            address,
            kill,
            thread,
        })
    }

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
