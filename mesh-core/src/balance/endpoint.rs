use std::sync::Arc;

use super::LinkState;

/// An endpoint of a cluster, with its live state. Outlives every update that does not touch it.
#[derive(Debug)]
pub struct Endpoint<C> {
    /// What it is, its connectivity and load.
    pub link: Arc<LinkState>,
    /// Its connections.
    pub conn: C,
}
