//! A listener whose TLS becomes stricter: who is connected, and would not be accepted any more.

use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;
use mesh_core::{
    Mesh,
    config::{
        CaSource, CertificateProvider, DownstreamTls, IdentitySource, San, SanKind, StringMatch,
        StringMatcher,
    },
    connections::{ConnectionHandle, Ending},
    identity::{InCode, Trust},
    testing::CertificateAuthority,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    harness::*,
    policy::{Told, mesh_with},
    trust::{SERVER, client, dial},
};
use crate::{Server, ServerTls};

const A: &str = "spiffe://mesh.test/a";
const B: &str = "spiffe://mesh.test/b";

/// A server with the certificate of `old`, whose handlers answer once they are released.
struct World {
    authority: CertificateAuthority,
    /// Trusts `authority`.
    old: Arc<InCode>,
    /// Trusts nobody yet.
    new: Arc<InCode>,
    mesh: Mesh,
    told: Arc<Told>,
    running: Running,
    handlers: Handlers,
    release: watch::Sender<bool>,
}

/// A client with a request under way.
struct Busy {
    call: JoinHandle<hyper::Result<Response<Incoming>>>,
    connection: ConnectionHandle,
}

fn provider(instance: &str) -> CertificateProvider {
    CertificateProvider {
        instance: instance.into(),
        certificate: "".into(),
    }
}

/// The certificate of `old`, with this trust and these names.
fn tls(roots: &str, required: bool, names: &[&str]) -> ServerTls {
    let sans = names.iter().map(|name| San {
        kind: SanKind::Uri,
        matcher: StringMatcher::new(StringMatch::Exact((*name).to_owned()), false),
    });
    ServerTls::Encrypted(Arc::new(DownstreamTls {
        identity: IdentitySource::Provider(provider("old")),
        roots: Some(CaSource::Provider(provider(roots))),
        require_client_certificate: required,
        sans: sans.collect(),
    }))
}

impl World {
    async fn start(first: ServerTls) -> Self {
        let authority = CertificateAuthority::new("one");
        let [old, new] = [(); 2].map(|()| Arc::new(InCode::new()));
        old.present(authority.identity(SERVER));
        old.trust_in(Trust::Roots(authority.roots()));
        let (mesh, told) = mesh_with(|mesh| {
            mesh.certificates("old", Arc::clone(&old) as _)
                .certificates("new", Arc::clone(&new) as _)
        })
        .await;
        let (handlers, release) = (Handlers::default(), watch::Sender::new(false));
        let (count, released) = (handlers.clone(), release.clone());
        let running = Running::start(&mesh, Server::new(&mesh), move |_| {
            let (handler, mut released) = (count.begin(), released.subscribe());
            Box::pin(async move {
                let _handler = handler;
                let _ = released.wait_for(|released| *released).await;
                say("finished").await
            })
        });
        while !told.is_watched() {
            tokio::task::yield_now().await;
        }
        told.encrypted(first);
        Self {
            authority,
            old,
            new,
            mesh,
            told,
            running,
            handlers,
            release,
        }
    }

    /// A client with this certificate of this authority, or anonymous.
    async fn busy(&self, identity: Option<(&CertificateAuthority, &str)>) -> Busy {
        let identity = identity.map(|(authority, name)| authority.identity(name));
        let connector = client(&self.authority, identity, b"h2");
        self.busy_on(dial(&self.running, &connector).await.unwrap())
            .await
    }

    async fn busy_on<T>(&self, io: T) -> Busy
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, _) = h2(io).await;
        let begun = self.handlers.begun();
        let call = tokio::spawn(async move { sender.send_request(get("/")).await });
        self.handlers.until_begun(begun + 1).await;
        let server = self.mesh.connections().list()[0].server;
        let mut all = self.mesh.connections().of(server);
        all.sort_by_key(ConnectionHandle::id);
        let connection = all.pop().unwrap();
        Busy { call, connection }
    }

    /// Says so, and waits until these have heard it.
    async fn say(&self, tls: ServerTls, to: &[&Busy]) {
        self.told.encrypted(tls);
        for busy in to {
            while busy.connection.ending().is_none() {
                tokio::task::yield_now().await;
            }
        }
        self.settle().await;
    }

    /// Lets everything run that can, without a change of the time that matters here.
    async fn settle(&self) {
        tokio::time::sleep(SECOND).await;
    }
}

