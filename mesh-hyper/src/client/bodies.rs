//! Bodies of any kind. What carries them wants those that can be moved.

use std::any::Any;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

use crate::{
    body::{BoxError, ResponseBody},
    call::{CallOptions, Caller, ResponseFuture},
    serve::RequestBody,
};

/// Makes the call. A body that is known to be `Unpin`, or is empty, is sent as it is; any other is
/// boxed: whether it is `Unpin` cannot be asked.
pub(super) fn call<B>(caller: &Caller, request: Request<B>, options: CallOptions) -> ResponseFuture
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if request.body().is_end_stream() {
        return caller.call(request.map(|_| Empty::<Bytes>::new()), options);
    }
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    macro_rules! known {
        ($($kind:ty),+ $(,)?) => {$(
            if let Some(body) = take::<B, $kind>(&mut body) {
                return caller.call(Request::from_parts(head, body), options);
            }
        )+};
    }
    known!(
        Full<Bytes>,
        Incoming,
        RequestBody,
        ResponseBody,
        UnsyncBoxBody<Bytes, BoxError>,
    );
    match body {
        Some(body) => caller.call(Request::from_parts(head, Box::pin(body)), options),
        None => caller.call(Request::from_parts(head, Empty::<Bytes>::new()), options),
    }
}

/// The body, if it is one of these.
fn take<B: 'static, T: 'static>(body: &mut Option<B>) -> Option<T> {
    (body as &mut dyn Any).downcast_mut::<Option<T>>()?.take()
}
