//! The HTTP client as its users run it, against the echo server.

use std::net::{SocketAddr, TcpListener};

use mesh_core::{
    config::HttpProtocol,
    testing::{ControlPlane, Fault, Retry},
};
use mesh_examples::http::call::{Line, Summary};

use crate::support::{Program, fails, output};

#[tokio::test]
async fn it_tells_what_became_of_each_request() {
    let control_plane = ControlPlane::start().await;
    let flags = ["--port=0", "--server_id=one"];
    let server = Program::start("http_echo", &control_plane.bootstrap_json("echo"), &flags).await;
    let port = server.port("serving on 0.0.0.0:");
    control_plane.server(([0, 0, 0, 0], port).into()).apply();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for protocol in [HttpProtocol::Http1, HttpProtocol::Http2] {
        let service = control_plane.service("catalog.shop:8080").endpoint(address);
        service.protocol(protocol).apply();
        let bootstrap = control_plane.bootstrap_json("web");
        let line = "--url http://catalog.shop:8080/items -n 100 --concurrency 4 -H x-a:1 --data=hi";
        let arguments: Vec<_> = line.split(' ').collect();
        let text = output("http_call", &bootstrap, &arguments).await;
        let mut lines: Vec<_> = text.lines().collect();
        let summary: Summary = serde_json::from_str(lines.pop().unwrap()).unwrap();
        assert_eq!(
            (summary.requests, summary.ok, summary.failed),
            (100, 100, 0)
        );
        assert_eq!(lines.len(), 100);
        for line in lines {
            let line: Line = serde_json::from_str(line).unwrap();
            assert_eq!((line.status, line.server_id.as_deref()), (200, Some("one")));
            assert_eq!(line.upstream, Some(address.to_string()));
        }
    }
    control_plane.service("gone.shop:80").apply();
    let bootstrap = control_plane.bootstrap_json("web");
    let text = output("http_call", &bootstrap, &["--url=http://gone.shop/"]).await;
    let line: Line = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(line.error.is_some(), "{line:?}");
    assert_eq!(line.status, 404);
    assert_eq!(line.flag.as_deref(), Some("NR"));
}

#[tokio::test]
async fn the_flags_say_what_the_mesh_did() {
    let control_plane = ControlPlane::start().await;
    let flags = ["--port=0", "--server_id=one"];
    let server = Program::start("http_echo", &control_plane.bootstrap_json("echo"), &flags).await;
    let port = server.port("serving on 0.0.0.0:");
    control_plane.server(([0, 0, 0, 0], port).into()).apply();
    let echo = SocketAddr::from(([127, 0, 0, 1], port));
    let fault = Fault::new().abort_status(503, 100.0);
    let faulty = control_plane.service("faulty.shop:80").fault(fault);
    faulty.endpoint(echo).apply();
    // Its answers never are what the route wants.
    let again = Retry::conditions(["retriable-status-codes"]).statuses([200]);
    let again = control_plane.service("again.shop:80").retry(again.times(1));
    again.endpoint(echo).apply();
    // Bound, and given up again: nobody listens there.
    let nobody = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    control_plane
        .service("refusing.shop:80")
        .endpoint(nobody)
        .apply();
    let bootstrap = control_plane.bootstrap_json("web");
    for (url, status, flag) in [
        ("--url=http://faulty.shop/", 503, "FI"),
        ("--url=http://again.shop/", 200, "URX"),
        ("--url=http://refusing.shop/", 503, "UF"),
    ] {
        let text = output("http_call", &bootstrap, &[url]).await;
        let line: Line = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (line.status, line.flag.as_deref()),
            (status, Some(flag)),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn a_command_line_that_is_not_valid_is_told() {
    for (arguments, code, text) in [
        (&["--nope"][..], 2, "unknown flag --nope"),
        (&[], 2, "--url is required"),
        (&["--url=http://a/"], 1, "GRPC_XDS_BOOTSTRAP"),
        (&["--help"], 0, ""),
    ] {
        let (status, error) = fails("http_call", arguments).await;
        assert_eq!(status, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}
