use std::sync::Arc;

use super::LinkState;
use crate::runtime::EndpointInfo;

/// An endpoint of a cluster, with its live state. Outlives every update that does not touch it.
#[derive(Debug)]
pub struct Endpoint<C> {
    /// Its connectivity and load.
    pub link: Arc<LinkState>,
    /// Its connections.
    pub conn: C,
    /// What it was opened with.
    pub info: EndpointInfo,
}
