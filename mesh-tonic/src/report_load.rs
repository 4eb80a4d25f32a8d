use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_core::orca::CallLoad;
use pin_project_lite::pin_project;
use tonic::{Status, codegen::Service, server::NamedService};

/// A service that says how loaded it is with each of its responses, as far as its handlers record that:
/// they find a [`CallLoad`] in the extensions of every request, and what was recorded by the end of the
/// response is in its trailers, as `endpoint-load-metrics-bin` (ORCA, per call: gRFC A51). Under
/// [`Server`](crate::Server) and under tonic's own.
///
/// A call of a service that is not wrapped costs nothing of this; of one that is, a few allocations.
///
/// ```
/// use mesh_core::orca::CallLoad;
/// use mesh_tonic::{ReportLoad, Server};
///
/// // In a handler:
/// fn record(request: &tonic::Request<()>) {
///     if let Some(load) = request.extensions().get::<CallLoad>() {
///         load.cpu_utilization(0.7);
///         load.named_metric("queue_length", 12.0);
///     }
/// }
///
/// # fn example(mesh: &mesh_core::Mesh) {
/// // Where its service is served, here gRPC's health service:
/// let (_, service) = tonic_health::server::health_reporter();
/// let server = Server::new(mesh).add_service(ReportLoad::new(service));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ReportLoad<S>(S);

pin_project! {
    /// The answer of a service that says how loaded it is.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Reporting<F> {
        #[pin]
        answer: F,
        load: CallLoad,
    }
}

/// A body whose trailers say how loaded the server is.
struct Reported {
    body: tonic::body::Body,
    load: CallLoad,
}

// === impl ReportLoad ===

impl<S> ReportLoad<S> {
    /// Says how loaded `service` is.
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S: NamedService> NamedService for ReportLoad<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for ReportLoad<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>>,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Reporting<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let load = CallLoad::new();
        request.extensions_mut().insert(load.clone());
        Reporting {
            answer: self.0.call(request),
            load,
        }
    }
}

// === impl Reporting ===

impl<F, E> Future for Reporting<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, E>>,
{
    type Output = Result<Response<tonic::body::Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(cx))?;
        let load = this.load.clone();
        // These headers are trailers.
        if response.headers().contains_key("grpc-status") {
            load.write(response.headers_mut());
            return Poll::Ready(Ok(response));
        }
        Poll::Ready(Ok(
            response.map(|body| tonic::body::Body::new(Reported { body, load }))
        ))
    }
}

// === impl Reported ===

impl Body for Reported {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            self.load.write(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
