use std::{fmt, hash::Hasher as _, sync::Arc};

use rustc_hash::FxHasher;

/// What runs at an end of a call: one version of one service. Empty where nothing is known.
///
/// Its values come from a control plane or from a peer; they are for telemetry alone and decide
/// nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Workload {
    parts: [Arc<str>; PARTS],
    hash: u64,
}

/// A service as the control plane calls it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Service {
    /// Its host, such as `greeter.shop.svc.cluster.local`.
    pub host: Arc<str>,
    /// Its name, such as `greeter`.
    pub name: Arc<str>,
    /// Its namespace, such as `shop`.
    pub namespace: Arc<str>,
}

const PARTS: usize = 8;
const NAME: usize = 0;
const NAMESPACE: usize = 1;
const CANONICAL_SERVICE: usize = 2;
const CANONICAL_REVISION: usize = 3;
const CLUSTER: usize = 4;
const APP: usize = 5;
const VERSION: usize = 6;
const PRINCIPAL: usize = 7;

// === impl Workload ===

impl Workload {
    /// From its parts: name, namespace, canonical service, canonical revision, cluster, app and
    /// version. An app or version that is empty is the canonical service or revision.
    pub fn new(parts: [&str; 7]) -> Self {
        let [.., service, revision, _, app, version] = parts;
        let [a, b, c, d, e, f, g] = parts;
        let mut parts = [a, b, c, d, e, f, g, ""];
        if app.is_empty() {
            parts[APP] = service;
        }
        if version.is_empty() {
            parts[VERSION] = revision;
        }
        Self::of(parts.map(Arc::from))
    }

    fn of(parts: [Arc<str>; PARTS]) -> Self {
        let mut hasher = FxHasher::default();
        for part in &parts {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xff);
        }
        let hash = hasher.finish();
        Self { parts, hash }
    }

    /// The same, with this identity, such as `spiffe://cluster.local/ns/shop/sa/greeter`.
    pub fn with_principal(mut self, principal: impl Into<Arc<str>>) -> Self {
        self.parts[PRINCIPAL] = principal.into();
        Self::of(self.parts)
    }

    /// The name of what was deployed, such as a Kubernetes deployment.
    pub fn name(&self) -> &Arc<str> {
        &self.parts[NAME]
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Arc<str> {
        &self.parts[NAMESPACE]
    }

    /// The service that it belongs to.
    pub fn canonical_service(&self) -> &Arc<str> {
        &self.parts[CANONICAL_SERVICE]
    }

    /// The version of that.
    pub fn canonical_revision(&self) -> &Arc<str> {
        &self.parts[CANONICAL_REVISION]
    }

    /// The cluster (of machines) that it runs in.
    pub fn cluster(&self) -> &Arc<str> {
        &self.parts[CLUSTER]
    }

    /// Its label `app`.
    pub fn app(&self) -> &Arc<str> {
        &self.parts[APP]
    }

    /// Its label `version`.
    pub fn version(&self) -> &Arc<str> {
        &self.parts[VERSION]
    }

    /// Its identity, if it was proven.
    pub fn principal(&self) -> &Arc<str> {
        &self.parts[PRINCIPAL]
    }

    /// Tells workloads apart without looking at them.
    #[inline]
    pub fn fingerprint(&self) -> u64 {
        self.hash
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workload({})", self.parts.join(";"))
    }
}

// === impl Service ===

impl Service {
    /// A service of these names.
    pub fn new(
        host: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            host: host.into(),
            name: name.into(),
            namespace: namespace.into(),
        }
    }
}
