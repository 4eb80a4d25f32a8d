//! Plain HTTP: an application to be served by anybody, and clients that know of no mesh.

mod app;
mod client;

pub use app::{App, Body, Echo};
pub use client::{PlainClient, get};
