//! Kinds of calls, sizes, concurrency, and the ways in which channels are used.

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use mesh_core::{Code, testing::Retry};
use mesh_tests::{
    backend::Backend,
    every_way,
    fixture::{Fixture, SERVICE, echo, within},
    pb::{EchoReply, EchoRequest, echo_client::EchoClient},
    way::{Ask, Call, Chat, Way},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

#[tokio::test]
async fn all_four_kinds_of_streaming() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();

    let reply = within(client.unary(echo("one"))).await.unwrap();
    let expected = EchoReply {
        payload: "one".into(),
        server: "a".to_owned(),
    };
    assert_eq!(reply.into_inner(), expected);

    let messages = stream::iter(["a", "bc", "", "def"].map(echo));
    let reply = within(client.collect(messages)).await.unwrap();
    assert_eq!(reply.into_inner().payload, "abcdef");

    let request = EchoRequest {
        payload: "again".into(),
        count: 7,
    };
    let replies = within(client.expand(request)).await.unwrap().into_inner();
    let replies: Vec<_> = within(replies.collect()).await;
    assert_eq!(replies.len(), 7);
    assert!(
        replies
            .iter()
            .all(|r| r.as_ref().unwrap().payload == "again")
    );

    // The answer to one message comes before the next is sent.
    let (messages, outbox) = mpsc::channel(1);
    let mut chat = within(client.chat(ReceiverStream::new(outbox)))
        .await
        .unwrap()
        .into_inner();
    for number in 0..5 {
        let text = format!("message {number}");
        messages.send(echo(text.clone())).await.unwrap();
        let reply = within(chat.message()).await.unwrap().unwrap();
        assert_eq!(reply.payload, text);
    }
    drop(messages);
    assert_eq!(within(chat.message()).await.unwrap(), None);
    backend
        .until("all calls have ended", |seen| seen.active == 0)
        .await;
}

#[tokio::test]
async fn streams_without_a_message() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    let none = EchoRequest {
        payload: Bytes::new(),
        count: 0,
    };
    let mut replies = within(client.expand(none)).await.unwrap().into_inner();
    assert_eq!(within(replies.message()).await.unwrap(), None);
    let reply = within(client.collect(stream::empty())).await.unwrap();
    assert_eq!(reply.into_inner().payload, "");
}

#[tokio::test]
async fn big_messages() {
    let payload = Bytes::from(
        (0..9_000_000_u32)
            .map(|n| (n % 251) as u8)
            .collect::<Vec<_>>(),
    );
    for retry in [None, Some(Retry::on([Code::Unavailable]))] {
        let backend = Backend::start("a").await;
        let fixture = Fixture::start().await;
        fixture.serve(&[&backend]).retry(retry).apply();
        let mut client = fixture.client();
        let reply = within(client.unary(echo(payload.clone()))).await.unwrap();
        assert!(reply.into_inner().payload == payload);
        let parts = [0, 2, 4, 6].map(|at| payload.slice(at * 1_000_000..(at + 2) * 1_000_000));
        let messages = stream::iter(parts.map(echo));
        let reply = within(client.collect(messages)).await.unwrap();
        assert!(reply.into_inner().payload == payload[..8_000_000]);
        let mut chat = within(client.chat(stream::iter([echo(payload.clone())])))
            .await
            .unwrap()
            .into_inner();
        assert!(within(chat.message()).await.unwrap().unwrap().payload == payload);
    }
}

async fn concurrent_streams_share_a_connection(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let caller = fixture.caller();
    let chats = (0..150).map(|chat| {
        let caller = caller.clone();
        tokio::spawn(async move {
            let mut open = Chat::open(&caller).await.unwrap();
            for number in 0..20 {
                let text = format!("{chat}: {number}");
                open.send(text.clone());
                assert_eq!(open.hear().await.unwrap().1, text);
            }
            open
        })
    });
    let chats = within(join_all(chats)).await;
    // None has ended: all were open at once.
    backend
        .until("all streams are open", |seen| seen.active == 150)
        .await;
    for chat in chats {
        within(chat.unwrap().finish()).await.unwrap();
    }
    assert_eq!(backend.counts().accepted, way.connections(150));
}

async fn more_calls_than_the_server_admits_at_once(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let caller = fixture.caller();
    // hyper's server admits 200 streams.
    let calls = (0..1_000).map(|number| {
        let caller = caller.clone();
        tokio::spawn(async move {
            let text = format!("call {number}");
            let reply = caller.ask(Ask::new(text.clone())).await.unwrap();
            assert_eq!(reply.payload, text);
        })
    });
    for call in within(join_all(calls)).await {
        call.unwrap();
    }
    let seen = backend.counts();
    assert_eq!((seen.calls, seen.accepted), (1_000, 1));
}

