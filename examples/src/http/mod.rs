//! Programs that speak plain HTTP under the mesh.

pub mod echo;
