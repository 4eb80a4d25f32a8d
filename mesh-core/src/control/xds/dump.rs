//! What is known of every watched resource, for people and for CSDS (gRFC A40).

use std::{sync::Arc, time::SystemTime};

use envoy_types::pb::google::protobuf::Any;

use super::redact::redacted;
use crate::config::{Finding, Kind, ResourceId};

/// Everything that is watched, sorted by kind and name; where several control planes were asked for
/// a resource (gRFC A71), by their order.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ConfigDump {
    /// The first control plane, as the bootstrap names it.
    pub server: Arc<str>,
    /// Who this process says it is.
    pub node_id: Arc<str>,
    /// The watched resources.
    pub resources: Vec<ResourceDump>,
}

/// One watched resource.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResourceDump {
    /// Which one.
    pub id: ResourceId,
    /// The control plane that was asked for it, as the bootstrap names it.
    pub server: Arc<str>,
    /// What became of the last news of it.
    pub status: ResourceStatus,
    /// The value in force, whatever the status.
    pub accepted: Option<AcceptedDump>,
    /// Why the last news was refused, or what the control plane reported instead of a value.
    pub failure: Option<FailureDump>,
}

/// The value in force of a resource.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AcceptedDump {
    /// Version of the last response that it was accepted from.
    pub version: Arc<str>,
    /// When that response came.
    pub last_updated: SystemTime,
    /// As it was received, unwrapped from `Resource`; of a secret, without the private key.
    pub raw: Arc<Any>,
    /// Fields that are not fully in force.
    pub findings: Arc<[Finding]>,
    /// No control plane has sent it to this process: it is what an earlier one has saved
    /// ([`MeshBuilder::snapshot`](crate::MeshBuilder::snapshot)).
    pub stale: bool,
}

/// Trouble with a resource (`UpdateFailureState`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FailureDump {
    /// Version of the response with the trouble.
    pub version: Arc<str>,
    /// When it came.
    pub at: SystemTime,
    /// What is wrong.
    pub details: Arc<str>,
    /// What was refused, if the trouble is with that; of a secret, without the private key.
    pub raw: Option<Arc<Any>>,
}

/// What became of the last news of a resource (`ClientResourceStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResourceStatus {
    /// Asked for; no answer yet.
    Requested,
    /// It does not exist: never sent within the time limit, or deleted.
    DoesNotExist,
    /// Accepted.
    Acked,
    /// Refused.
    Nacked,
    /// The control plane reported an error in place of it (xRFC TP3, gRFC A88).
    ReceivedError,
    /// Not sent within the time limit by a control plane that would have reported a resource that
    /// does not exist (`resource_timer_is_transient_error`, gRFC A88).
    Timeout,
}

// === impl ConfigDump ===

impl ConfigDump {
    /// A fingerprint of what is in force: kinds, names, versions and bytes of accepted resources.
    /// It is the same in every process and build. Equal before and after a response that was
    /// refused as a whole.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        for resource in &self.resources {
            if let Some(accepted) = &resource.accepted {
                hash.field(accepted.raw.type_url.as_bytes());
                hash.field(resource.id.name.as_bytes());
                hash.field(accepted.version.as_bytes());
                hash.field(&accepted.raw.value);
            }
        }
        hash.0
    }
}

// === impl AcceptedDump ===

impl AcceptedDump {
    /// As others may see it.
    pub(super) fn redacted(&self, kind: Kind) -> Self {
        Self {
            raw: redacted(kind, &self.raw),
            ..self.clone()
        }
    }
}

// === impl FailureDump ===

impl FailureDump {
    /// As others may see it.
    pub(super) fn redacted(&self, kind: Kind) -> Self {
        Self {
            raw: self.raw.as_ref().map(|raw| redacted(kind, raw)),
            ..self.clone()
        }
    }
}

/// FNV-1a: the standard library's hashers may change between releases.
pub(in crate::control) struct Fnv(pub(in crate::control) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds `bytes` and their length, so that neighbours cannot run into each other.
    pub(in crate::control) fn field(&mut self, bytes: &[u8]) {
        for &byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(resources: &[(&str, &str, &[u8])]) -> ConfigDump {
        ConfigDump {
            server: "s".into(),
            node_id: "n".into(),
            resources: resources
                .iter()
                .map(|&(name, version, value)| ResourceDump {
                    id: ResourceId::new(Kind::Cluster, name),
                    server: "xds.test:1".into(),
                    status: ResourceStatus::Acked,
                    accepted: Some(AcceptedDump {
                        version: version.into(),
                        last_updated: SystemTime::now(),
                        raw: Arc::new(Any {
                            type_url: "t".into(),
                            value: value.to_vec(),
                        }),
                        findings: Arc::new([]),
                        stale: false,
                    }),
                    failure: None,
                })
                .collect(),
        }
    }

    #[test]
    fn hash_covers_names_versions_and_bytes_and_nothing_else() {
        let base = dump(&[("a", "1", b"x")]);
        assert_eq!(base.hash(), dump(&[("a", "1", b"x")]).hash());
        for other in [
            dump(&[]),
            dump(&[("b", "1", b"x")]),
            dump(&[("a", "2", b"x")]),
            dump(&[("a", "1", b"y")]),
            dump(&[("a1", "", b"x")]),
            dump(&[("a", "1", b"x"), ("b", "1", b"x")]),
        ] {
            assert_ne!(base.hash(), other.hash());
        }
        let mut refused = base.clone();
        refused.resources[0].status = ResourceStatus::Nacked;
        refused.resources[0].failure = Some(FailureDump {
            version: "2".into(),
            at: SystemTime::now(),
            details: "bad".into(),
            raw: None,
        });
        assert_eq!(base.hash(), refused.hash());
        // The value must not depend on the build: tools may store it.
        assert_eq!(dump(&[]).hash(), 0xcbf2_9ce4_8422_2325);
    }
}
