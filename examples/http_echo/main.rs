//! A plain HTTP server under the mesh, which answers with what it saw.
//!
//! ```text
//! GRPC_XDS_BOOTSTRAP=bootstrap.json cargo run --example http_echo -- --port=8080
//! ```
//!
//! HTTP/1.1 and HTTP/2 on one port. The bootstrap names the listener that says who may connect and
//! how: it needs a `server_listener_resource_name_template` (gRFC A36). `--help` lists the
//! flags. The first line of standard output says where it listens.

use std::{
    error::Error,
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
};

use mesh_core::Mesh;
use mesh_examples::{
    http::echo::{self, Flags},
    program,
};
use mesh_hyper::Server;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = echo::parse(std::env::args().skip(1));
    program::run("http_echo", flags, echo::help(), run).await
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let stop = program::stop_signal()?;
    let mesh = Mesh::from_env().await?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, flags.port)).await;
    let listener = listener.map_err(|error| {
        let text = format!("cannot listen on port {}: {error}", flags.port);
        io::Error::new(error.kind(), text)
    })?;
    writeln!(io::stdout(), "serving on {}", listener.local_addr()?)?;
    let service = echo::router(&flags.server_id);
    Server::new(&mesh)
        .serve_with_shutdown(listener, service, stop)
        .await?;
    Ok(())
}
