//! A plain HTTP client of the mesh.
//!
//! ```text
//! GRPC_XDS_BOOTSTRAP=bootstrap.json \
//!     cargo run --example http_call -- --url http://catalog.shop:8080/items -n 100 --concurrency 4
//! ```
//!
//! Writes a line of JSON for each response, then a summary. `--help` lists the flags.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use mesh_core::Mesh;
use mesh_examples::{
    http::call::{self, Flags},
    program,
};

#[tokio::main]
async fn main() -> ExitCode {
    let flags = call::parse(std::env::args().skip(1));
    program::run("http_call", flags, call::help(), run).await
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let mesh = Mesh::from_env().await?;
    let mut output = Ok(());
    let mut write = |line: String| {
        if output.is_ok() {
            output = writeln!(io::stdout(), "{line}");
        }
    };
    let summary = call::run(&mesh, flags, |line| {
        write(serde_json::to_string(line).expect("plain data is JSON"));
    });
    let summary = summary.await;
    output?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&summary)?)?;
    Ok(())
}
