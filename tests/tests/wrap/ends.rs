//! How connections of a listener end.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use http::StatusCode;
use mesh_core::{
    connections::{ConnectionState, Ending},
    testing::ControlPlane,
};
use mesh_hyper::{MeshListener, ServingMode};
use mesh_tests::{
    eventually,
    fixture::within,
    running::port,
    secured::{client_tls, server_tls},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::{SHORT, World, get_from, obedient, who};

/// Answers `/held` when it is told to.
fn held(begun: &Arc<Notify>, go_on: &Arc<Notify>) -> Router {
    let (begun, go_on) = (Arc::clone(begun), Arc::clone(go_on));
    let held = async move || {
        begun.notify_one();
        go_on.notified().await;
        "done"
    };
    Router::new().route("/held", get(held))
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_tells_the_loop() {
    let (begun, go_on) = (Arc::default(), Arc::default());
    let mut world = World::start(held(&begun, &go_on)).await;
    let (http, mesh) = (world.http.clone(), world.server.mesh.clone());
    let asked = tokio::spawn(async move { get_from(&http, "/held").await });
    within(begun.notified()).await;
    let drained = tokio::spawn(async move { mesh.drain(Duration::from_secs(60)).await });
    within(world.server.mesh.connections().drain_begun()).await;
    // The port is closed meanwhile.
    let refused = || {
        std::net::TcpStream::connect(world.address)
            .is_err()
            .then_some(())
    };
    eventually(refused, || "it accepts".to_owned()).await;
    go_on.notify_one();
    let (status, said) = asked.await.unwrap().unwrap();
    assert_eq!((status, &*said), (StatusCode::OK, "done"));
    let report = within(drained).await.unwrap();
    assert_eq!((report.finished, report.cut), (1, 0));
    within(&mut world.serving).await.unwrap();
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_end_in_time() {
    let (begun, go_on) = (Arc::default(), Arc::default());
    let world = World::start(held(&begun, &go_on)).await;
    let http = world.http.clone();
    let asked = tokio::spawn(async move { get_from(&http, "/held").await });
    within(begun.notified()).await;
    let report = within(world.server.mesh.drain(SHORT)).await;
    assert_eq!(
        (report.finished, report.cut, report.requests_cut),
        (0, 1, 1)
    );
    asked.await.unwrap().unwrap_err();
    assert!(world.server.mesh.connections().is_empty());
}

#[tokio::test]
async fn a_loop_that_nobody_tells_has_its_responses_say_that_the_connection_closes() {
    let options = |options: &mut mesh_hyper::ServerOptions| {
        options.max_connection_age = Some(Duration::ZERO);
    };
    let world = World::with(who(), None, None, options).await;
    let mut io = TcpStream::connect(world.address).await.unwrap();
    let ends = || {
        let live = world.server.mesh.connections().list();
        let state = live.first().map(|one| one.state);
        let draining = ConnectionState::Draining(Ending::Age);
        (state == Some(draining)).then_some(())
    };
    eventually(ends, || "it does not drain".to_owned()).await;
    // Without `Connection: close` of the client's.
    let request = b"GET /who HTTP/1.1\r\nhost: echo.test\r\n\r\n";
    io.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(io.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn connections_that_outlive_their_grace_are_closed() {
    let options = |options: &mut mesh_hyper::ServerOptions| {
        options.max_connection_age = Some(SHORT);
        options.drain_grace = SHORT;
    };
    let (begun, go_on) = (Arc::default(), Arc::default());
    let router = held(&begun, &go_on);
    let world = World::with(router, server_tls(), client_tls(), options).await;
    get_from(&world.http, "/held").await.unwrap_err();
    let connections = || world.server.mesh.connections().is_empty().then_some(());
    eventually(connections, || "there is a connection".to_owned()).await;
}

#[tokio::test]
async fn without_its_listener_nothing_is_accepted_until_it_is_back() {
    let control_plane = ControlPlane::start().await;
    let mesh = obedient(&control_plane).await;
    let socket = port().await;
    let address = socket.local_addr().unwrap();
    let described = || control_plane.server(address);
    described().apply();
    let mut listener = MeshListener::bind(&mesh, socket).await.unwrap();
    let _live = TcpStream::connect(address).await.unwrap();
    let taken = within(listener.accept()).await.unwrap();

    described().remove();
    let gone = || matches!(listener.mode(), ServingMode::NotServing(_)).then_some(());
    eventually(gone, || format!("{:?}", listener.mode())).await;
    let mut refused = TcpStream::connect(address).await.unwrap();
    let mut got = Vec::new();
    let read = within(refused.read_to_end(&mut got)).await;
    assert!(read.is_err() || got.is_empty());
    let ending = || {
        let all = mesh.connections().list();
        let one = all.iter().find(|one| one.peer == *taken.peer().peer());
        let why = Ending::ListenerChanged;
        let draining = ConnectionState::Draining(why);
        one.is_some_and(|one| one.state == draining).then_some(())
    };
    eventually(ending, || "it does not drain".to_owned()).await;

    described().apply();
    let back = || (listener.mode() == ServingMode::Serving).then_some(());
    eventually(back, || format!("{:?}", listener.mode())).await;
    let _another = TcpStream::connect(address).await.unwrap();
    assert!(within(listener.accept()).await.is_some());
}

#[tokio::test]
async fn a_listener_that_is_dropped_closes_its_port_and_goes_on_watching() {
    let world = World::start(who()).await;
    let socket = port().await;
    let address = socket.local_addr().unwrap();
    world.control_plane.server(address).apply();
    let mesh = &world.server.mesh;
    let targets = mesh.targets().len();
    let mut listener = MeshListener::bind(mesh, socket).await.unwrap();
    let _client = TcpStream::connect(address).await.unwrap();
    let mut taken = within(listener.accept()).await.unwrap();
    drop(listener);
    let refused = || std::net::TcpStream::connect(address).is_err().then_some(());
    eventually(refused, || "it accepts".to_owned()).await;

    assert_eq!(mesh.targets().len(), targets + 1, "it is still followed");
    let reading = tokio::spawn(async move { (taken.read_u8().await.unwrap_err(), taken) });
    mesh.drain(Duration::ZERO).await;
    let (error, taken) = within(reading).await.unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(error.to_string().contains("drain"), "{error}");
    drop(taken);
    let over = || (mesh.targets().len() <= targets).then_some(());
    eventually(over, || format!("{:?}", mesh.targets())).await;
}
