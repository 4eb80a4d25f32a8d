//! Requests that do not stop while something happens.

use std::{future::Future, sync::Arc};

use http_body_util::BodyExt;
use mesh_hyper::Client;
use mesh_peers::{PATIENCE, http::PlainClient};
use tokio::{sync::watch, task::JoinSet, time::timeout};

const WORKERS: usize = 4;

/// Workers that make one request after another until they are stopped. None may fail.
pub(super) struct Traffic {
    seen: watch::Receiver<Seen>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    failure: Option<String>,
}

impl Traffic {
    /// Through Envoy, by a client that knows of no mesh.
    pub(super) fn of_plain(client: &PlainClient) -> Self {
        let client = client.clone();
        Self::start(move || {
            let client = client.clone();
            async move {
                let (status, _, body) = client.get("/body/1000").await.map_err(told)?;
                judge(status.as_u16(), body.len())
            }
        })
    }

    /// By a client of ours, to Envoy.
    pub(super) fn of_ours(client: &Client) -> Self {
        let client = client.clone();
        Self::start(move || {
            let client = client.clone();
            async move {
                let response = client.get("http://app.shop/body/1000").await;
                let response = response.map_err(told)?;
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.map_err(told)?;
                judge(status, body.to_bytes().len())
            }
        })
    }

    fn start<F, R>(request: F) -> Self
    where
        F: Fn() -> R + Clone + Send + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (told, seen) = watch::channel(Seen::default());
        let (stop, stopped) = watch::channel(false);
        let (told, mut workers) = (Arc::new(told), JoinSet::new());
        for _ in 0..WORKERS {
            let (request, told, stopped) = (request.clone(), Arc::clone(&told), stopped.clone());
            workers.spawn(async move {
                while !*stopped.borrow() {
                    let failure = request().await.err();
                    told.send_modify(|seen| {
                        seen.requests += 1;
                        seen.failure = seen.failure.take().or(failure);
                    });
                }
            });
        }
        Self {
            seen,
            stop,
            workers,
        }
    }

    /// Waits until so many more requests have been answered.
    pub(super) async fn more(&self, requests: u64) {
        let mut seen = self.seen.clone();
        let until = seen.borrow().requests + requests;
        let wait = seen.wait_for(|seen| seen.requests >= until || seen.failure.is_some());
        let seen = timeout(PATIENCE, wait).await.expect("requests go on");
        assert_eq!(seen.expect("workers run").failure, None);
    }

    /// Ends them after the request each is making.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        let ends = async { while self.workers.join_next().await.is_some() {} };
        timeout(PATIENCE, ends).await.expect("requests end");
        assert_eq!(self.seen.borrow().failure, None);
    }
}

fn told(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> String {
    format!("{:?}", error.into())
}

fn judge(status: u16, length: usize) -> Result<(), String> {
    match (status, length) {
        (200, 1000) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
