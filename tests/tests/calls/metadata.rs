//! What passes between client and server besides messages.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use mesh_tests::{
    backend::Backend,
    fixture::{Fixture, echo, within},
    way::Way,
};
use tonic::{
    Code, Request, Status,
    metadata::{MetadataMap, MetadataValue},
};

const BYTES: &[u8] = &[0, 1, 2, 0xfe, 0xff, b'\n', b','];

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|&(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    pairs.collect()
}

#[tokio::test]
async fn metadata_passes_both_ways() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    backend.answer(|call| {
        let binary = call.head.headers["x-bytes-bin"].clone();
        let mut last = headers(&[("x-last", "trailer")]);
        last.insert("x-last-bin", binary);
        call.echo_with(headers(&[("x-first", "header")]), last)
    });

    let mut request = Request::new(echo("hi"));
    let metadata = request.metadata_mut();
    metadata.insert("x-text", "some text".parse().unwrap());
    metadata.append("x-many", "1".parse().unwrap());
    metadata.append("x-many", "2".parse().unwrap());
    metadata.insert_bin("x-bytes-bin", MetadataValue::from_bytes(BYTES));
    let response = within(client.unary(request)).await.unwrap();
    // The generated client merges the trailers of a unary call into its metadata.
    let metadata = response.metadata();
    assert_eq!(metadata.get("x-first").unwrap(), "header");
    assert_eq!(metadata.get("x-last").unwrap(), "trailer");
    let bytes = metadata.get_bin("x-last-bin").unwrap().to_bytes().unwrap();
    assert_eq!(bytes, BYTES);

    let seen = MetadataMap::from_headers(backend.heads().remove(0).headers);
    assert_eq!(seen.get("x-text").unwrap(), "some text");
    let many: Vec<_> = seen.get_all("x-many").iter().collect();
    assert_eq!(many, ["1", "2"]);
    let bytes = seen.get_bin("x-bytes-bin").unwrap().to_bytes().unwrap();
    assert_eq!(bytes, BYTES);
}

#[tokio::test]
async fn trailers_of_streams() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    backend
        .answer(|call| call.echo_with(headers(&[("x-first", "1")]), headers(&[("x-last", "2")])));
    let response = within(client.expand(echo("hi"))).await.unwrap();
    assert_eq!(response.metadata().get("x-first").unwrap(), "1");
    let mut replies = response.into_inner();
    within(replies.message()).await.unwrap().unwrap();
    let trailers = within(replies.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers.get("x-last").unwrap(), "2");
}

#[tokio::test]
async fn what_a_request_looks_like_to_the_server() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    within(client.unary(echo("hi"))).await.unwrap();
    let head = backend.heads().remove(0);
    assert_eq!(head.path, "/mesh.test.Echo/Unary");
    assert_eq!(
        head.authority.as_deref(),
        Some(mesh_tests::fixture::SERVICE)
    );
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["content-type"], "application/grpc");
    let agent = head.headers["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("mesh-rust/"), "{agent}");
    for name in ["grpc-timeout", "grpc-previous-rpc-attempts"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn errors_that_are_only_trailers() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    for number in 1..=16 {
        backend.answer(move |call| {
            let mut metadata = MetadataMap::new();
            metadata.insert("x-hint", "look there".parse().unwrap());
            metadata.insert_bin("x-bytes-bin", MetadataValue::from_bytes(BYTES));
            let code = Code::from_i32(number);
            let text = "100 % wrong: äöü\n";
            call.fail(Status::with_details_and_metadata(
                code,
                text,
                Bytes::from_static(BYTES),
                metadata,
            ))
        });
        let status = within(client.unary(echo("hi"))).await.unwrap_err();
        assert_eq!(status.code(), Code::from_i32(number));
        assert_eq!(status.message(), "100 % wrong: äöü\n");
        assert_eq!(status.details(), BYTES);
        assert_eq!(status.metadata().get("x-hint").unwrap(), "look there");
        let bytes = status.metadata().get_bin("x-bytes-bin").unwrap();
        assert_eq!(bytes.to_bytes().unwrap(), BYTES);
    }
}

#[tokio::test]
async fn errors_after_messages() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    backend.answer(|call| call.headers_then(Status::data_loss("half of it")));
    let mut replies = within(client.expand(echo("hi")))
        .await
        .unwrap()
        .into_inner();
    let status = within(replies.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert_eq!(status.message(), "half of it");
    let status = within(client.unary(echo("hi"))).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
}

/// `http-grpc-status-mapping`.
#[tokio::test]
async fn answers_that_no_grpc_server_gave() {
    let backend = Backend::start("a").await;
    let fixture = Fixture::on(Way::Grpc, &[&backend]).await;
    let mut client = fixture.client();
    for (http, code) in [
        (400, Code::Internal),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (429, Code::Unavailable),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::Unavailable),
        (500, Code::Unknown),
        (302, Code::Unknown),
    ] {
        backend.answer(move |_| async move {
            let mut response = Response::new(tonic::body::Body::empty());
            *response.status_mut() = StatusCode::from_u16(http).unwrap();
            Ok(response)
        });
        let status = within(client.unary(echo("hi"))).await.unwrap_err();
        assert_eq!(status.code(), code, "{http}");
    }
}
