use std::sync::Arc;

use super::{CertificateSource, Identity, Publisher, Trust, Watched};

/// Certificates and trust that code gives, and replaces whenever it likes: what a service has that
/// gets its certificates in a way of its own.
///
/// ```
/// # use std::sync::Arc;
/// use mesh_core::{Mesh, identity::{InCode, Trust}, testing::CertificateAuthority};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let control_plane = mesh_core::testing::ControlPlane::start().await;
/// # let bootstrap = control_plane.bootstrap("doc");
/// let ca = CertificateAuthority::new("root");
/// let certificates = Arc::new(InCode::new());
/// certificates.present(ca.identity("spiffe://shop/frontend"));
/// certificates.trust_in(Trust::Roots(ca.roots()));
/// let mesh = Mesh::builder()
///     .bootstrap(bootstrap)
///     .certificates("default", Arc::clone(&certificates) as _)
///     .build()
///     .await;
///
/// // Later: every handshake from now on presents this one.
/// certificates.present(ca.identity("spiffe://shop/frontend"));
/// # mesh.unwrap();
/// # }
/// ```
#[derive(Debug, Default)]
pub struct InCode {
    identity: Publisher<Identity>,
    trust: Publisher<Trust>,
}

// === impl InCode ===

impl InCode {
    /// Without any yet: handshakes wait for them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Presents this certificate from now on.
    pub fn present(&self, identity: Identity) {
        self.identity.publish(Arc::new(identity));
    }

    /// Trusts these from now on, and nobody else.
    pub fn trust_in(&self, trust: Trust) {
        self.trust.publish(Arc::new(trust));
    }
}

impl CertificateSource for InCode {
    fn identity(&self, _name: &str) -> Watched<Identity> {
        self.identity.watch(Arc::new(()))
    }

    fn trust(&self, _name: &str) -> Watched<Trust> {
        self.trust.watch(Arc::new(()))
    }
}
