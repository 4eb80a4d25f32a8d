//! `mesh_hyper::Client`: what requests name, what becomes of what is not of the mesh, and that
//! nothing is left of what nobody asks for.

mod https;
mod outside;
mod server;
mod targets;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, StreamBody};
use mesh_core::{
    Code, Mesh,
    testing::{ControlPlane, Service},
};
use mesh_hyper::{Client, Error, client::RequestBuilder};
use mesh_tests::fixture::within;
use server::HttpServer;

/// A mesh that waits no longer than that for what does not exist.
async fn mesh(control_plane: &ControlPlane) -> Mesh {
    Mesh::builder()
        .bootstrap(control_plane.bootstrap("http"))
        .options(|options| options.resource_timeout = Duration::from_millis(300))
        .build()
        .await
        .expect("a given bootstrap is all that a mesh needs")
}

fn service(control_plane: &ControlPlane, name: &str, server: &HttpServer) -> Service {
    control_plane.service(name).endpoint(server.address())
}

/// The text of the response.
async fn text<B>(request: RequestBuilder<B>) -> Result<String, Error>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<mesh_hyper::BoxError>,
{
    let response = within(request.send()).await?;
    let body = within(response.into_body().collect()).await?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

#[tokio::test]
async fn the_authority_names_the_target_and_goes_as_it_is_written() {
    let control_plane = ControlPlane::start().await;
    let (one, two) = (
        HttpServer::start("one").await,
        HttpServer::start("two").await,
    );
    service(&control_plane, "catalog.shop:80", &one).apply();
    service(&control_plane, "catalog.shop:8080", &two).apply();
    let client = Client::new(&mesh(&control_plane).await);
    for (url, expected) in [
        (
            "http://catalog.shop/items?n=1",
            "one GET catalog.shop /items ",
        ),
        ("http://catalog.shop:80/", "one GET catalog.shop:80 / "),
        (
            "http://Catalog.SHOP:8080/a",
            "two GET Catalog.SHOP:8080 /a ",
        ),
        ("http://catalog.shop.:8080", "two GET catalog.shop.:8080 / "),
    ] {
        assert_eq!(text(client.get(url)).await.unwrap(), expected);
    }
    // The URI wins.
    let other = client
        .get("http://catalog.shop/")
        .header("host", "else.where");
    assert_eq!(text(other).await.unwrap(), "one GET catalog.shop / ");
    assert_eq!(client.targets(), 4);
}

#[tokio::test]
async fn bodies_of_any_kind_are_sent() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    service(&control_plane, "catalog.shop:80", &server).apply();
    let client = Client::new(&mesh(&control_plane).await);
    let url = "http://catalog.shop/";
    let post = client.post(url, "known");
    assert_eq!(text(post).await.unwrap(), "one POST catalog.shop / known");
    let boxed = Full::new(Bytes::from("boxed")).map_err(|never| match never {});
    let put = client.put(url, "").body(boxed.boxed_unsync());
    assert_eq!(text(put).await.unwrap(), "one PUT catalog.shop / boxed");
    // Not `Unpin`.
    let frames = futures_util::stream::once(async {
        Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from("pinned")))
    });
    let request = Request::put(url).body(StreamBody::new(frames)).unwrap();
    let response = within(client.request(request)).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "one PUT catalog.shop / pinned");
    let deleted = text(client.delete(url)).await.unwrap();
    assert_eq!(deleted, "one DELETE catalog.shop / ");
}

#[tokio::test]
async fn a_bound_client_takes_relative_uris_and_refuses_others() {
    let control_plane = ControlPlane::start().await;
    let server = HttpServer::start("one").await;
    service(&control_plane, "catalog.shop:80", &server).apply();
    let mesh = mesh(&control_plane).await;
    let client = Client::to(&mesh, "http://catalog.shop").unwrap();
    let expected = "one GET catalog.shop /items ";
    for url in [
        "/items",
        "http://catalog.shop/items",
        "http://CATALOG.shop.:80/items",
    ] {
        assert_eq!(text(client.get(url)).await.unwrap(), expected, "{url}");
    }
    for url in ["http://cart.shop/items", "https://catalog.shop/items"] {
        let error = text(client.get(url)).await.unwrap_err();
        assert!(
            error.message().contains("bound to http://catalog.shop"),
            "{error}"
        );
    }
    for url in [
        "catalog.shop",
        "/items",
        "http://catalog.shop/items",
        "ftp://catalog.shop",
    ] {
        let error = Client::to(&mesh, url).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{url}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_anywhere_says_what_to_write() {
    let control_plane = ControlPlane::start().await;
    let client = Client::new(&mesh(&control_plane).await);
    for (url, words) in [
        ("/items", "Client::to"),
        ("ftp://catalog.shop/", "write http or https"),
        ("http://me:secret@catalog.shop/", "user information"),
        ("http://catalog.shop:0/", "1 to 65535"),
        ("http://a b/", "malformed"),
    ] {
        let error = text(client.get(url)).await.unwrap_err();
        assert!(error.message().contains(words), "{url}: {error}");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let error = text(client.get("http://catalog.shop").header("a b", "c")).await;
    assert!(error.unwrap_err().message().contains("malformed"));
    assert_eq!(client.targets(), 0);
    assert_eq!(control_plane.connections(), 0);
}

/// Under the incremental protocol, too.
#[test]
fn once_more_under_delta() {
    mesh_tests::once_more("MESH_TESTING_ADS", "delta", &[]);
}
