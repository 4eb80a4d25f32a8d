//! The gRPC project's xDS interop client, over the mesh.
//!
//! ```text
//! GRPC_XDS_BOOTSTRAP=bootstrap.json \
//!     cargo run --example interop_client -- --server=xds:///greeter.shop:8080 --qps=100
//! ```
//!
//! `--help` lists the flags. The first line of standard output says where the services listen.

use std::{
    error::Error,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
    process::ExitCode,
};

use mesh_core::Mesh;
use mesh_examples::interop::{
    Client, Flags,
    flags::{self, Command},
};
use tokio::net::TcpListener;

/// Exit status of a command line that is not valid.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let flags = match flags::parse(std::env::args().skip(1)) {
        Ok(Command::Run(flags)) => flags,
        Ok(Command::Help) => {
            print!("{}", flags::help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("interop_client: {error}\n--help lists the flags");
            return ExitCode::from(USAGE);
        }
    };
    match run(&flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("interop_client: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let stop = stop_signal()?;
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
    Client::new(flags, channels).run(listener, stop).await?;
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

/// Resolves when the process is asked to end.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves when the process is asked to end.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
