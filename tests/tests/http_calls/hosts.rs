//! Which virtual host a client's request belongs to, and what becomes of its port.

use mesh_core::testing::cluster_name;
use mesh_core::testing::envoy_types::pb::envoy::{
    config::{listener::v3::ApiListener, route::v3::RouteConfiguration},
    extensions::filters::network::http_connection_manager::v3::{
        HttpConnectionManager, http_connection_manager::StripPortMode,
    },
};
use mesh_tests::xds;
use prost::Message;

use super::*;

const TARGET_8080: &str = "catalog.shop:8080";

/// The target's routes are those of this domain.
fn serve(
    world: &World,
    domain: &str,
    change: impl FnOnce(&mut HttpConnectionManager, &mut RouteConfiguration),
) {
    let cluster = xds::route_to(&cluster_name(TARGET, ""));
    let mut routes = xds::routes("hosts", domain, vec![cluster]);
    let mut listener = xds::inline_listener(TARGET_8080, RouteConfiguration::default());
    let any = listener
        .api_listener
        .take()
        .and_then(|api| api.api_listener);
    let mut manager = HttpConnectionManager::decode(&*any.unwrap().value).unwrap();
    change(&mut manager, &mut routes);
    let specifier = xds::inline_listener(TARGET_8080, routes);
    let inline = specifier
        .api_listener
        .and_then(|api| api.api_listener)
        .unwrap();
    let inline = HttpConnectionManager::decode(&*inline.value).unwrap();
    manager.route_specifier = inline.route_specifier;
    listener.api_listener = Some(ApiListener {
        api_listener: Some(xds::pack(&manager)),
    });
    world.control_plane.set(&listener);
}

async fn get(world: &World) -> Result<String, Error> {
    let request = world.client.get("http://catalog.shop:8080/items");
    let body = within(request.send()).await?.into_body();
    let body = within(body.collect()).await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn the_port_counts_unless_the_routes_say_otherwise() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        serve(&world, "catalog.shop", |_, routes| {
            routes.ignore_port_in_host_matching = true;
        });
        let text = get(&world).await.unwrap();
        assert!(
            text.starts_with("GET catalog.shop:8080 /items "),
            "{protocol:?}: {text}"
        );
        // A domain's port is not ignored.
        let world = World::start(protocol).await;
        world.service().apply();
        serve(&world, "catalog.shop:8080", |_, routes| {
            routes.ignore_port_in_host_matching = true;
        });
        let error = get(&world).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::NOT_FOUND, "{error}");
        assert!(error.to_string().contains("no virtual host"), "{error}");
    }
}

#[tokio::test]
async fn a_stripped_port_is_not_sent_either() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        serve(&world, "catalog.shop", |manager, _| {
            manager.strip_port_mode = Some(StripPortMode::StripAnyHostPort(true));
        });
        let text = get(&world).await.unwrap();
        assert!(
            text.starts_with("GET catalog.shop /items "),
            "{protocol:?}: {text}"
        );
        // A client has no port that could match.
        let world = World::start(protocol).await;
        world.service().apply();
        serve(&world, "catalog.shop:8080", |manager, _| {
            manager.strip_matching_host_port = true;
        });
        let text = get(&world).await.unwrap();
        assert!(
            text.starts_with("GET catalog.shop:8080 /items "),
            "{protocol:?}: {text}"
        );
    }
}
