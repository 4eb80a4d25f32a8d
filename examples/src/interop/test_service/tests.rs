use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::{
    interop::TestServer,
    testing::{
        ResponseParameters, test_service_client::TestServiceClient,
        xds_update_health_service_client::XdsUpdateHealthServiceClient,
    },
};

struct Running {
    _server: TestServer,
    channel: Channel,
}

impl Running {
    async fn start() -> Self {
        let server = TestServer::start("here").await.unwrap();
        let uri = format!("http://{}", server.address());
        let channel = Endpoint::from_shared(uri).unwrap().connect_lazy();
        Self {
            _server: server,
            channel,
        }
    }

    fn client(&self) -> TestServiceClient<Channel> {
        TestServiceClient::new(self.channel.clone())
    }
}

fn asks(sizes: &[i32]) -> StreamingOutputCallRequest {
    let parameters = sizes.iter().map(|&size| ResponseParameters {
        size,
        interval_us: 1,
    });
    StreamingOutputCallRequest {
        response_parameters: parameters.collect(),
        ..StreamingOutputCallRequest::default()
    }
}

/// The sizes of all responses, and how they ended.
async fn sizes(mut responses: Streaming<StreamingOutputCallResponse>) -> (Vec<usize>, Code) {
    let mut sizes = Vec::new();
    loop {
        match responses.message().await {
            Ok(Some(response)) => sizes.push(response.payload.unwrap().body.len()),
            Ok(None) => return (sizes, Code::Ok),
            Err(status) => return (sizes, status.code()),
        }
    }
}

#[tokio::test]
async fn unary_calls_say_who_answers() {
    let running = Running::start().await;
    let request = SimpleRequest {
        response_size: 9,
        ..SimpleRequest::default()
    };
    let response = running.client().unary_call(request.clone()).await.unwrap();
    assert_eq!(response.metadata().get("hostname").unwrap(), "here");
    let message = response.into_inner();
    assert_eq!((&*message.hostname, &*message.server_id), ("here", "here"));
    assert_eq!(message.payload.unwrap().body.len(), 9);
    let cached = running
        .client()
        .cacheable_unary_call(request)
        .await
        .unwrap();
    assert!(cached.metadata().contains_key("cache-control"));
    let empty = running.client().empty_call(Empty {}).await.unwrap();
    assert_eq!(empty.metadata().get("hostname").unwrap(), "here");
}

#[tokio::test]
async fn calls_end_as_they_ask_to() {
    let running = Running::start().await;
    let status = EchoStatus {
        code: 9,
        message: "as asked".to_owned(),
    };
    let request = SimpleRequest {
        response_status: Some(status.clone()),
        ..SimpleRequest::default()
    };
    let error = running.client().unary_call(request).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, "as asked")
    );
    for size in [-1, i32::MAX] {
        let request = SimpleRequest {
            response_size: size,
            ..SimpleRequest::default()
        };
        let error = running.client().unary_call(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let mut request = Request::new(SimpleRequest::default());
    let behavior = "error-code-14".parse().unwrap();
    request.metadata_mut().insert("rpc-behavior", behavior);
    let error = running.client().unary_call(request).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let error = running
        .client()
        .unimplemented_call(Empty {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn streams_have_what_was_asked_for() {
    let running = Running::start().await;
    let mut client = running.client();
    let response = client
        .streaming_output_call(asks(&[1, 0, 3]))
        .await
        .unwrap();
    assert_eq!(
        sizes(response.into_inner()).await,
        (vec![1, 0, 3], Code::Ok)
    );

    let inputs = [4, 5].map(|size| StreamingInputCallRequest {
        payload: Some(payload(size).unwrap()),
    });
    let response = client
        .streaming_input_call(tokio_stream::iter(inputs))
        .await
        .unwrap();
    assert_eq!(response.into_inner().aggregated_payload_size, 9);

    let requests = || tokio_stream::iter([asks(&[1, 2]), asks(&[]), asks(&[3])]);
    let response = client.full_duplex_call(requests()).await.unwrap();
    assert_eq!(
        sizes(response.into_inner()).await,
        (vec![1, 2, 3], Code::Ok)
    );
    let response = client.half_duplex_call(requests()).await.unwrap();
    assert_eq!(
        sizes(response.into_inner()).await,
        (vec![1, 2, 3], Code::Ok)
    );

    let fails = StreamingOutputCallRequest {
        response_status: Some(EchoStatus {
            code: 5,
            message: String::new(),
        }),
        ..asks(&[])
    };
    let requests = tokio_stream::iter([asks(&[7]), fails]);
    let response = client.full_duplex_call(requests).await.unwrap();
    assert_eq!(
        sizes(response.into_inner()).await,
        (vec![7], Code::NotFound)
    );
}

#[tokio::test]
async fn full_duplex_answers_before_the_next_request() {
    let running = Running::start().await;
    let (requests, receiver) = mpsc::channel(1);
    requests.send(asks(&[1])).await.unwrap();
    let receiver = ReceiverStream::new(receiver);
    let mut client = running.client();
    let response = client.full_duplex_call(receiver).await.unwrap();
    let mut responses = response.into_inner();
    for size in 1..4 {
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!(response.payload.unwrap().body.len(), size);
        let next = i32::try_from(size).unwrap() + 1;
        requests.send(asks(&[next])).await.unwrap();
    }
}

#[tokio::test]
async fn health_is_what_drivers_say() {
    let running = Running::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(running.channel.clone());
    let mut update = XdsUpdateHealthServiceClient::new(running.channel.clone());
    let mut check = async || {
        let request = tonic_health::pb::HealthCheckRequest::default();
        health.check(request).await.unwrap().into_inner().status()
    };
    use tonic_health::pb::health_check_response::ServingStatus;
    assert_eq!(check().await, ServingStatus::Serving);
    update.set_not_serving(Empty {}).await.unwrap();
    assert_eq!(check().await, ServingStatus::NotServing);
    update.set_serving(Empty {}).await.unwrap();
    assert_eq!(check().await, ServingStatus::Serving);
}
