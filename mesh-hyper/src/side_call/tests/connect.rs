use std::net::SocketAddr;

use super::*;

#[tokio::test(start_paused = true)]
async fn failures_to_connect_say_what_was_tried() {
    let mut network = Network::new();
    let error = network
        .call("10.0.0.1:1")
        .open()
        .await
        .expect_err("refused");
    assert!(
        error.starts_with("cannot connect to 10.0.0.1:1: "),
        "{error}"
    );

    let start = Instant::now();
    let error = network
        .call("10.0.0.1:80")
        .open()
        .await
        .expect_err("silent");
    assert_eq!(
        error,
        "it accepted the connection but sent no HTTP/2 SETTINGS within 20s"
    );
    assert_eq!(start.elapsed().as_secs(), 20);
    drop(network.accept().await);

    let opening = network.call("10.0.0.1:80");
    let (error, ()) = tokio::join!(opening.open(), async {
        drop(network.accept.recv().await);
    });
    let error = error.expect_err("closed");
    assert!(error.starts_with("it does not speak HTTP/2: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn tokens_need_a_private_channel_and_are_read_each_time() {
    let mut network = Network::new();
    let directory = Directory::new();
    let token = directory.write("token", "first\n");
    let with_token = |uri: &str| {
        let mut call = network.call(uri);
        call.call_creds.push(CallCreds::JwtTokenFile(token.clone()));
        call
    };
    let error = with_token("10.0.0.1:80")
        .open()
        .await
        .expect_err("plaintext");
    assert!(error.contains("not sent over plaintext TCP"), "{error}");

    let calls = [with_token("unix:///run/xds"), with_token("unix:///run/xds")];
    for (call, expected) in calls.into_iter().zip(["first", "second"]) {
        directory.write("token", expected);
        let (opened, served) = tokio::join!(call.open(), async {
            Served::on(network.accept.recv().await.expect("the network is here")).await
        });
        opened.expect("private");
        let headers = served.request.headers();
        assert_eq!(headers["authorization"], format!("Bearer {expected}"));
        assert_eq!(served.request.uri().host(), Some("localhost"));
    }

    let mut call = network.call("unix:///run/xds");
    call.call_creds
        .push(CallCreds::JwtTokenFile(directory.0.join("absent")));
    let error = call.open().await.expect_err("no file");
    assert!(error.starts_with("cannot read the token file "), "{error}");
    assert!(error.contains("absent"), "{error}");
}

#[tokio::test]
async fn names_are_resolved_and_the_next_address_tried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let mut call = Network::new().call(&format!("dns:///localhost:{port}"));
    call.dial = Arc::new(SystemDial);
    let (opened, served) = tokio::join!(call.open(), async {
        Served::on(listener.accept().await.expect("loopback").0).await
    });
    let mut messages = opened.expect("opened");
    let mut served = served;
    let mut body = served.start();
    body.send_data(framed(b"hello"), false).expect("open");
    assert_eq!(
        messages.recv.recv().await,
        Some(Ok(Bytes::from_static(b"hello")))
    );
}

#[test]
fn targets() {
    let socket = |text: &str| Ok(Target::Socket(text.parse::<SocketAddr>().expect("valid")));
    let host = |host: &str, port| {
        let host = host.to_owned();
        Ok(Target::Host { host, port })
    };
    for (uri, expected) in [
        ("xds.example:15010", host("xds.example", 15010)),
        ("dns:xds.example:1", host("xds.example", 1)),
        ("dns:///xds.example", host("xds.example", 443)),
        ("10.0.0.1:80", socket("10.0.0.1:80")),
        ("ipv4:10.0.0.1", socket("10.0.0.1:443")),
        ("ipv6:[::1]:5", socket("[::1]:5")),
        ("ipv6:///[::1]", socket("[::1]:443")),
        ("unix:///run/xds", Ok(Target::Unix("/run/xds".into()))),
        ("unix:xds.sock", Ok(Target::Unix("xds.sock".into()))),
    ] {
        assert_eq!(Target::parse(uri), expected, "{uri}");
    }
    for uri in ["", "unix:", "a:b", "https://x", "dns://8.8.8.8/x", "::x:1"] {
        assert!(Target::parse(uri).is_err(), "{uri}");
    }
}
