//! The gRPC project's xDS interop client, over the mesh.
//!
//! ```text
//! GRPC_XDS_BOOTSTRAP=bootstrap.json \
//!     cargo run --example interop_client -- --server=xds:///greeter.shop:8080 --qps=100
//! ```
//!
//! `--help` lists the flags. The first line of standard output says where the services listen: those of
//! the tests' drivers, and that of `grpcdebug` (gRFC A40).

use std::{
    error::Error,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
    process::ExitCode,
};

use mesh_core::Mesh;
use mesh_examples::{
    interop::{
        Client, Flags,
        flags::{self, Command},
    },
    program,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = flags::parse(std::env::args().skip(1)).map(|command| match command {
        Command::Run(flags) => Some(flags),
        Command::Help => None,
    });
    let run = async |flags: Box<Flags>| run(&flags).await;
    program::run("interop_client", flags, flags::help(), run).await
}

async fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let stop = program::stop_signal()?;
    let mesh = Mesh::from_env().await?;
    let channels = (0..flags.num_channels)
        .map(|_| mesh_tonic::channel(&mesh, &flags.server))
        .collect::<Result<Vec<_>, _>>()?;
    let listener = listen(flags.stats_port).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on port {}: {error}", flags.stats_port),
        )
    })?;
    writeln!(io::stdout(), "services on {}", listener.local_addr()?)?;
    Client::new(flags, channels)
        .tell(&mesh)
        .run(listener, stop)
        .await?;
    Ok(())
}

/// Listens on every address of the host, of both families where it has both.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}
