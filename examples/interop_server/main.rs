//! The gRPC project's xDS interop server, under the mesh.
//!
//! ```text
//! GRPC_XDS_BOOTSTRAP=bootstrap.json \
//!     cargo run --example interop_server -- --secure_mode=true --port=8080
//! ```
//!
//! `--help` lists the flags. The first line of standard output says where the services listen.

use std::{
    error::Error,
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
};

use mesh_core::Mesh;
use mesh_examples::{
    interop::{
        TestService,
        flags::{self, ServerCommand, ServerFlags},
        serve_plaintext, serve_secure,
    },
    program,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = flags::parse_server(std::env::args().skip(1)).map(|command| match command {
        ServerCommand::Run(flags) => Some(flags),
        ServerCommand::Help => None,
    });
    program::run("interop_server", flags, flags::server_help(), run).await
}

async fn run(flags: ServerFlags) -> Result<(), Box<dyn Error>> {
    let stop = program::stop_signal()?;
    let hostname = match flags.host_name_override {
        Some(name) => name,
        None => system_hostname()?,
    };
    let service = TestService::new(&hostname, flags.server_id)?;
    if !flags.secure_mode {
        let listener = listen(flags.port).await?;
        writeln!(io::stdout(), "services on {}", listener.local_addr()?)?;
        return Ok(serve_plaintext(service, listener, stop).await?);
    }
    let mesh = Mesh::from_env().await?;
    let listener = listen(flags.port).await?;
    let maintenance = listen(flags.maintenance_port).await?;
    let (at, maintained_at) = (listener.local_addr()?, maintenance.local_addr()?);
    writeln!(
        io::stdout(),
        "services on {at}, maintenance on {maintained_at}"
    )?;
    Ok(serve_secure(&mesh, service, listener, maintenance, stop).await?)
}

/// Listens on every IPv4 address of the host: listeners are called `0.0.0.0:PORT` by the drivers.
async fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    listener.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen on port {port}: {error}"),
        )
    })
}

/// The name of the host, as the kernel or the shell knows it.
fn system_hostname() -> io::Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok());
    let name = name.map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        io::Error::other("the host's name is not known: use --host_name_override=NAME")
    })
}
