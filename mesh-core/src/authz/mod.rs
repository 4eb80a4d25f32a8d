//! Who may do what: the engine of role-based access control (gRFC A41), its audit (gRFC A59), and
//! the check that a request has one meaning only before anybody decides about it.
//!
//! [`Rules`] are configuration. An [`Engine`] is made of them once, [bound](Engine::bind) to each
//! connection, and then asked about each request: what depends on the connection alone is decided
//! by then, and nothing is allocated.
//!
//! [`normalise`] comes first, before routing: routes, rules and the service then read the same
//! path and the same authority.

mod audit;
mod bits;
mod engine;
mod expr;
mod header;
mod normalise;
mod peer;
mod policy;

pub use audit::{AuditCondition, AuditEvent, AuditLogger, AuditLoggers, NamedLogger, StdoutLogger};
pub use engine::{Bound, Decision, Engine};
pub use normalise::{Ambiguity, LastAuthority, Normal, check_target, normalise};
pub use policy::{Action, Policy, Rule, Rules};
