//! The certificates of all: issued by the embedded authority, renewed without end.

use std::{collections::BTreeSet, error::Error, sync::Arc, time::Duration};

use mesh_core::{Mesh, testing::CertificateService};
use tokio::time::{interval, timeout};

/// How long a certificate is valid: short, so that renewals can be watched. It is renewed at half of
/// it.
const LIFETIME: Duration = Duration::from_secs(4);
/// Renewals that take longer than this have stalled.
const STALLED: Duration = Duration::from_secs(10);
/// How often certificates are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The certificate authority, and who has certificates of it.
pub(crate) struct Identities {
    pub(crate) authority: CertificateService,
    holders: Vec<Mesh>,
}

impl Identities {
    /// Starts the authority.
    pub(crate) async fn start() -> Self {
        let authority = CertificateService::start().await;
        authority.set_lifetime(Some(LIFETIME));
        Self {
            authority,
            holders: Vec::new(),
        }
    }

    /// Counts `mesh` among the holders of certificates.
    pub(crate) fn add(&mut self, mesh: &Mesh) {
        self.holders.push(mesh.clone());
    }

    /// Forgets a holder that is gone.
    pub(crate) fn remove(&mut self, node: &str) {
        self.holders.retain(|mesh| mesh.bootstrap().node.id != node);
    }

    /// Waits until each holder has another certificate than now; returns how many that are.
    pub(crate) async fn renewed(&self) -> Result<usize, Box<dyn Error>> {
        let before: Vec<_> = self.holders.iter().map(serials).collect();
        let mut look = interval(LOOK);
        timeout(STALLED, async {
            for (mesh, before) in self.holders.iter().zip(&before) {
                while !serials(mesh).is_disjoint(before) {
                    look.tick().await;
                }
            }
        })
        .await
        .map_err(|_| "certificates were not renewed in time")?;
        Ok(self.holders.len())
    }

    /// Replaces the root, in three steps: all trust both, all have certificates of the new one,
    /// nobody trusts the old one.
    pub(crate) async fn rotate_root(&self) -> Result<(), Box<dyn Error>> {
        self.authority.announce_root();
        self.renewed().await?;
        self.authority.rotate_root(true);
        self.renewed().await?;
        self.authority.forget_older_roots();
        self.renewed().await?;
        Ok(())
    }
}

/// The serial numbers of the certificates in use.
fn serials(mesh: &Mesh) -> BTreeSet<Arc<str>> {
    let certificates = mesh.certificates();
    let leaves = certificates.into_iter().filter_map(|status| status.leaf);
    leaves.map(|leaf| leaf.serial).collect()
}
