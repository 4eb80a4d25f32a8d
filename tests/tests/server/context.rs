use std::time::Duration;

use mesh_core::{Context, resilience::parse_grpc_timeout};
use mesh_tests::{
    backend::{Backend, Call},
    fixture::{Fixture, within},
    pb::{EchoRequest, echo_client::EchoClient, echo_server::EchoServer},
};
use mesh_tonic::{CallOptions, Channel, Server, ServerTls};
use parking_lot::Mutex;
use std::sync::Arc;
use tonic::{Code, Request};

use crate::running::{Answering, Running, alone, hello, port};

/// The time limits that a backend was told.
type Told = Arc<Mutex<Vec<Option<Duration>>>>;

/// A server whose handler calls another. A request of the payload `own` has a longer limit of its
/// own, one of `detached` no part in the handler's.
async fn relay() -> (Running, Backend, Told, Fixture) {
    let fixture = Fixture::start().await;
    let backend = Backend::start("behind").await;
    fixture
        .service()
        .version("v1")
        .endpoint(backend.address())
        .apply();
    let told = Told::default();
    let saw = Arc::clone(&told);
    backend.answer(move |call: Call| {
        let limit = call.head.headers.get("grpc-timeout");
        saw.lock()
            .push(limit.map(|limit| parse_grpc_timeout(limit).unwrap()));
        call.echo()
    });
    let behind: EchoClient<Channel> = fixture.client();
    let service = Answering(move |request: Request<EchoRequest>| {
        let mut behind = behind.clone();
        async move {
            let request = request.into_inner();
            let mut call = Request::new(request.clone());
            match &*request.payload {
                b"own" => call.set_timeout(Duration::from_secs(500)),
                b"short" => call.set_timeout(Duration::from_secs(5)),
                b"detached" => {
                    call.extensions_mut()
                        .insert(CallOptions::default().detached(true));
                }
                b"spawned" => {
                    let work = async move { behind.unary(call).await };
                    let reply = tokio::spawn(Context::current().scope(work)).await;
                    return Ok(reply.expect("no panic")?.into_inner());
                }
                _ => {}
            }
            Ok(behind.unary(call).await?.into_inner())
        }
    });
    let mesh = alone().await;
    let server = Server::new(&mesh)
        .add_service(EchoServer::new(service))
        .tls(ServerTls::Plaintext);
    let running = Running::start(server, port().await).await;
    (running, backend, told, fixture)
}

#[tokio::test]
async fn a_handlers_calls_inherit_what_is_left_of_its_deadline() {
    let (running, _backend, told, _fixture) = relay().await;
    let mut client = running.client().await;
    for payload in ["plain", "own", "short", "spawned", "detached"] {
        let mut request = Request::new(EchoRequest {
            payload: payload.into(),
            ..hello()
        });
        request.set_timeout(Duration::from_secs(100));
        within(client.unary(request)).await.unwrap();
    }
    within(client.unary(hello())).await.unwrap();
    let told = told.lock();
    let inherited = |limit: Option<Duration>| {
        let limit = limit.expect("a limit");
        (Duration::from_secs(60)..=Duration::from_secs(100)).contains(&limit)
    };
    assert!(inherited(told[0]) && inherited(told[1]), "{told:?}");
    assert!(told[2].unwrap() <= Duration::from_secs(5), "{told:?}");
    assert!(inherited(told[3]), "{told:?}");
    assert_eq!((told[4], told[5]), (None, None), "{told:?}");
}

#[tokio::test]
async fn a_deadline_that_passes_ends_the_handler_and_the_call_it_makes() {
    let (running, backend, _, _fixture) = relay().await;
    backend.hold();
    let mut client = running.client().await;
    let mut request = Request::new(hello());
    request.set_timeout(Duration::from_millis(300));
    let status = within(client.unary(request)).await.unwrap_err();
    // tonic's client gives up at the same time, and calls that CANCELLED.
    assert!(matches!(
        status.code(),
        Code::DeadlineExceeded | Code::Cancelled
    ));
    backend
        .until("its call is cancelled", |counts| {
            counts.calls == 1 && counts.active == 0
        })
        .await;
}
