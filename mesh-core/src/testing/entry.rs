//! Everything that reads bytes which others have made: for fuzzing and for property tests.
//!
//! No input makes one of them panic, hang, or take more than time and memory in proportion to it.

use std::sync::{Arc, LazyLock};

use envoy_types::pb::{envoy::service::discovery::v3::Resource as Wrapper, google::protobuf::Any};
use prost::Name;
use rustls::pki_types::CertificateDer;

use super::render::type_url;
use crate::{
    bootstrap::Bootstrap,
    config::Kind,
    control::{
        istio_ca, snapshot,
        xds::{
            self, FilterRegistry, PolicyRegistry, StatusRequest,
            decode::{Decode, Decoder},
        },
    },
    identity::{self, Identity, PeerCertificate, Roots},
    orca,
};

mod seeds;

/// One way in for bytes.
#[derive(Debug, Clone, Copy)]
pub struct EntryPoint {
    /// Its name, which a fuzz target has, too.
    pub name: &'static str,
    /// Reads bytes. What comes of it does not matter, as long as it ends.
    pub read: fn(&[u8]),
    /// Good inputs, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: &[EntryPoint] = &[
    // What a control plane sends: each type of resource, wrapped ones, and whole responses of both
    // variants of ADS, to what watchers are told.
    EntryPoint {
        name: "listener",
        read: |bytes| resource(Kind::Listener, bytes),
        seeds: || seeds::resources(Kind::Listener),
    },
    EntryPoint {
        name: "route",
        read: |bytes| resource(Kind::Route, bytes),
        seeds: || seeds::resources(Kind::Route),
    },
    EntryPoint {
        name: "cluster",
        read: |bytes| resource(Kind::Cluster, bytes),
        seeds: || seeds::resources(Kind::Cluster),
    },
    EntryPoint {
        name: "endpoints",
        read: |bytes| resource(Kind::Endpoints, bytes),
        seeds: || seeds::resources(Kind::Endpoints),
    },
    EntryPoint {
        name: "secret",
        read: |bytes| resource(Kind::Secret, bytes),
        seeds: seeds::secrets,
    },
    EntryPoint {
        name: "wrapped",
        read: wrapped,
        seeds: seeds::wrapped,
    },
    EntryPoint {
        name: "response",
        read: |bytes| xds::receive(bytes, false, seeds::watched(), decoder()),
        seeds: seeds::responses,
    },
    EntryPoint {
        name: "delta_response",
        read: |bytes| xds::receive(bytes, true, seeds::watched(), decoder()),
        seeds: seeds::delta_responses,
    },
    EntryPoint {
        name: "load_response",
        read: xds::receive_load_response,
        seeds: seeds::load_responses,
    },
    // What is configured here.
    EntryPoint {
        name: "bootstrap",
        read: |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                let _ = Bootstrap::from_json(text);
            }
        },
        seeds: seeds::bootstraps,
    },
    EntryPoint {
        name: "target",
        read: target,
        seeds: seeds::targets,
    },
    #[cfg(feature = "files")]
    EntryPoint {
        name: "files",
        read: |bytes| crate::control::files::read_bytes(bytes, &**decoder()),
        seeds: seeds::files,
    },
    EntryPoint {
        name: "snapshot",
        read: snapshot::read_bytes,
        seeds: seeds::snapshots,
    },
    // Whom we trust, who we are and who others are.
    EntryPoint {
        name: "pem",
        read: pem,
        seeds: seeds::pem,
    },
    EntryPoint {
        name: "bundle_map",
        read: identity::read_bundle_map,
        seeds: seeds::bundle_maps,
    },
    EntryPoint {
        name: "certificate",
        read: |bytes| {
            let chain = [CertificateDer::from(bytes.to_vec())];
            let _ = PeerCertificate::parse(&chain);
        },
        seeds: seeds::certificates,
    },
    EntryPoint {
        name: "istio_ca",
        read: istio_ca::read_bytes,
        seeds: seeds::istio_ca,
    },
    // What endpoints say of themselves.
    EntryPoint {
        name: "endpoint_load",
        read: orca::read_bytes,
        seeds: seeds::endpoint_loads,
    },
    // What is asked of us (gRFC A40).
    EntryPoint {
        name: "status_request",
        read: |bytes| {
            let _ = StatusRequest::decode(bytes);
        },
        seeds: seeds::status_requests,
    },
];

/// Lets the entry point of this name read `bytes`.
///
/// # Panics
/// If there is none.
pub fn read(name: &str, bytes: &[u8]) {
    (entry(name).read)(bytes);
}

/// The good inputs of the entry point of this name.
///
/// # Panics
/// If there is none.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    (entry(name).seeds)()
}

fn entry(name: &str) -> &'static EntryPoint {
    let entry = ALL.iter().find(|entry| entry.name == name);
    entry.unwrap_or_else(|| panic!("no entry point is called {name:?}"))
}

fn decoder() -> &'static Arc<dyn Decode> {
    static DECODER: LazyLock<Arc<dyn Decode>> = LazyLock::new(|| {
        Arc::new(Decoder::new(
            FilterRegistry::standard(),
            PolicyRegistry::standard(),
            ["default".to_owned()],
        ))
    });
    &DECODER
}

fn resource(kind: Kind, bytes: &[u8]) {
    let raw = Any {
        type_url: type_url(kind).to_owned(),
        value: bytes.to_vec(),
    };
    if let Ok(decoded) = decoder().decode(kind, &raw) {
        // Equality is what tells whether a value is new: it must see that it is not.
        assert!(decoded.value == decoded.value.clone(), "{decoded:?}");
    }
}

fn wrapped(bytes: &[u8]) {
    for kind in Kind::ALL {
        let raw = Any {
            type_url: Wrapper::type_url(),
            value: bytes.to_vec(),
        };
        let _ = decoder().decode(kind, &raw);
    }
}

/// As a target, under a bootstrap with templates and an authority.
fn target(bytes: &[u8]) {
    static BOOTSTRAP: LazyLock<Bootstrap> =
        LazyLock::new(|| Bootstrap::from_json(seeds::BOOTSTRAP).expect("a test reads it, too"));
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(name) = BOOTSTRAP.listener_name(text) {
            let _ = BOOTSTRAP.servers_for(&name.resource);
        }
        let _ = BOOTSTRAP.servers_for(text);
    }
}

/// As a file that may be a chain, a key, roots, or all of them.
fn pem(bytes: &[u8]) {
    static CRYPTO: LazyLock<Option<Arc<rustls::crypto::CryptoProvider>>> =
        LazyLock::new(identity::default_crypto_provider);
    let _ = Roots::from_pem(bytes);
    if let Some(crypto) = &*CRYPTO {
        let _ = Identity::from_pem(bytes, bytes, crypto);
    }
}

#[cfg(test)]
mod tests;
