//! Our client and C-core's servers, in plaintext.

use mesh_core::config::Kind;
use mesh_core::testing::{ControlPlane, Permission, Principal, Rbac, Route, server_listener_name};
use mesh_peers::{Client, CoreServer, Security, Server, Side, within};

use crate::world::{call, failed_with, pairs, served_by};

#[tokio::test]
async fn our_client_calls_a_plain_server() {
    within(async {
        let control_plane = ControlPlane::start().await;
        let server = CoreServer::start("core", &Security::Insecure, None).await;
        let service = control_plane.service("greeter");
        service.endpoint(server.address()).apply();
        let mut ours = Client::start(Side::Ours, &control_plane, "ours").await;
        let calls = call().method("/peers.Echo/Any").times(10);
        for answer in ours.call(&calls).await {
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
        ours.until(&call(), "unavailable", failed_with("UNAVAILABLE"))
            .await;
    })
    .await;
}

/// A server has its listener, policies and routes from the control plane.
async fn a_server_follows(client: Side, server: Side) {
    let control_plane = ControlPlane::start().await;
    let server = Server::start(server, &control_plane, "server").await;
    let service = control_plane.service("greeter");
    service.endpoint(server.address()).apply();
    let inbound = || control_plane.server(server.address());
    let mut client = Client::start(client, &control_plane, "client").await;

    // It asks for its listener by the name that the bootstrap makes.
    let name = server_listener_name(server.address());
    let asked = |c: &ControlPlane| c.subscriptions(Kind::Listener).contains(&name);
    let what = "the server asks for its listener";
    control_plane.until(what, asked).await;
    inbound().apply();
    let ready = call().wait_for_ready();
    client.until(&ready, "served", served_by("server")).await;

    // A policy, and then another, for connections there are.
    let all = Rbac::deny().policy("all", Permission::any(), Principal::any());
    inbound().rbac(all).apply();
    let denied = failed_with("PERMISSION_DENIED");
    client.until(&ready, "denied", denied).await;
    inbound().clear_http_filters().apply();
    client
        .until(&ready, "served again", served_by("server"))
        .await;

    // What no rule takes is refused.
    let rule = Route::path("/peers.Echo/Known");
    inbound().route(rule).only_routes(true).apply();
    client
        .until(&ready, "no route", failed_with("UNAVAILABLE"))
        .await;
    let known = ready.method("/peers.Echo/Known");
    client.until(&known, "its route", served_by("server")).await;
}

pairs!(a_server_follows);
