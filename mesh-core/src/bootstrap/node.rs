use serde_json::{Map, Value};

use crate::config::LocalityId;

/// Who this process is.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The cluster it belongs to.
    pub cluster: String,
    /// Where it is.
    pub locality: LocalityId,
    /// Whatever the control plane wants to know; sent verbatim.
    pub metadata: Map<String, Value>,
}
