//! The programs of this crate as their users run them: processes of their own, configured by the
//! environment.

mod http_call;
mod http_echo;
mod interop_client;
mod interop_server;
mod quickstart;
mod support;
