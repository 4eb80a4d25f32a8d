//! Ours, gRPC C-core and Envoy. Start it with `tests/peers/run`.

mod dialect;
mod envoy;
mod histories;
mod identity;
mod plaintext;
mod policy;
mod status;
mod world;