#[tokio::test]
async fn interceptors_add_headers_and_refuse_calls() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = EchoClient::with_interceptor(fixture.channel(), |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("x-token", "t0k3n".parse().unwrap());
        Ok(request)
    });
    within(client.unary(echo("hi"))).await.unwrap();
    assert_eq!(backend.heads()[0].headers["x-token"], "t0k3n");

    let mut client = EchoClient::with_interceptor(fixture.channel(), |_| {
        Err(Status::unauthenticated("no token"))
    });
    let refused = within(client.unary(echo("hi"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert_eq!(refused.message(), "no token");
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn interceptors_set_headers_that_routes_match() {
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let fixture = Fixture::start().await;
    fixture
        .service()
        .version("blue")
        .endpoint(blue.address())
        .version("green")
        .weight(0)
        .endpoint(green.address())
        .route(
            mesh_core::testing::Route::prefix("")
                .header("x-tester", "yes")
                .to("green"),
        )
        .apply();
    let mut client = EchoClient::with_interceptor(fixture.channel(), |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("x-tester", "yes".parse().unwrap());
        Ok(request)
    });
    let reply = within(client.unary(echo("hi"))).await.unwrap();
    assert_eq!(reply.into_inner().server, "green");
    let reply = within(fixture.client().unary(echo("hi"))).await.unwrap();
    assert_eq!(reply.into_inner().server, "blue");
}

async fn calls_are_spawned_and_callers_cloned(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let first = fixture.caller();
    let clones: Vec<_> = (0..8).map(|_| first.clone()).collect();
    // A clone outlives what it was cloned from, and the mesh's own handle.
    drop(first);
    drop(fixture.mesh);
    let calls = clones
        .into_iter()
        .map(|caller| tokio::spawn(async move { caller.ask(Ask::new("spawned")).await }));
    for reply in within(join_all(calls)).await {
        assert_eq!(reply.unwrap().unwrap().payload, "spawned");
    }
    let accepted = backend.counts().accepted;
    assert!(accepted <= way.connections(8), "{accepted}");
}

async fn a_call_outlives_its_caller(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let mut chat = within(Chat::open(&fixture.caller())).await.unwrap();
    drop(fixture);
    within(chat.say()).await.unwrap();
    within(chat.finish()).await.unwrap();
}

#[tokio::test]
async fn targets_may_be_uris() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let targets: [String; 2] = [SERVICE.to_owned(), format!("xds:///{SERVICE}")];
    let channels = targets.map(|target| mesh_tonic::channel(&fixture.mesh, &target).unwrap());
    for channel in channels.clone() {
        within(EchoClient::new(channel).unary(echo("hi")))
            .await
            .unwrap();
    }
    assert_eq!(backend.counts().accepted, 1, "both are one target");
}

async fn a_caller_that_gives_up_ends_the_call_at_the_server(way: Way) {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(way, &[&backend]).await;
    let caller = fixture.caller();

    // Before the response's headers.
    backend.hold();
    let call = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call().await }
    });
    backend
        .until("the call came", |seen| seen.active == 1)
        .await;
    call.abort();
    backend
        .until("the call ended", |seen| seen.active == 0)
        .await;

    // After them, with the request's stream ended.
    backend.answer(|call| call.stall());
    let listen = Chat::listen(&caller, Ask::new("hi"));
    let replies = within(listen).await.unwrap();
    backend
        .until("the call came", |seen| seen.active == 1)
        .await;
    drop(replies);
    backend
        .until("the call ended", |seen| seen.active == 0)
        .await;

    // After them, while the request's stream is open and silent.
    backend.echo();
    let chat = within(Chat::open(&caller)).await.unwrap();
    backend
        .until("the call came", |seen| seen.active == 1)
        .await;
    let pieces = chat.give_up();
    backend
        .until("the call ended", |seen| seen.active == 0)
        .await;
    within(pieces.closed()).await;
}

every_way!(
    a_call_outlives_its_caller,
    a_caller_that_gives_up_ends_the_call_at_the_server,
);
every_way!(tokio::test(flavor = "multi_thread", worker_threads = 2);
    calls_are_spawned_and_callers_cloned,
    concurrent_streams_share_a_connection,
);
every_way!(grpc and http2, tokio::test(flavor = "multi_thread", worker_threads = 2);
    more_calls_than_the_server_admits_at_once,
);
