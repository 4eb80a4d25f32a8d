//! The catalog: plain HTTP, an axum router under the same mesh as the greeters.

use std::{error::Error, net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::State, routing::get};
use mesh_core::Mesh;
use mesh_examples::greeter::Hop;
use mesh_hyper::Server;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::Instant,
};

use crate::chain;

/// The name by which it is called.
pub(crate) const SERVICE: &str = "catalog.shop:8080";
/// What it is asked for.
pub(crate) const OFFER_URL: &str = "http://catalog.shop:8080/offers/today";

/// What it answers.
#[derive(Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) offer: String,
    pub(crate) seen: Seen,
}

/// What it saw of a request.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) caller: String,
    /// In milliseconds.
    pub(crate) left: Option<u64>,
}

/// A running catalog.
pub(crate) struct Catalog {
    stuck: watch::Sender<bool>,
    given_up: mpsc::UnboundedReceiver<GivenUp>,
}

/// A request that nobody waited for any more.
pub(crate) struct GivenUp {
    pub(crate) seen: Seen,
    pub(crate) after: Duration,
}

#[derive(Clone)]
struct Shelf {
    stuck: watch::Receiver<bool>,
    given_up: mpsc::UnboundedSender<GivenUp>,
}

/// A request under way; one that is dropped before it is answered was given up.
struct UnderWay {
    seen: Option<Seen>,
    since: Instant,
    given_up: mpsc::UnboundedSender<GivenUp>,
}

impl Catalog {
    /// Serves at `listener` under `mesh`, until the process ends.
    pub(crate) fn start(mesh: &Mesh, listener: TcpListener) -> Self {
        let (stuck, until) = watch::channel(false);
        let (told, given_up) = mpsc::unbounded_channel();
        let shelf = Shelf {
            stuck: until,
            given_up: told,
        };
        let router = Router::new().route("/offers/today", get(offer));
        let serving = Server::new(mesh).serve(listener, router.with_state(shelf));
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("the catalog ended: {error}");
            }
        });
        Self { stuck, given_up }
    }

    /// From now on it answers nothing, or everything again.
    pub(crate) fn hang(&self, hang: bool) {
        self.stuck.send_replace(hang);
    }

    /// The next request that is given up.
    pub(crate) async fn given_up(&mut self) -> Result<GivenUp, Box<dyn Error>> {
        Ok(self.given_up.recv().await.ok_or("the catalog ended")?)
    }
}

async fn offer(State(mut shelf): State<Shelf>) -> Json<Offer> {
    let mut under_way = UnderWay {
        seen: Some(chain::hop(SERVICE).into()),
        since: Instant::now(),
        given_up: shelf.given_up,
    };
    // An error says that the catalog is gone, and with it whoever could be answered.
    let _ = shelf.stuck.wait_for(|stuck| !stuck).await;
    let seen = under_way.seen.take().expect("it is taken here alone");
    Json(Offer {
        offer: "tea, two for one".to_owned(),
        seen,
    })
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(seen) = self.seen.take() {
            let after = self.since.elapsed();
            let _ = self.given_up.send(GivenUp { seen, after });
        }
    }
}

impl From<Hop> for Seen {
    fn from(hop: Hop) -> Self {
        Self {
            caller: hop.caller,
            left: hop.left,
        }
    }
}

impl From<Seen> for Hop {
    fn from(seen: Seen) -> Self {
        Self {
            service: SERVICE.to_owned(),
            caller: seen.caller,
            left: seen.left,
        }
    }
}

/// Takes a port of the system's choice.
pub(crate) async fn listen() -> Result<(TcpListener, SocketAddr), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
