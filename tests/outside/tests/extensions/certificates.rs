//! A source of certificates, for both ends of mTLS.

use std::{sync::Arc, time::Duration};

use mesh_core::{
    Mesh,
    identity::{
        CertificateSource, Identity, Publisher, Roots, Trust, Watched, default_crypto_provider,
    },
    testing::{CertificateAuthority, ControlPlane, Leaf, ListenerTls, SanMatch, Tls},
};
use orders::INVENTORY;
use parking_lot::Mutex;
use tokio::{sync::watch, task::yield_now, time::timeout};

use crate::{
    Client, reserve,
    server::{MeshInventory, port},
};

/// The name by which resources refer to the source.
const VAULT: &str = "vault";
const ORDERS: &str = "spiffe://shop/orders";
const STOCK: &str = "spiffe://shop/inventory";

/// Gives one certificate, and its authority's root, in PEM: as a vault's agent has them.
#[derive(Debug)]
struct Vault {
    id: &'static str,
    identity: Publisher<Identity>,
    trust: Publisher<Trust>,
    /// The serial number of the newest certificate.
    serial: Mutex<String>,
    /// How many watch.
    watched: watch::Sender<usize>,
}

/// What a watcher holds while it watches: a source with work to do would end it with the last.
#[derive(Debug)]
struct Lease(watch::Sender<usize>);

impl Vault {
    fn new(id: &'static str, authority: &CertificateAuthority) -> Arc<Self> {
        let vault = Self {
            id,
            identity: Publisher::new(),
            trust: Publisher::new(),
            serial: Mutex::default(),
            watched: watch::Sender::default(),
        };
        vault.move_to(authority);
        Arc::new(vault)
    }

    /// Presents a certificate of this authority, and trusts nobody else's.
    fn move_to(&self, authority: &CertificateAuthority) {
        let roots = Roots::from_pem(authority.root_pem().as_bytes()).unwrap();
        self.trust.publish(Arc::new(Trust::Roots(roots)));
        let issued = authority.issue(Leaf::spiffe(self.id));
        let [chain, key] = [issued.chain_pem(), issued.key_pem()];
        let crypto = default_crypto_provider().unwrap();
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes(), &crypto).unwrap();
        *self.serial.lock() = identity.leaf().serial.to_string();
        self.identity.publish(Arc::new(identity));
    }

    /// What a server tells a caller that presents the newest certificate.
    fn caller(&self) -> String {
        format!("{} {}", self.id, self.serial.lock())
    }

    fn lease(&self) -> Arc<Lease> {
        self.watched.send_modify(|watched| *watched += 1);
        Arc::new(Lease(self.watched.clone()))
    }

    async fn mesh(self: &Arc<Self>, control_plane: &ControlPlane, node: &str) -> Mesh {
        Mesh::builder()
            .bootstrap(control_plane.bootstrap(node))
            .certificates(VAULT, Arc::clone(self) as _)
            .options(|options| options.connect_backoff_base = Duration::from_millis(10))
            .build()
            .await
            .unwrap()
    }

    /// Waits until nobody watches.
    async fn forgotten(&self) {
        let mut watched = self.watched.subscribe();
        let nobody = watched.wait_for(|watched| *watched == 0);
        timeout(Duration::from_secs(10), nobody)
            .await
            .expect("what is not used is not watched")
            .unwrap();
    }
}

impl CertificateSource for Vault {
    fn identity(&self, _: &str) -> Watched<Identity> {
        self.identity.watch(self.lease())
    }

    fn trust(&self, _: &str) -> Watched<Trust> {
        self.trust.watch(self.lease())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.send_modify(|watched| *watched -= 1);
    }
}

#[tokio::test]
async fn a_source_of_certificates_of_ones_own() {
    let authority = CertificateAuthority::new("first");
    let [orders, stock] = [ORDERS, STOCK].map(|id| Vault::new(id, &authority));
    let control_plane = ControlPlane::start().await;
    let (listener, address) = port().await;
    control_plane
        .server(address)
        .tls(ListenerTls::present(VAULT).require_client(VAULT))
        .apply();
    control_plane
        .service(INVENTORY)
        .endpoint(address)
        .tls(Tls::trust(VAULT).present(VAULT).san(SanMatch::uri(STOCK)))
        .apply();
    let served = stock.mesh(&control_plane, "inventory").await;
    let running = MeshInventory::start(&served, listener).await;
    let mesh = orders.mesh(&control_plane, "orders").await;
    let channel = mesh_tonic::channel(&mesh, INVENTORY).unwrap();
    let mut client = Client::new(channel.wait_for_ready(true));

    let first = reserve(&mut client).await.unwrap();
    assert_eq!(first, orders.caller());
    let presented = mesh.certificates().into_iter().next().unwrap();
    assert_eq!(presented.leaf.unwrap().spiffe_id(), Some(ORDERS));

    // Both ends move to another authority. The connection of the first does not outlive its trust.
    let next = CertificateAuthority::new("second");
    stock.move_to(&next);
    orders.move_to(&next);
    let moved = async {
        // Until both have moved, a call may find that one has not.
        while reserve(&mut client).await.ok() != Some(orders.caller()) {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), moved).await.unwrap();
    assert_ne!(orders.caller(), first);

    drop((client, mesh, running, served));
    orders.forgotten().await;
    stock.forgotten().await;
}
