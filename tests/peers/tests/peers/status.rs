//! Client status discovery: gRPC C-core's tooling reads our service, and its own service tells the
//! same of a C-core client that had the same history.

use mesh_core::{
    config::Kind,
    testing::{ControlPlane, Route, Service},
};
use mesh_peers::{
    Answer, Call, Client, CoreClient, OurClient, PlainServer, Status, StatusServer, within,
};

const TARGET: &str = "xds:///greeter";

/// Two clients of one control plane.
struct World {
    control_plane: ControlPlane,
    server: PlainServer,
    core: Client,
    ours: Client,
    served: StatusServer,
}

impl World {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        let server = PlainServer::start("v1").await;
        control_plane
            .service("greeter")
            .endpoint(server.address())
            .apply();
        let core = CoreClient::start(&control_plane.bootstrap_json("core"));
        let mesh = control_plane.mesh("ours").await;
        Self {
            served: StatusServer::start(&mesh).await,
            core: Client::Core(Box::new(core)),
            ours: Client::Ours(OurClient::new(mesh)),
            control_plane,
            server,
        }
    }

    fn service(&self) -> Service {
        self.control_plane.service("greeter")
    }

    /// Both make calls until they are served.
    async fn calls(&mut self) {
        let call = Call::to(TARGET);
        let served = |answers: &[Answer]| answers.iter().all(Answer::is_ok);
        self.core.until(&call, "served", served).await;
        self.ours.until(&call, "served", served).await;
    }

    /// What both have: read by C-core's tooling.
    async fn status(&mut self) -> [Status; 2] {
        let Client::Core(core) = &mut self.core else {
            unreachable!("it is C-core's")
        };
        let ours = core.status(Some(self.served.address())).await;
        [core.status(None).await, ours]
    }

    /// Both have the same, in these states, by the last part of the type.
    async fn agree(&mut self, states: &[(&str, &str)]) {
        let [mut core, mut ours] = self.status().await;
        assert_eq!((&*core.node, &*ours.node), ("core", "ours"));
        let told: Vec<_> = ours
            .resources
            .iter()
            .map(|((kind, _), told)| {
                let kind = kind.rsplit('.').next().unwrap_or_default();
                (kind, &*told.state)
            })
            .collect();
        assert_eq!(told, states);
        for status in [&mut core, &mut ours] {
            for told in status.resources.values_mut() {
                // There is a reason, in words of each client's own.
                let reason = told.details.take();
                assert_eq!(
                    reason.is_some_and(|text| !text.is_empty()),
                    told.refused.is_some()
                );
            }
        }
        assert_eq!(core.resources, ours.resources);
    }
}

#[tokio::test]
async fn both_clients_tell_the_same() {
    within(async {
        let mut world = World::start().await;
        world.calls().await;
        let all = |route, cluster| {
            [
                ("Cluster", cluster),
                ("ClusterLoadAssignment", "ACKED"),
                ("Listener", "ACKED"),
                ("RouteConfiguration", route),
            ]
        };
        world.agree(&all("ACKED", "ACKED")).await;

        // Refused: the good one stays, and both versions are told.
        let bad = world.service().route(Route::regex("(")).apply();
        bad.nacked().await;
        world.calls().await;
        world.agree(&all("NACKED", "ACKED")).await;

        // Mended.
        world.service().clear_routes().apply().acked().await;
        world.calls().await;
        world.agree(&all("ACKED", "ACKED")).await;

        // Changed.
        world.service().weight(7).apply().acked().await;
        world.agree(&all("ACKED", "ACKED")).await;
        drop(world.server);
    })
    .await;
}

/// A target that the control plane does not answer for.
#[tokio::test]
async fn what_was_asked_for_is_told_by_both() {
    within(async {
        let mut world = World::start().await;
        world.calls().await;
        world.control_plane.hold();
        let mut hurry = Call::to("xds:///other");
        hurry = hurry.within(0.2);
        for client in [&mut world.core, &mut world.ours] {
            let answer = client.once(&hurry).await;
            assert!(answer.is_err(), "{answer:?}");
        }
        let asked = |c: &ControlPlane| c.subscriptions(Kind::Listener).contains("other");
        for node in ["core", "ours"] {
            let view = world.control_plane.view(node);
            view.until("it has asked", asked).await;
        }
        world
            .agree(&[
                ("Cluster", "ACKED"),
                ("ClusterLoadAssignment", "ACKED"),
                ("Listener", "ACKED"),
                ("Listener", "REQUESTED"),
                ("RouteConfiguration", "ACKED"),
            ])
            .await;
    })
    .await;
}
