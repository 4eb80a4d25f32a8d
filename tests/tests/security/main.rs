//! Who is let in, who is trusted, and what becomes of it when that changes: both ends are ours.
//!
//! The reference's lists "Server" and "Security client" (grpc-go) are here, by the names that the
//! tests' comments give, except for:
//!
//! | case | where |
//! |---|---|
//! | SecurityConfigChange | [`trust`]: TLS that is turned on drains what is plaintext |
//! | FileWatcherCerts(SPIFFE) | [`client`]: `files_and_trust_bundles` |
//! | InterceptorLeak_RDSUpdate | `tests/leaks/servers.rs` |
//! | what each RBAC rule decides | `tests/peers`, beside gRPC C-core |
//! | filter-chain match | `mesh-core/src/resolve/inbound/select/tests.rs`, with a model |
//! | FilterStateRetention | `mesh-core/src/resolve/inbound/snapshot/tests.rs` |
//!
//! Tests in a module of their own name run for gRPC, and for plain HTTP over HTTP/1.1 and HTTP/2
//! ([`mesh_tests::every_way`]); which do not, and why, is in `tests/README.md`.

mod client;
mod csr;
mod door;
mod istio;
mod leaves;
mod listeners;
mod own_calls;
mod rotation;
mod rules;
mod sds;
mod trust;

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