impl Busy {
    fn drains(&self) {
        assert_eq!(self.connection.ending(), Some(Ending::ListenerChanged));
        assert!(!self.call.is_finished());
    }

    /// Closed, with its request under way.
    async fn closes(self) {
        assert!(self.call.await.unwrap().is_err());
        assert_eq!(self.connection.ending(), Some(Ending::Untrusted));
    }

    /// Drained, its request answered.
    async fn finishes(self, world: &World) {
        self.drains();
        world.release.send_replace(true);
        let response = self.call.await.unwrap().unwrap();
        assert_eq!(text(response).await, "finished");
        assert_eq!(self.connection.ending(), Some(Ending::ListenerChanged));
    }
}

#[tokio::test(start_paused = true)]
async fn other_roots_close_who_is_not_of_them_once_they_are_there_and_others_drain() {
    let world = World::start(tls("old", true, &[])).await;
    let two = CertificateAuthority::new("two");
    let both = [&world.authority, &two].map(|one| one.root_der().clone());
    let both = mesh_core::identity::Roots::from_der(both).unwrap();
    world.old.trust_in(Trust::Roots(both));
    world.settle().await;
    let stays = world.busy(Some((&world.authority, A))).await;
    let goes = world.busy(Some((&two, B))).await;

    world.say(tls("new", true, &[]), &[&stays, &goes]).await;
    // Nothing can be said of them yet.
    stays.drains();
    goes.drains();
    let roots = Trust::Roots(world.authority.roots());
    world.new.trust_in(roots);
    goes.closes().await;
    world.settle().await;
    stays.drains();

    // Roots that change again while a connection drains count, too.
    let late = World::start(tls("old", true, &[])).await;
    let drains = late.busy(Some((&late.authority, A))).await;
    late.new.trust_in(Trust::Roots(late.authority.roots()));
    late.say(tls("new", true, &[]), &[&drains]).await;
    drains.drains();
    late.new.trust_in(Trust::Roots(two.roots()));
    drains.closes().await;
    stays.finishes(&world).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_no_certificate_is_closed_where_one_is_required_now() {
    let world = World::start(tls("old", false, &[])).await;
    let known = world.busy(Some((&world.authority, A))).await;
    let anonymous = world.busy(None).await;
    world
        .say(tls("old", true, &[]), &[&known, &anonymous])
        .await;
    anonymous.closes().await;
    known.finishes(&world).await;

    // The same where nobody was asked before, once there are roots.
    let world = World::start(ServerTls::tls("old")).await;
    let anonymous = world.busy(None).await;
    world.say(tls("new", true, &[]), &[&anonymous]).await;
    anonymous.drains();
    world.new.trust_in(Trust::Roots(world.authority.roots()));
    anonymous.closes().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_and_need_not_answer_drains() {
    let world = World::start(ServerTls::tls("old")).await;
    let anonymous = world.busy(None).await;
    world.say(tls("old", false, &[]), &[&anonymous]).await;
    anonymous.finishes(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_change_closes_who_drains_since_the_first() {
    let world = World::start(tls("old", true, &[])).await;
    let a = world.busy(Some((&world.authority, A))).await;
    let b = world.busy(Some((&world.authority, B))).await;
    world.say(tls("old", true, &[A, B]), &[&a, &b]).await;
    a.drains();
    b.drains();
    world.told.encrypted(tls("old", true, &[A]));
    b.closes().await;
    world.settle().await;
    a.finishes(&world).await;
}

#[tokio::test(start_paused = true)]
async fn from_plaintext_to_tls_connections_have_their_grace() {
    let world = World::start(ServerTls::Plaintext).await;
    let plain = world.busy_on(world.running.connect()).await;
    world.say(tls("old", true, &[]), &[&plain]).await;
    tokio::time::sleep(500 * SECOND).await;
    plain.finishes(&world).await;

    let world = World::start(ServerTls::Plaintext).await;
    let plain = world.busy_on(world.running.connect()).await;
    let start = Instant::now();
    world.say(tls("old", true, &[]), &[&plain]).await;
    assert!(plain.call.await.unwrap().is_err());
    let grace = start.elapsed().as_secs();
    assert!((600..602).contains(&grace), "{grace}");
}
