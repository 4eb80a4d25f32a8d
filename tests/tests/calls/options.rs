//! What a call's own options say goes before what its channel has, option by option.

use std::time::Duration;

use mesh_core::{
    Code,
    testing::{ControlPlane, Retry},
};
use mesh_tests::{
    backend::Backend,
    fixture::{SERVICE, echo, within},
    pb::{EchoRequest, echo_client::EchoClient},
};
use mesh_tonic::CallOptions;
use tonic::{Request, Status};

fn with(options: CallOptions) -> Request<EchoRequest> {
    let mut request = Request::new(echo("hi"));
    request.extensions_mut().insert(options);
    request
}

#[tokio::test]
async fn no_retries() {
    let control_plane = ControlPlane::start().await;
    let backend = Backend::start("a").await;
    backend.answer(|call| call.fail(Status::unavailable("made up")));
    let retry = Retry::on([Code::Unavailable]).times(2);
    let retry = retry.backoff(Duration::from_millis(1), Duration::from_millis(1));
    let service = control_plane.service(SERVICE).endpoint(backend.address());
    service.retry(retry).apply();
    let mesh = control_plane.mesh("client").await;
    let mut client = EchoClient::new(mesh_tonic::channel(&mesh, SERVICE).unwrap());
    for (options, attempts) in [
        (CallOptions::default(), 3),
        (CallOptions::default().no_retries(false), 3),
        (CallOptions::default().no_retries(true), 1),
    ] {
        let before = backend.counts().calls;
        within(client.unary(with(options))).await.unwrap_err();
        assert_eq!(backend.counts().calls - before, attempts, "{options:?}");
    }
}

#[tokio::test]
async fn a_call_that_says_something_else_waits_as_its_channel_does() {
    let control_plane = ControlPlane::start().await;
    let service = || control_plane.service(SERVICE).version("v1");
    service().apply();
    let mesh = control_plane.mesh("client").await;
    let channel = mesh_tonic::channel(&mesh, SERVICE).unwrap();
    within(channel.ready()).await.unwrap();
    let client = EchoClient::new(channel.wait_for_ready(true));
    let call = |options| {
        let mut client = client.clone();
        tokio::spawn(async move { client.unary(with(options)).await })
    };
    let patient = call(CallOptions::default().no_retries(true));
    let impatient = call(CallOptions::default().wait_for_ready(false));
    let status = within(impatient).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let backend = Backend::start("a").await;
    service().endpoint(backend.address()).apply();
    within(patient).await.unwrap().unwrap();
}
