//! The application: what is asked, and what it answers.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use tower_service::Service;

/// The path that is asked for.
pub(crate) const PATH: &str = "/items/7";
/// The answer's body.
pub(crate) const ITEM: &[u8] = br#"{"id":7,"name":"a lamp","price":"49.90","currency":"EUR"}"#;

/// Answers with the item, in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct App;

impl<B> Service<Request<B>> for App {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let found = request.uri().path() == PATH;
        let mut response = Response::new(Full::new(Bytes::from_static(ITEM)));
        if !found {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        ready(Ok(response))
    }
}
