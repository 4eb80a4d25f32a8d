//! The way in: from a listening socket to a service, under a listener's configuration.
//!
//! `accept -> filter chain -> TLS -> first bytes -> normalise -> route -> filters -> service`. What a
//! connection may do is decided before a byte is exchanged on it, and what a request may do before
//! the service sees it, by the configuration of that moment: a changed policy applies to the next
//! request of a live connection.

mod accept;
mod body;
mod clock;
mod connection;
mod deadline;
mod dispatch;
mod follow;
mod half_open;
mod handling;
mod handover;
mod handshake;
mod inspect;
mod listen;
mod options;
mod pace;
mod record;
mod register;
mod reply;
mod said;
mod security;
mod server;
mod shared;
mod state;
mod stream;
mod strict;
mod target;
#[cfg(test)]
mod tests;
mod trust;
mod upgrade;

pub use body::RequestBody;
pub(crate) use body::{Held, Served};
pub(crate) use handling::NotServed;
pub(crate) use handover::{HandedOver, Handover};
pub(crate) use inspect::{Inspector, Ruling, Slot};
pub use listen::Bind;
pub use options::ServerOptions;
pub(crate) use record::Recorded;
pub(crate) use reply::{Form, failed, late};
pub(crate) use said::Said;
pub use security::{OnMissing, ServerTls};
pub use server::Server;
pub use state::{LocalAddress, ServeError, ServingMode, ServingState};
pub(crate) use stream::Maybe;

use shared::Shared;
