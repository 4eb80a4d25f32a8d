//! The message.

use std::collections::BTreeMap;

/// `xds.data.orca.v3.OrcaLoadReport`, which `envoy-types` does not have, without its deprecated
/// `rps`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OrcaLoadReport {
    #[prost(double, tag = "1")]
    pub(crate) cpu_utilization: f64,
    #[prost(double, tag = "2")]
    pub(crate) mem_utilization: f64,
    #[prost(btree_map = "string, double", tag = "4")]
    pub(crate) request_cost: BTreeMap<String, f64>,
    #[prost(btree_map = "string, double", tag = "5")]
    pub(crate) utilization: BTreeMap<String, f64>,
    #[prost(double, tag = "6")]
    pub(crate) rps_fractional: f64,
    #[prost(double, tag = "7")]
    pub(crate) eps: f64,
    #[prost(btree_map = "string, double", tag = "8")]
    pub(crate) named_metrics: BTreeMap<String, f64>,
    #[prost(double, tag = "9")]
    pub(crate) application_utilization: f64,
}

impl OrcaLoadReport {
    /// The field of this name that is one number.
    pub(super) fn number(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "cpu_utilization" => &mut self.cpu_utilization,
            "mem_utilization" => &mut self.mem_utilization,
            "application_utilization" => &mut self.application_utilization,
            "eps" => &mut self.eps,
            "rps_fractional" => &mut self.rps_fractional,
            _ => return None,
        })
    }

    /// The field of this name that has numbers by name.
    pub(super) fn numbers(&mut self, name: &str) -> Option<&mut BTreeMap<String, f64>> {
        Some(match name {
            "named_metrics" => &mut self.named_metrics,
            "utilization" => &mut self.utilization,
            "request_cost" => &mut self.request_cost,
            _ => return None,
        })
    }
}
