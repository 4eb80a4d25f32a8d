//! Streams without a network.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    ads_server::{self, Outbound},
    codec::Protocol,
    lrs_server,
    shared::Shared,
};
use crate::{
    Code,
    bootstrap::ServerConfig,
    runtime::{Limits, Messages, RpcStatus, SideCall, SideCallError, SideCallFuture},
};

/// Reaches the control plane whatever server is asked for.
#[derive(Debug)]
pub(super) struct InMemory(pub(super) Arc<Shared>);

impl SideCall for InMemory {
    fn stream(
        &self,
        server: &ServerConfig,
        path: &'static str,
        _: HeaderMap,
        limits: Limits,
    ) -> SideCallFuture {
        let result = connect(&self.0, path, limits).map_err(|reason| SideCallError {
            server: server.uri.clone(),
            reason: reason.to_owned(),
        });
        Box::pin(async { result })
    }
}

fn connect(
    shared: &Arc<Shared>,
    path: &'static str,
    limits: Limits,
) -> Result<Messages, &'static str> {
    if shared.state().stopped {
        return Err("connection refused: the control plane is stopped");
    }
    let (send, requests) = mpsc::channel::<Bytes>(16);
    let (responses, recv) = mpsc::channel(1);
    let protocol = Protocol::served_at(path);
    if protocol.is_none() && path != lrs_server::PATH {
        let refusal = status(Code::Unimplemented, format!("{path} is not served"));
        // The channel is new and has room for one.
        let _ = responses.try_send(Err(refusal));
        return Ok(Messages { send, recv });
    }
    let connection = Connection::new(Arc::clone(shared));
    let requests = ReceiverStream::new(requests)
        .map(Ok)
        .take_until(Box::pin(shared.cut()));
    let outbound = match protocol {
        Some(protocol) => ads_server::open(Arc::clone(shared), protocol, requests),
        None => lrs_server::open(Arc::clone(shared), requests),
    };
    let cut = shared.cut();
    tokio::spawn(forward(connection, outbound, responses, cut, limits));
    Ok(Messages { send, recv })
}

/// Counts as a connection while it lives.
struct Connection(Arc<Shared>);

impl Connection {
    fn new(shared: Arc<Shared>) -> Self {
        shared.connected();
        Self(shared)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

async fn forward(
    connection: Connection,
    mut outbound: Outbound,
    responses: mpsc::Sender<Result<Bytes, RpcStatus>>,
    cut: impl Future<Output = ()>,
    limits: Limits,
) {
    let mut cut = pin!(cut);
    let end = loop {
        let message = tokio::select! {
            biased;
            () = &mut cut => {
                break status(Code::Unavailable, "the connection was cut".to_owned());
            }
            () = responses.closed() => return,
            message = outbound.recv() => message,
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(end)) => {
                break status(Code::from_i32(end.code().into()), end.message().to_owned());
            }
            None => return,
        };
        if message.len() > limits.max_message {
            let (length, limit) = (message.len(), limits.max_message);
            break status(
                Code::ResourceExhausted,
                format!("a message of {length} bytes is over the limit of {limit}"),
            );
        }
        let sent = tokio::select! {
            biased;
            () = &mut cut => {
                break status(Code::Unavailable, "the connection was cut".to_owned());
            }
            sent = responses.send(Ok(message)) => sent,
        };
        if sent.is_err() {
            return;
        }
    };
    drop(outbound);
    // The connection is over; the client may take its time to read how it ended.
    drop(connection);
    let _ = responses.send(Err(end)).await;
}

fn status(code: Code, message: String) -> RpcStatus {
    RpcStatus { code, message }
}
