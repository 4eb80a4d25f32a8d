//! A client that works, and what trouble must not change of it.

use mesh_core::{
    config::Kind,
    control::xds::{AcceptedDump, ResourceStatus},
    testing::{ControlPlane, Nack, Push, Raw, RawStream, zone},
};
use mesh_tests::{
    backend::{Backend, Counts},
    load::{Load, until_from},
    way::Way,
};

use crate::{NODE, World, assert_text, backends};

/// A client that works.
pub(crate) struct Steady {
    pub(crate) world: World,
    pub(crate) servers: [Backend; 2],
    pub(crate) load: Load,
}

/// What bad input must not change.
#[derive(Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) hash: u64,
    /// Connections that were accepted, and that are open.
    pub(crate) connections: Vec<(u64, u64)>,
    pub(crate) failed: u64,
}

impl Steady {
    pub(crate) async fn new() -> Self {
        Self::over(Way::Grpc).await
    }

    pub(crate) async fn over(way: Way) -> Self {
        Self::of(World::over(way).await).await
    }

    /// Under this variant of the protocol, whatever the others run under.
    pub(crate) async fn under(delta: bool) -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.set_delta(delta);
        let bootstrap = control_plane.bootstrap(NODE);
        Self::of(World::of(Way::Grpc, control_plane, bootstrap, |_| {}).await).await
    }

    pub(crate) async fn of(world: World) -> Self {
        let servers = backends(["one", "two"]).await;
        world
            .service()
            .version("v1")
            .endpoint_in(zone("a"), servers[0].address())
            .endpoint_in(zone("b"), servers[1].address())
            .apply();
        until_from(&world.channel, &["one", "two"]).await;
        let load = Load::start(&world.channel, 2);
        Self {
            world,
            servers,
            load,
        }
    }

    pub(crate) async fn read(&self) -> Reading {
        let connections = self.servers.iter().map(|server| {
            let Counts { accepted, open, .. } = server.counts();
            (accepted, open)
        });
        Reading {
            hash: self.world.mesh.config_dump().await.hash(),
            connections: connections.collect(),
            failed: self.world.mesh.metrics().totals().failed(),
        }
    }

    /// Sends a resource that is bad: the NACK and the dump say what, and nothing else happens.
    pub(crate) async fn refuses(&self, what: &str, parts: &[&str], send: impl FnOnce() -> Push) {
        let nack = self.refuses_response(what, parts, send).await;
        let dump = self.world.mesh.config_dump().await;
        let mut resources = dump.resources.iter();
        let refused = resources
            .find(|resource| {
                resource.status == ResourceStatus::Nacked && Some(resource.id.kind) == nack.kind
            })
            .unwrap_or_else(|| panic!("{what}: the dump does not tell of it"));
        let failure = refused.failure.as_ref().expect("there is a reason");
        assert!(
            nack.message.contains(&*failure.details),
            "{:?} is not part of {:?}",
            failure.details,
            nack.message
        );
        assert!(refused.accepted.is_some(), "the good one is in force");
    }

    /// Sends a response that is bad: the NACK says what, and nothing else happens.
    pub(crate) async fn refuses_response(
        &self,
        what: &str,
        parts: &[&str],
        send: impl FnOnce() -> Push,
    ) -> Nack {
        println!("{what}");
        let before = self.read().await;
        let push = send();
        let nack = push.nacked().await;
        assert_text(&nack.message, parts);
        self.load.more(20).await;
        assert_eq!(self.read().await, before, "{what}");
        nack
    }

    /// The next good response is accepted.
    pub(crate) async fn recovers(&self, push: &Push) {
        push.acked().await;
        let dump = self.world.mesh.config_dump().await;
        for resource in dump.resources {
            assert_eq!(resource.status, ResourceStatus::Acked, "{}", resource.id);
            assert_eq!(resource.failure, None);
        }
    }

    /// Takes over the client's stream, which ends the one before.
    pub(crate) async fn raw_stream(&self) -> RawStream {
        let mut raw = self.world.control_plane.raw();
        self.world.control_plane.drop_streams();
        raw.accept().await
    }

    /// Lets `fault` answer the client by hand, from its next stream on. Whatever it does, nothing
    /// changes; and once the client is served properly again, it takes the next change.
    pub(crate) async fn survives<T>(
        &self,
        what: &str,
        fault: impl AsyncFnOnce(&mut Raw, RawStream) -> T,
    ) {
        println!("{what}");
        let before = self.read().await;
        let control_plane = &self.world.control_plane;
        let mut raw = control_plane.raw();
        control_plane.drop_streams();
        let stream = raw.accept().await;
        let kept = fault(&mut raw, stream).await;
        self.load.more(20).await;
        assert_eq!(self.read().await, before, "{what}");
        drop((raw, kept));
        self.takes_a_change(&before).await;
    }

    /// The client is served again as it should be, and goes by what is new. That costs it no
    /// connection and no call.
    pub(crate) async fn takes_a_change(&self, before: &Reading) {
        let control_plane = &self.world.control_plane;
        control_plane
            .until("it is served again", |c| c.streams() == 1)
            .await;
        let limit = 1_000 + u32::try_from(control_plane.streams_opened()).expect("few streams");
        self.recovers(&self.world.service().max_requests(limit).apply())
            .await;
        assert_eq!(self.world.trouble(), "");
        self.load.more(20).await;
        let after = self.read().await;
        assert_ne!(after.hash, before.hash, "the change is in force");
        assert_eq!(after.connections, before.connections);
        assert_eq!(after.failed, before.failed);
    }

    /// What is in force of a kind: version and bytes by name.
    pub(crate) async fn in_force(&self, kind: Kind) -> Vec<(String, AcceptedDump)> {
        let dump = self.world.mesh.config_dump().await;
        let ours = dump.resources.into_iter().filter(|one| one.id.kind == kind);
        ours.map(|one| {
            let accepted = one.accepted.expect("a client that works has a value");
            (one.id.name.to_string(), accepted)
        })
        .collect()
    }

    pub(crate) async fn finish(self) {
        self.load.stop().await.assert_no_failure();
    }
}
