use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    metadata::AsciiMetadataKey,
};

use crate::{Answer, Call, Failure, codec::Plain};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes calls over a channel, one after another.
pub(crate) async fn unary<C>(channel: C, call: &Call) -> Vec<Answer>
where
    C: GrpcService<Body> + Clone,
    C::Error: Into<BoxError>,
    C::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut answers = Vec::new();
    for _ in 0..call.count {
        let answer = one(Grpc::new(channel.clone()), call).await;
        answers.push(match answer {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).expect("servers answer in JSON")),
            Err(status) => Err(Failure {
                code: code_name(status.code()),
                message: status.message().to_owned(),
            }),
        });
    }
    answers
}

async fn one<C>(mut grpc: Grpc<C>, call: &Call) -> Result<Bytes, Status>
where
    C: GrpcService<Body>,
    C::Error: Into<BoxError>,
    C::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <C::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut request = Request::new(Bytes::from(call.body.clone()));
    request.set_timeout(Duration::from_secs_f64(call.timeout));
    for (key, value) in &call.metadata {
        let key: AsciiMetadataKey = key.parse().expect("a metadata key");
        let value = value.parse().expect("a metadata value");
        request.metadata_mut().append(key, value);
    }
    let method: PathAndQuery = call.method.parse().expect("a method is a path");
    grpc.ready()
        .await
        .map_err(|error| Status::unknown(error.into().to_string()))?;
    let response = grpc.unary(request, method, Plain).await?;
    Ok(response.into_inner())
}

fn code_name(code: tonic::Code) -> String {
    let code = mesh_core::Code::from_i32(code as i32);
    code.name().to_owned()
}
