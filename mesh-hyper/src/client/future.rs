use std::{
    error::Error as _,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use mesh_core::control::SourceError;

use crate::{body::ResponseBody, error::Error};

/// A response under way, to a request of a [`Client`](super::Client).
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    state: State,
    /// Failures become responses.
    responds: bool,
}

#[derive(Debug)]
enum State {
    Sent {
        response: crate::ResponseFuture,
        /// Whether the client denies hosts that the mesh does not have.
        denies: bool,
    },
    Failed(Option<Error>),
}

// === impl ResponseFuture ===

impl ResponseFuture {
    pub(super) fn sent(response: crate::ResponseFuture, denies: bool) -> Self {
        Self {
            state: State::Sent { response, denies },
            responds: false,
        }
    }

    pub(super) fn failed(error: Error) -> Self {
        Self {
            state: State::Failed(Some(error)),
            responds: false,
        }
    }

    pub(super) fn responding(mut self, responds: bool) -> Self {
        self.responds = responds;
        self
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = match &mut self.state {
            State::Sent { response, denies } => {
                let denies = *denies;
                Pin::new(response).poll(cx).map_err(|error| match denies {
                    true => advised(error),
                    false => error,
                })
            }
            State::Failed(error) => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => panic!("polled after completion"),
            },
        };
        match (polled, self.responds) {
            (Poll::Ready(Err(error)), true) => Poll::Ready(Ok(error.into_response())),
            (polled, _) => polled,
        }
    }
}

/// Says how to allow a host that the mesh does not have.
#[cold]
fn advised(error: Error) -> Error {
    let unknown = |error: &SourceError| error.kind.is_absence();
    let source = error.source();
    match source.and_then(|source| source.downcast_ref()) {
        Some(source) if unknown(source) && error.cluster().is_none() => {
            let text = format!(
                "{}; if the host is not of the mesh, allow it with ClientBuilder::outside",
                error.message()
            );
            Error::new(error.code(), error.cause(), text).caused_by(source.clone())
        }
        _ => error,
    }
}
