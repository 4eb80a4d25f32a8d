//! Which protocols requests may upgrade to, under HTTP semantics (Envoy).

use std::{collections::HashSet, sync::Arc};

use envoy_types::pb::google::protobuf::BoolValue;

use super::{Context, FieldError, ResultExt, bounds::quote, rewrite::header_name};

const FIELD: &str = "upgrade_configs";

/// The entries of `upgrade_configs` of a route or a listener: type, whether it is enabled, and why
/// it cannot be, if so.
pub(super) fn upgrades(
    wire: impl IntoIterator<Item = (String, Option<BoolValue>, Option<&'static str>)>,
    cx: &mut Context<'_>,
) -> Result<Vec<(Arc<str>, bool)>, FieldError> {
    let mut seen = HashSet::new();
    let mut upgrades = Vec::new();
    for (index, (kind, enabled, obstacle)) in wire.into_iter().enumerate() {
        let name = protocol(&kind).field("upgrade_type").index(FIELD, index)?;
        if !seen.insert(name.clone()) {
            let problem = format!("{:?} is listed already", quote(&kind));
            let error = FieldError::new(problem).field("upgrade_type");
            return Err(error.index(FIELD, index));
        }
        let mut enabled = enabled.is_none_or(|BoolValue { value }| value);
        let connect = ["connect", "connect-udp"].contains(&&*name);
        let obstacle = connect
            .then_some("CONNECT is not supported: such requests fail")
            .or(obstacle);
        if let Some(obstacle) = obstacle.filter(|_| enabled) {
            cx.ignored(&format!("{FIELD}[{index}]"), obstacle);
            enabled = false;
        }
        upgrades.push((name, enabled));
    }
    Ok(upgrades)
}

/// The name of a protocol in lower case: a token (RFC 9110, section 7.8), with a version at will.
fn protocol(kind: &str) -> Result<Arc<str>, FieldError> {
    let (name, version) = match kind.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (kind, None),
    };
    for token in [Some(name), version].into_iter().flatten() {
        // A header's name is a token, too.
        if header_name(token).is_err() {
            let problem = format!("{:?} is not a protocol's name", quote(kind));
            return Err(FieldError::new(problem));
        }
    }
    Ok(kind.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests;
