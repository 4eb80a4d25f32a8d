use std::{fmt, future::IntoFuture, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body::Body;
use http_body_util::Empty;

use super::{Client, ResponseFuture, malformed};
use crate::{body::BoxError, call::CallOptions, error::Error};

/// A request that is about to be sent: await it. What is wrong with it is told then.
#[must_use = "a request is sent when it is awaited"]
pub struct RequestBuilder<B = Empty<Bytes>> {
    client: Client,
    options: CallOptions,
    request: Result<Request<B>, Error>,
}

// === impl RequestBuilder ===

impl<B> RequestBuilder<B> {
    pub(super) fn new(
        client: Client,
        options: CallOptions,
        request: Result<Request<B>, Error>,
    ) -> Self {
        Self {
            client,
            options,
            request,
        }
    }

    /// Adds a header.
    pub fn header<K, V>(mut self, name: K, value: V) -> Self
    where
        K: TryInto<HeaderName, Error: Into<http::Error>>,
        V: TryInto<HeaderValue, Error: Into<http::Error>>,
    {
        self.request = self.request.and_then(|mut request| {
            let name = name.try_into().map_err(|error| malformed(error.into()))?;
            let value = value.try_into().map_err(|error| malformed(error.into()))?;
            request.headers_mut().append(name, value);
            Ok(request)
        });
        self
    }

    /// Sends this body.
    pub fn body<C>(self, body: C) -> RequestBuilder<C> {
        RequestBuilder {
            client: self.client,
            options: self.options,
            request: self.request.map(|request| request.map(|_| body)),
        }
    }

    /// Sets what `options` say; what they leave open stays as it is.
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = options.over(&self.options);
        self
    }

    /// Sets [`CallOptions::timeout`]. Zero: no limit.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.timeout(timeout);
        self
    }

    /// Sets [`CallOptions::no_retries`].
    pub fn no_retries(mut self) -> Self {
        self.options = self.options.no_retries(true);
        self
    }

    /// Sets [`CallOptions::retry_headers`].
    pub fn retry_headers(mut self) -> Self {
        self.options = self.options.retry_headers(true);
        self
    }

    /// Sets [`CallOptions::hash_key`].
    pub fn hash_key(mut self, key: u64) -> Self {
        self.options = self.options.hash_key(key);
        self
    }

    /// Sets [`CallOptions::wait_for_ready`].
    pub fn wait_for_ready(mut self) -> Self {
        self.options = self.options.wait_for_ready(true);
        self
    }

    /// Sets [`CallOptions::detached`].
    pub fn detached(mut self) -> Self {
        self.options = self.options.detached(true);
        self
    }

    /// Sends it. To await the request does the same.
    pub fn send(self) -> ResponseFuture
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self.request {
            Ok(mut request) => {
                if self.options != self.client.0.options {
                    request.extensions_mut().insert(self.options);
                }
                self.client.request(request)
            }
            Err(error) => ResponseFuture::failed(error),
        }
    }
}

impl<B> IntoFuture for RequestBuilder<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = <ResponseFuture as Future>::Output;
    type IntoFuture = ResponseFuture;

    fn into_future(self) -> ResponseFuture {
        self.send()
    }
}

impl<B> fmt::Debug for RequestBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.request.as_ref();
        f.debug_struct("RequestBuilder")
            .field("request", &request.map(|r| (r.method(), r.uri())))
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
