//! Envoy as oracle of HTTP semantics: the same route configurations and access rules, generated from
//! a seed, go to Envoy and to ours, both are asked the same, and what becomes of each request must be
//! the same. Start it with `tests/peers/run`; `tests/README.md` says what is compared.
//!
//! | variable | |
//! |---|---|
//! | `MESH_ORACLE_SEED` | what all is generated from; default 1 |
//! | `MESH_ORACLE_CONFIGURATIONS` | how many of each; default 400, 50 requests each |

mod aspect;
mod backend;
mod compare;
mod differences;
mod generate;
mod guards;
mod mutate;
mod ours;
mod outcome;
mod random;
mod routes;
mod rules;
mod shrink;
mod theirs;
