//! Through the operating system.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use mesh_core::{
    balance::Connectivity::{Failing, Idle, Ready},
    config::Address,
    runtime::Transport,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use super::harness::*;
use crate::conn::{Net, NetOptions};

/// Answers everything, with a limit of streams.
async fn echo(io: impl AsyncRead + AsyncWrite + Unpin, max_streams: u32) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(max_streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else {
        return;
    };
    while let Some(Ok(call)) = connection.accept().await {
        answer(call, "echo");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_calls_over_few_streams_all_succeed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = Address::Socket(listener.local_addr().expect("bound"));
    let accepts = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = tokio::spawn({
        let accepts = Arc::clone(&accepts);
        async move {
            loop {
                let (io, _) = listener.accept().await.expect("loopback");
                accepts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                tokio::spawn(echo(io, 4));
            }
        }
    });
    let config = Config {
        cap: Some(2),
        ..Config::default()
    };
    let (link, log) = link_and_log(address, &config);
    let net = Net::default();
    let pool = Arc::new(net.open(&link));
    let connects: Vec<_> = (0..100)
        .map(|_| {
            let (net, pool, link) = (net.clone(), Arc::clone(&pool), Arc::clone(&link));
            tokio::spawn(async move { net.connect(&pool, &link) })
        })
        .collect();
    for connect in connects {
        connect.await.expect("no panic");
    }
    log.until(Ready).await;
    assert_eq!(accepts.load(std::sync::atomic::Ordering::SeqCst), 1);

    let callers: Vec<_> = (0..64)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                for _ in 0..30 {
                    let Ok(sent) = pool.try_send(get("/")) else {
                        panic!("not connected")
                    };
                    assert_eq!(text(sent.await).await, "echo");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    assert!(accepts.load(std::sync::atomic::Ordering::SeqCst) <= 2);
    server.abort();
}

#[tokio::test]
async fn a_port_that_reopens_is_reached_within_one_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let socket = listener.local_addr().expect("bound");
    drop(listener);
    let address = Address::Socket(socket);
    let (link, log) = link_and_log(address, &Config::default());
    let net = Net::new(NetOptions {
        backoff_base: Duration::from_millis(5),
        backoff_max: Duration::from_millis(5),
        ..NetOptions::default()
    });
    let pool = net.open(&link);
    net.connect(&pool, &link);
    log.until(Failing).await;
    let error = link.last_error().expect("an error");
    assert!(
        error.starts_with(&format!("cannot connect to {socket}: ")),
        "{error}"
    );

    let listener = TcpListener::bind(socket).await.expect("it was free");
    let server = tokio::spawn(async move {
        let (io, _) = listener.accept().await.expect("loopback");
        echo(io, 10).await;
    });
    log.until(Idle).await;
    net.connect(&pool, &link);
    log.until(Ready).await;
    let sent = pool.try_send(get("/")).expect("connected");
    assert_eq!(text(sent.await).await, "echo");
    server.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn unix_sockets() {
    let path =
        std::env::temp_dir().join(format!("mesh-{}-{}", std::process::id(), fastrand::u64(..)));
    let listener = tokio::net::UnixListener::bind(&path).expect("a new file");
    let server = tokio::spawn(async move {
        let (io, _) = listener.accept().await.expect("local");
        echo(io, 10).await;
    });
    let address = Address::Unix(path.clone());
    let (link, log) = link_and_log(address, &Config::default());
    let net = Net::default();
    let pool = net.open(&link);
    net.connect(&pool, &link);
    log.until(Ready).await;
    std::fs::remove_file(&path).expect("it is here");
    let sent = pool.try_send(get("/")).expect("connected");
    assert_eq!(text(sent.await).await, "echo");
    server.abort();
}
