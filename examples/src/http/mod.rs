//! Programs that speak plain HTTP under the mesh.

pub mod call;
pub mod echo;
