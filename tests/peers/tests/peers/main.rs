//! Ours and gRPC C-core under one control plane. Start it with `tests/peers/run`.

mod dialect;
mod identity;
mod plaintext;
mod policy;
mod world;
