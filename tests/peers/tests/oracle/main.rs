//! Envoy as oracle of HTTP semantics: the same route configurations, generated from a seed, go to
//! Envoy and to our client, both are asked the same, and what becomes of each request must be the
//! same. Start it with `tests/peers/run`.
//!
//! | variable | |
//! |---|---|
//! | `MESH_ORACLE_SEED` | what all is generated from; default 1 |
//! | `MESH_ORACLE_CONFIGURATIONS` | how many; default 400, 50 requests each |

mod aspect;
mod backend;
mod compare;
mod differences;
mod generate;
mod ours;
mod outcome;
mod random;
mod routes;
mod shrink;
mod theirs;
