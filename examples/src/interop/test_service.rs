use std::{pin::Pin, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{AsciiMetadataValue, MetadataMap, errors::InvalidMetadataValue},
};

use super::behavior::behave;
use crate::testing::{
    EchoStatus, Empty, Payload, SimpleRequest, SimpleResponse, StreamingInputCallRequest,
    StreamingInputCallResponse, StreamingOutputCallRequest, StreamingOutputCallResponse,
    test_service_server,
};

/// `grpc.testing.TestService`: answers with its hostname, in unary responses and in the `hostname`
/// metadata of all.
///
/// Request metadata `rpc-behavior` changes what unary methods do: `sleep-N` answers after N
/// seconds, `keep-open` never answers, `error-code-N` fails with status N,
/// `succeed-on-retry-attempt-N` answers if N attempts came before this one. Several are done in
/// order; with `hostname=NAME ` in front, one is for the server of that name.
#[derive(Debug, Clone)]
pub struct TestService {
    hostname: AsciiMetadataValue,
    server_id: String,
}

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

/// The largest payload that a server makes.
const MAX_PAYLOAD: usize = 16 << 20;

// === impl TestService ===

impl TestService {
    /// The service of a server with these names.
    ///
    /// # Errors
    /// If `hostname` is no metadata value.
    pub fn new(hostname: &str, server_id: impl Into<String>) -> Result<Self, InvalidMetadataValue> {
        Ok(Self {
            hostname: hostname.parse()?,
            server_id: server_id.into(),
        })
    }

    fn hostname(&self) -> &str {
        self.hostname.to_str().unwrap_or_default()
    }

    fn response<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        let hostname = self.hostname.clone();
        response.metadata_mut().insert("hostname", hostname);
        response
    }

    async fn simple(
        &self,
        metadata: &MetadataMap,
        request: &SimpleRequest,
    ) -> Result<Response<SimpleResponse>, Status> {
        behave(metadata, self.hostname()).await?;
        echo(request.response_status.as_ref())?;
        let payload = match request.response_size {
            0 => None,
            size => Some(payload(size)?),
        };
        Ok(self.response(SimpleResponse {
            payload,
            server_id: self.server_id.clone(),
            hostname: self.hostname().to_owned(),
        }))
    }
}

#[tonic::async_trait]
impl test_service_server::TestService for TestService {
    type StreamingOutputCallStream = Responses;
    type FullDuplexCallStream = Responses;
    type HalfDuplexCallStream = Responses;

    async fn empty_call(&self, request: Request<Empty>) -> Result<Response<Empty>, Status> {
        behave(request.metadata(), self.hostname()).await?;
        Ok(self.response(Empty {}))
    }

    async fn unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        self.simple(request.metadata(), request.get_ref()).await
    }

    async fn cacheable_unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        let mut response = self.simple(request.metadata(), request.get_ref()).await?;
        let minute = AsciiMetadataValue::from_static("max-age=60, public");
        response.metadata_mut().insert("cache-control", minute);
        Ok(response)
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Responses>, Status> {
        let requests = tokio_stream::once(Ok(request.into_inner()));
        Ok(self.response(answer(requests)))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let mut requests = request.into_inner();
        let mut size = 0_usize;
        while let Some(request) = requests.message().await? {
            size += request.payload.map_or(0, |payload| payload.body.len());
        }
        let size = i32::try_from(size)
            .map_err(|_| Status::out_of_range(format!("{size} bytes are more than an int32")))?;
        Ok(self.response(StreamingInputCallResponse {
            aggregated_payload_size: size,
        }))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        Ok(self.response(answer(request.into_inner())))
    }

    async fn half_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let mut requests = request.into_inner();
        let mut all = Vec::new();
        while let Some(request) = requests.message().await? {
            all.push(Ok(request));
        }
        Ok(self.response(answer(tokio_stream::iter(all))))
    }

    async fn unimplemented_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(
            "no server implements UnimplementedCall",
        ))
    }
}

/// Answers requests one after another, in a task that ends when nobody reads any more.
fn answer(
    requests: impl Stream<Item = Result<StreamingOutputCallRequest, Status>> + Send + 'static,
) -> Responses {
    let (responses, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let answering = async {
            let mut requests = std::pin::pin!(requests);
            while let Some(request) = requests.next().await {
                let result = match request {
                    Ok(request) => answer_one(&request, &responses).await,
                    Err(status) => Err(status),
                };
                if let Err(status) = result {
                    let _ = responses.send(Err(status)).await;
                    return;
                }
            }
        };
        tokio::select! {
            () = answering => {}
            () = responses.closed() => {}
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn answer_one(
    request: &StreamingOutputCallRequest,
    responses: &mpsc::Sender<Result<StreamingOutputCallResponse, Status>>,
) -> Result<(), Status> {
    echo(request.response_status.as_ref())?;
    for parameters in &request.response_parameters {
        let micros = u64::try_from(parameters.interval_us).unwrap_or(0);
        if micros > 0 {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        let payload = Some(payload(parameters.size)?);
        // Whoever reads is gone, or will be told by the task.
        let _ = responses
            .send(Ok(StreamingOutputCallResponse { payload }))
            .await;
    }
    Ok(())
}

/// The status that the request asks for.
fn echo(status: Option<&EchoStatus>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(
            Code::from_i32(status.code),
            status.message.clone(),
        )),
        _ => Ok(()),
    }
}

fn payload(size: i32) -> Result<Payload, Status> {
    let size = usize::try_from(size)
        .ok()
        .filter(|&size| size <= MAX_PAYLOAD);
    let size = size.ok_or_else(|| {
        Status::invalid_argument(format!("a payload has from 0 to {MAX_PAYLOAD} bytes"))
    })?;
    Ok(Payload {
        body: vec![0; size],
    })
}

#[cfg(test)]
mod tests;
