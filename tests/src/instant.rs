//! Endpoints without a network.

use std::sync::Arc;

use mesh_core::{
    balance::{Connectivity, LinkState},
    config::Address,
    runtime::{EndpointInfo, Transport},
};

/// Is connected as soon as it is asked to be: to the endpoints that can be reached, and to the
/// others never.
#[derive(Debug, Clone, Copy)]
pub struct Instant {
    reaches: fn(&Address) -> bool,
}

impl Instant {
    /// Connects to those endpoints for which `reaches` is true.
    pub fn new(reaches: fn(&Address) -> bool) -> Self {
        Self { reaches }
    }

    /// Connects to all.
    pub fn everywhere() -> Self {
        Self::new(|_| true)
    }
}

impl Transport for Instant {
    /// An endpoint's link, if it can be connected.
    type Conn = Option<Arc<LinkState>>;

    fn open(&self, endpoint: EndpointInfo, link: Arc<LinkState>) -> Self::Conn {
        (self.reaches)(&endpoint.address).then_some(link)
    }

    fn connect(&self, conn: &Self::Conn) {
        if let Some(link) = conn {
            link.set(Connectivity::Ready, None);
        }
    }

    fn retire(&self, _: &Self::Conn) {}
}
