//! The fake control plane speaks the dialect of gRPC: C-core's client follows it as ours does.

use mesh_core::testing::{ControlPlane, Route};
use mesh_peers::{Answer, Call, Client, PlainServer, Side, within};

const TARGET: &str = "xds:///greeter";

/// A service of two versions, each a plain server.
struct World {
    control_plane: ControlPlane,
    _servers: [PlainServer; 2],
}

impl World {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        let servers = [
            PlainServer::start("v1").await,
            PlainServer::start("v2").await,
        ];
        control_plane
            .service("greeter")
            .version("v1")
            .endpoint(servers[0].address())
            .version("v2")
            .weight(0)
            .endpoint(servers[1].address())
            .apply();
        Self {
            control_plane,
            _servers: servers,
        }
    }

    async fn clients(&self) -> (Client, Client) {
        (
            Client::start(Side::Core, &self.control_plane, "core").await,
            Client::start(Side::Ours, &self.control_plane, "ours").await,
        )
    }
}

/// Whether all calls were answered by this server. A failure is one too many at any time.
fn all_by(server: &str) -> impl Fn(&[Answer]) -> bool {
    move |answers| {
        let mut servers = answers.iter().map(|answer| match answer {
            Ok(reply) => &reply.server,
            Err(failure) => panic!("no call may fail: {failure:?}"),
        });
        // Looks at each of them, so that no failure is missed.
        servers.by_ref().filter(|by| *by != server).count() == 0
    }
}

#[tokio::test]
async fn a_live_route_shift_reaches_both_clients() {
    within(async {
        let world = World::start().await;
        let (mut core, mut ours) = world.clients().await;
        let calls = Call::to(TARGET).times(50);
        core.until(&calls, "v1", all_by("v1")).await;
        ours.until(&calls, "v1", all_by("v1")).await;

        let service = || world.control_plane.service("greeter");
        for to in ["v2", "v1", "v2"] {
            service().split(&[(to, 100)]).apply().acked().await;
            core.until(&calls, to, all_by(to)).await;
            ours.until(&calls, to, all_by(to)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn rules_mean_the_same_to_both_clients() {
    within(async {
        let world = World::start().await;
        let (mut core, mut ours) = world.clients().await;
        world
            .control_plane
            .service("greeter")
            .route(Route::path("/peers.Echo/Exact").to("v2"))
            .route(Route::prefix("/peers.Echo/Pre").to("v2"))
            .route(Route::regex("/peers[.]Echo/R.*x").to("v2"))
            .route(Route::prefix("/").header("x-tester", "yes").to("v2"))
            .route(Route::prefix("/").header_prefix("x-user", "b").to("v2"))
            .route(
                Route::prefix("/")
                    .header_regex("x-age", "[0-9]{2}")
                    .to("v2"),
            )
            .route(Route::prefix("/").header("x-list", "a,b").to("v2"))
            .apply();
        let call = || Call::to(TARGET);
        let method = |name: &str| call().method(format!("/peers.Echo/{name}"));
        for (call, expected) in [
            (call(), "v1"),
            (method("Exact"), "v2"),
            (method("exact"), "v1"),
            (method("Exactly"), "v1"),
            (method("Prefix"), "v2"),
            (method("Regex"), "v2"),
            (method("Regexes"), "v1"),
            (call().metadata("x-tester", "yes"), "v2"),
            (call().metadata("x-tester", "yes "), "v1"),
            (call().metadata("x-tester", "no"), "v1"),
            (call().metadata("x-user", "bob"), "v2"),
            (call().metadata("x-user", "alice"), "v1"),
            (call().metadata("x-age", "42"), "v2"),
            (call().metadata("x-age", "142"), "v1"),
            (call().metadata("x-list", "a").metadata("x-list", "b"), "v2"),
        ] {
            for answer in [core.once(&call).await, ours.once(&call).await] {
                let server = answer.as_ref().map(|reply| &*reply.server);
                assert_eq!(server, Ok(expected), "{call:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_unavailable_to_both_clients() {
    within(async {
        let world = World::start().await;
        let (mut core, mut ours) = world.clients().await;
        let calls = Call::to(TARGET);
        core.until(&calls, "v1", all_by("v1")).await;
        ours.until(&calls, "v1", all_by("v1")).await;

        // No endpoint is left: unreachable, not as before.
        let service = || world.control_plane.service("greeter");
        service()
            .version("v1")
            .clear_endpoints()
            .apply()
            .acked()
            .await;
        let refused = |answers: &[Answer]| {
            let code = |answer: &Answer| matches!(answer, Err(f) if f.code == "UNAVAILABLE");
            answers.iter().all(code)
        };
        core.until(&calls, "unavailable", refused).await;
        ours.until(&calls, "unavailable", refused).await;

        service().split(&[("v2", 1)]).apply().acked().await;
        let served = |answers: &[Answer]| answers.iter().all(Answer::is_ok);
        core.until(&calls, "served again", served).await;
        ours.until(&calls, "served again", served).await;
    })
    .await;
}
