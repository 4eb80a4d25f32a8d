//! The echo server as its users run it: a program of its own, configured by the environment.

use std::net::SocketAddr;

use crate::support::{Program, fails};
use mesh_core::testing::{ControlPlane, Permission, Principal, Rbac};
use mesh_examples::http::echo::Echo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The status and the body of a response, to a request that ends its connection.
async fn exchange(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn it_tells_what_it_saw_under_the_control_plane() {
    let control_plane = ControlPlane::start().await;
    let flags = ["--port=0", "--server_id=the-id"];
    let server = Program::start("http_echo", &control_plane.bootstrap_json("echo"), &flags).await;
    let port = server.port("serving on 0.0.0.0:");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = || control_plane.server(([0, 0, 0, 0], port).into());
    listener().apply().acked().await;

    let request = "POST /items?page=2 HTTP/1.1\r\nhost: catalog.shop\r\nx-a: 1\r\nx-a: 2\r\n\
                   content-length: 5\r\nconnection: close\r\n\r\nhello";
    let (status, body) = exchange(address, request).await;
    assert_eq!(status, 200, "{body}");
    let echo: Echo = serde_json::from_str(&body).unwrap();
    assert_eq!(echo.server_id, "the-id");
    assert_eq!((&*echo.method, &*echo.path), ("POST", "/items?page=2"));
    assert_eq!(echo.authority, "catalog.shop");
    assert_eq!(echo.headers["x-a"], "1,2");
    assert_eq!((echo.body_length, echo.peer), (5, None));
    assert_eq!(echo.protocol, "HTTP/1.1");

    let none = Rbac::deny().policy("all", Permission::any(), Principal::any());
    listener().rbac(none).apply().acked().await;
    let (status, _) = exchange(address, request).await;
    assert_eq!(status, 403);
    #[cfg(unix)]
    assert_eq!(server.end("-TERM").await, Some(0));
}

#[tokio::test]
async fn a_command_line_that_is_not_valid_is_told() {
    for (arguments, code, text) in [
        (&["--nope"][..], 2, "unknown flag --nope"),
        (&["--port=0"], 1, "GRPC_XDS_BOOTSTRAP"),
        (&["--help"], 0, ""),
    ] {
        let (status, error) = fails("http_echo", arguments).await;
        assert_eq!(status, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}
