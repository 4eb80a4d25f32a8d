//! Our client and C-core's servers, in plaintext.

use mesh_core::config::Kind;
use mesh_core::testing::{ControlPlane, Permission, Principal, Rbac, Route, server_listener_name};
use mesh_peers::{Call, Client, CoreClient, CoreServer, OurClient, Security, within};

use crate::world::{TARGET, failed_with, served_by};

#[tokio::test]
async fn our_client_calls_a_plain_server() {
    within(async {
        let control_plane = ControlPlane::start().await;
        let server = CoreServer::start("core", &Security::Insecure, None).await;
        let service = control_plane.service("greeter");
        service.endpoint(server.address()).apply();
        let mut ours = OurClient::new(control_plane.mesh("ours").await);
        let call = Call::to(TARGET).method("/peers.Echo/Any").times(10);
        for answer in ours.call(&call).await {
            let reply = answer.unwrap();
            assert_eq!(
                (&*reply.server, &*reply.method),
                ("core", "/peers.Echo/Any")
            );
            assert_eq!(reply.body, "hello");
            assert_eq!(reply.peer, [""; 0]);
        }
        // The peer goes: its connection ends, and nothing is left to call.
        drop(server);
        ours.until(&Call::to(TARGET), "unavailable", failed_with("UNAVAILABLE"))
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_server_follows_the_control_plane() {
    within(async {
        let control_plane = ControlPlane::start().await;
        let node = control_plane.bootstrap_json("server");
        let server = CoreServer::start("core", &Security::Xds, Some(&node)).await;
        let service = control_plane.service("greeter");
        service.endpoint(server.address()).apply();
        let inbound = || control_plane.server(server.address());
        let mut core = CoreClient::start(&control_plane.bootstrap_json("core"));
        let mut ours = OurClient::new(control_plane.mesh("ours").await);

        // It asks for its listener by the name that the bootstrap makes.
        let name = server_listener_name(server.address());
        let asked = |c: &ControlPlane| c.subscriptions(Kind::Listener).contains(&name);
        control_plane
            .until("the server asks for its listener", asked)
            .await;
        inbound().apply();
        let calls = Call::to(TARGET).wait_for_ready();
        core.until(&calls, "served", served_by("core")).await;
        ours.until(&calls, "served", served_by("core")).await;

        // Another policy applies to the connections there are.
        inbound()
            .rbac(Rbac::deny().policy("all", Permission::any(), Principal::any()))
            .apply();
        let calls = Call::to(TARGET).wait_for_ready();
        core.until(&calls, "denied", failed_with("PERMISSION_DENIED"))
            .await;
        ours.until(&calls, "denied", failed_with("PERMISSION_DENIED"))
            .await;
        inbound().clear_http_filters().apply();
        core.until(&calls, "served again", served_by("core")).await;
        ours.until(&calls, "served again", served_by("core")).await;

        // What no rule takes is refused.
        let rule = Route::path("/peers.Echo/Known");
        inbound().route(rule).only_routes(true).apply();
        core.until(&calls, "no route", failed_with("UNAVAILABLE"))
            .await;
        ours.until(&calls, "no route", failed_with("UNAVAILABLE"))
            .await;
        let known = calls.method("/peers.Echo/Known");
        core.until(&known, "served", served_by("core")).await;
        ours.until(&known, "served", served_by("core")).await;
    })
    .await;
}
