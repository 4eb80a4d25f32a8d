//! Compiles the examples' services in pure Rust: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/greeter.proto", "proto/testing.proto"], ["proto"])?;
    // No `connect` functions: clients are made from the mesh's channels.
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
