//! Servers, and both ends of mTLS.

use std::{net::SocketAddr, ops::Range};

use mesh_core::testing::{CertificateAuthority, ControlPlane, Permission, Principal, Rbac, Route};
use mesh_tests::{
    alone,
    backend::Backend,
    every_way,
    fixture::SERVICE,
    load::call,
    running::port,
    secured::{CLIENT, SERVER, Secured, Side, client_tls, echo_server, server_tls},
    way::Way,
};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{Usage, heap};

/// Serves once, over mTLS, and shuts down.
async fn serve_once(
    control_plane: &ControlPlane,
    [client, server]: [&Side; 2],
    listener: TcpListener,
    address: SocketAddr,
) {
    control_plane.server(address).tls(server_tls()).apply();
    let service = control_plane.service(SERVICE).endpoint(address);
    service.tls(client_tls()).apply();
    let (shut_down, told) = oneshot::channel::<()>();
    let serving = echo_server(&server.mesh).serve_with_shutdown(listener, async {
        let _ = told.await;
    });
    let serving = tokio::spawn(serving);
    let channel = client.channel();
    call(&channel).await.expect("it serves");
    assert_eq!(server.mesh.connections().len(), 1);
    drop(channel);
    drop(shut_down);
    serving
        .await
        .expect("no panic")
        .expect("it was told to end");
    assert!(server.mesh.connections().is_empty());
    assert!(server.mesh.certificates().is_empty());
    control_plane.server(address).remove();
    control_plane.service(SERVICE).remove();
}

#[test]
fn a_server_that_shuts_down_and_a_client_with_mtls_leave_nothing() {
    alone(async {
        const CYCLES: usize = 100;
        // Less than a certificate or a name for each.
        const SLACK: i64 = CYCLES as i64 * 160;

        let control_plane = ControlPlane::start().await;
        let backend = Backend::start("unused").await;
        let ca = CertificateAuthority::new("root");
        let client = Side::start(&control_plane, "client", CLIENT, &ca).await;
        let server = Side::start(&control_plane, "server", SERVER, &ca).await;
        // The port is kept from one server to the next.
        let listener = port().await;
        let address = listener.local_addr().expect("it is bound");
        let listener = listener.into_std().expect("nothing waits on it");
        let mut usage = Usage::now(&control_plane, &backend);
        // From its first target on each mesh has one that follows the control plane.
        usage.tasks += 2;
        let cycles = async |cycles: Range<usize>| {
            for _ in cycles {
                let again = listener.try_clone().expect("there are descriptors");
                let again = TcpListener::from_std(again).expect("there is a runtime");
                serve_once(&control_plane, [&client, &server], again, address).await;
                usage.is_back(&control_plane, &backend).await;
                control_plane.clear_log();
            }
            heap()
        };
        let before = cycles(0..CYCLES / 4).await;
        let after = cycles(CYCLES / 4..CYCLES + CYCLES / 4).await;
        let grown = after - before;
        assert!(grown < SLACK, "{grown} bytes more after {CYCLES} servers");
    });
}

async fn both_ends_take_everything_with_them(way: Way) {
    let control_plane = ControlPlane::start().await;
    let backend = Backend::start("unused").await;
    let usage = Usage::now(&control_plane, &backend);
    let secured = Secured::over(way).await;
    secured.call().await.expect("it serves");
    secured.client.rotate(&secured.ca).await;
    secured.server.rotate(&secured.ca).await;
    secured.reconnect().await;
    secured.call().await.expect("it serves");
    drop(secured);
    usage.is_back(&control_plane, &backend).await;
}

/// InterceptorLeak_RDSUpdate of the reference's list "Server", and the same for certificates.
async fn a_thousand_changes_of_a_live_server_leave_nothing(way: Way) {
    const CHANGES: usize = 1_000;
    const SLACK: i64 = 64 << 10;

    let secured = Secured::over(way).await;
    let me = || Principal::identity(CLIENT);
    let changes = async |changes: Range<usize>| {
        for change in changes {
            let policy = format!("policy {}", change % 7);
            let rules = Rbac::allow().policy(policy, Permission::any(), me());
            let server = secured.listener().clear_routes().rbac(rules.clone());
            let server = server.route(Route::path("/mesh.test.Echo/Unary").rbac(rules));
            server.apply().acked().await;
            secured.call().await.expect("it is allowed");
            if change % 10 == 0 {
                secured.client.rotate(&secured.ca).await;
                secured.server.rotate(&secured.ca).await;
                secured.reconnect().await;
            }
            secured.control_plane.clear_log();
        }
        heap()
    };
    let before = changes(0..CHANGES / 4).await;
    let after = changes(CHANGES / 4..CHANGES + CHANGES / 4).await;
    let grown = after - before;
    assert!(grown < SLACK, "{grown} bytes more after {CHANGES} changes");
}

every_way!(alone;
    both_ends_take_everything_with_them,
    a_thousand_changes_of_a_live_server_leave_nothing,
);
