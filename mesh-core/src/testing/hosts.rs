use std::{collections::HashMap, fmt, io, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::runtime::{Resolve, ResolveFuture, Resolved};

/// A resolver that knows what it was told: for [`MeshBuilder::resolver`](crate::MeshBuilder::resolver).
/// Cheap to clone; clones share what they know.
///
/// ```
/// use std::sync::Arc;
///
/// use mesh_core::{
///     Mesh,
///     testing::{ControlPlane, Hosts},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hosts = Hosts::new();
/// hosts.set("db.test", ["127.0.0.1".parse()?]);
/// let control_plane = ControlPlane::start().await;
/// control_plane.service("db").logical_dns("db.test", 5432).apply();
/// let mesh = Mesh::builder()
///     .bootstrap(control_plane.bootstrap("client"))
///     .resolver(Arc::new(hosts.clone()))
///     .build()
///     .await?;
/// # drop(mesh);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Hosts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    hosts: HashMap<String, Host>,
    lookups: HashMap<String, u64>,
    ttl: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Host {
    Addresses(Vec<IpAddr>),
    Failing(String),
    Silent,
}

impl Hosts {
    /// Knows no host: look-ups fail.
    pub fn new() -> Self {
        Self::default()
    }

    /// `name` has these addresses from now on.
    pub fn set(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        self.put(name, Host::Addresses(addresses.into_iter().collect()));
    }

    /// Look-ups of `name` fail with this text from now on.
    pub fn fail(&self, name: &str, text: &str) {
        self.put(name, Host::Failing(text.to_owned()));
    }

    /// Look-ups of `name` that begin from now on are not answered.
    pub fn hold(&self, name: &str) {
        self.put(name, Host::Silent);
    }

    /// The time to live of all answers; none at first.
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.0.lock().ttl = ttl;
    }

    /// How often `name` was looked up.
    pub fn lookups(&self, name: &str) -> u64 {
        self.0.lock().lookups.get(name).copied().unwrap_or(0)
    }

    fn put(&self, name: &str, host: Host) {
        self.0.lock().hosts.insert(name.to_owned(), host);
    }
}

impl Resolve for Hosts {
    fn resolve(&self, name: &Arc<str>) -> ResolveFuture {
        let mut known = self.0.lock();
        *known.lookups.entry(name.to_string()).or_default() += 1;
        let (host, ttl) = (known.hosts.get(&**name).cloned(), known.ttl);
        Box::pin(async move {
            match host {
                Some(Host::Addresses(addresses)) => Ok(Resolved { addresses, ttl }),
                Some(Host::Failing(text)) => Err(io::Error::other(text)),
                Some(Host::Silent) => std::future::pending().await,
                None => Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
            }
        })
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosts")
            .field("hosts", &self.0.lock().hosts)
            .finish_non_exhaustive()
    }
}
