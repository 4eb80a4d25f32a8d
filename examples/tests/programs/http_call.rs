//! The HTTP client as its users run it, against the echo server.

use std::net::SocketAddr;

use mesh_core::{config::HttpProtocol, testing::ControlPlane};
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
