//! Plain HTTP: an application to be served by anybody, and clients that know of no mesh.

mod app;
pub mod body;
mod client;

pub use app::{App, Echo};
pub use body::{Body, BoxError};
pub use client::{PlainClient, get, post};
