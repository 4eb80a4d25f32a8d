//! One file: the resources in it, or what is wrong with them.

use std::{collections::HashMap, sync::Arc};

use super::{
    error::{Fault, FileError, Position},
    message::any,
    references::{Reference, references},
    tree::{Node, Value, parse, same},
};
use crate::{
    config::{Finding, Resource, ResourceId, Treatment},
    control::xds::{
        decode::{Decode, Decoded},
        dump::Fnv,
        type_url::kind_of,
    },
};

/// Bytes that one file may have.
pub(super) const MAX_FILE: u64 = 64 << 20;
/// Errors that are told of one file.
const MAX_ERRORS: usize = 64;

/// A file that can be applied.
#[derive(Debug)]
pub(super) struct Content {
    /// What it says of itself (`version_info`), else a fingerprint of its text.
    pub(super) version: Arc<str>,
    pub(super) resources: HashMap<ResourceId, Found>,
}

/// A resource of a file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) decoded: Decoded,
    pub(super) at: Position,
    /// Where the field of each finding is.
    pub(super) findings: Vec<(Position, Finding)>,
    /// What has to be there, too.
    pub(super) references: Vec<Reference>,
}

/// Reads `text` as the file called `file`.
pub(super) fn read(
    file: &Arc<str>,
    text: &[u8],
    decode: &dyn Decode,
) -> Result<Content, Vec<FileError>> {
    let whole = |fault: Fault| vec![fault.of(file, None)];
    let text = std::str::from_utf8(text).map_err(|error| whole(not_utf8(text, &error)))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = parse(text).map_err(whole)?;
    let mut version = None;
    let mut nodes = Vec::new();
    for document in &documents {
        collect(document, &mut nodes, &mut version).map_err(whole)?;
    }
    let mut errors = Vec::new();
    let mut resources = HashMap::<ResourceId, Found>::new();
    for node in nodes {
        match resource(file, node, decode) {
            Ok((id, found)) => {
                if let Some(first) = resources.get(&id) {
                    let line = first.at.line;
                    let twice = Fault::new(format!("is in line {line}, too")).at(node.at);
                    errors.push(twice.of(file, Some(id)));
                } else {
                    resources.insert(id, found);
                }
            }
            Err(error) => errors.push(error),
        }
        if errors.len() == MAX_ERRORS {
            break;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let version = version.unwrap_or_else(|| {
        let mut hash = Fnv::default();
        hash.field(text.as_bytes());
        format!("{:016x}", hash.0)
    });
    Ok(Content {
        version: version.into(),
        resources,
    })
}

fn not_utf8(text: &[u8], error: &std::str::Utf8Error) -> Fault {
    let before = &text[..error.valid_up_to()];
    let line = before.split(|&byte| byte == b'\n').count();
    let start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    Fault::new("not UTF-8").at(Position { line, column })
}

/// The resources of a document: itself, those of a list, or those of a `DiscoveryResponse`, as
/// Envoy reads it (`path_config_source`).
fn collect<'a>(
    document: &'a Node,
    nodes: &mut Vec<&'a Node>,
    version: &mut Option<String>,
) -> Result<(), Fault> {
    match &document.value {
        // Nothing but comments.
        Value::Null => Ok(()),
        Value::List(items) => {
            nodes.extend(items.iter());
            Ok(())
        }
        Value::Map(entries) if document.get("@type").is_none() => {
            for (key, node) in entries.iter() {
                match (key.text.as_str(), &node.value) {
                    ("resources", Value::List(items)) => nodes.extend(items.iter()),
                    ("version_info" | "versionInfo", Value::Text(text)) => {
                        *version = Some(text.to_string());
                    }
                    ("type_url" | "typeUrl" | "nonce", Value::Text(_)) | (_, Value::Null) => {}
                    ("resources", _) => {
                        return Err(Fault::new("must be a list").inside(&key.text).at(node.at));
                    }
                    _ => {
                        let problem = "a file has a resource (with \"@type\"), a list of them, or \
                                       them in \"resources\", beside \"version_info\"";
                        return Err(Fault::new(problem).inside(&key.text).at(key.at));
                    }
                }
            }
            Ok(())
        }
        Value::Map(_) => {
            nodes.push(document);
            Ok(())
        }
        _ => Err(Fault::new("must be a resource, or a list of them").at(document.at)),
    }
}

fn resource(
    file: &Arc<str>,
    node: &Node,
    decode: &dyn Decode,
) -> Result<(ResourceId, Found), FileError> {
    let name = || match ["name", "cluster_name", "clusterName"].map(|key| node.get(key)) {
        [Some(name), ..] | [_, Some(name), _] | [.., Some(name)] => match &name.value {
            Value::Text(name) => Some(Arc::clone(name)),
            _ => None,
        },
        _ => None,
    };
    let raw = any(node).map_err(|fault| {
        let url = node.get("@type").and_then(|node| match &node.value {
            Value::Text(url) => kind_of(url),
            _ => None,
        });
        let id = url
            .zip(name())
            .map(|(kind, name)| ResourceId::new(kind, name));
        fault.of(file, id)
    })?;
    let inner = node.get("resource").filter(|_| {
        raw.type_url
            .ends_with("/envoy.service.discovery.v3.Resource")
    });
    let url = match inner
        .and_then(|inner| inner.get("@type"))
        .map(|node| &node.value)
    {
        Some(Value::Text(url)) => &**url,
        _ => raw.type_url.as_str(),
    };
    let Some(kind) = kind_of(url) else {
        let problem = format!("{url:?} is not a type of resource");
        let at = node.get("@type").map_or(node.at, |node| node.at);
        return Err(Fault::new(problem).inside("@type").at(at).of(file, None));
    };
    match decode.decode(kind, &raw).map(reported_to_nobody) {
        Ok(decoded) => {
            let findings = decoded.findings.iter();
            let findings = findings.map(|finding| {
                let at = follow(inner.unwrap_or(node), &finding.path);
                (at, finding.clone())
            });
            let found = Found {
                at: node.at,
                findings: findings.collect(),
                references: references(&decoded.value, inner.unwrap_or(node)),
                decoded,
            };
            Ok((
                ResourceId::new(kind, Arc::clone(&found.decoded.name)),
                found,
            ))
        }
        Err(rejected) => {
            let fault = Fault {
                at: Some(follow(node, &rejected.path)),
                field: rejected.path,
                problem: rejected.problem,
            };
            let name = rejected.name;
            Err(fault.of(file, name.map(|name| ResourceId::new(kind, name))))
        }
    }
}

/// Where the field `path` of `node` is; of one that is missing, what it is missing in.
fn follow(node: &Node, path: &str) -> Position {
    let mut at = node.at;
    let mut node = Some(node);
    let mut rest = path;
    while let (Some(here), false) = (node, rest.is_empty()) {
        at = here.at;
        if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = step(index, ']');
            rest = after.strip_prefix('.').unwrap_or(after);
            node = match (&here.value, index.parse::<usize>()) {
                (Value::List(items), Ok(index)) => items.get(index),
                _ => here.get(index.trim_matches('"')),
            };
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            rest = after.strip_prefix('.').unwrap_or(after);
            node =
                match &here.value {
                    Value::Map(entries) => entries
                        .iter()
                        .find(|(key, _)| same(&key.text, name))
                        .map(|(key, node)| {
                            at = key.at;
                            node
                        }),
                    _ => None,
                };
        }
    }
    match node {
        Some(node) if path.ends_with(']') => node.at,
        _ => at,
    }
}

/// What is before the end of a step, and after it. A key in quotes may hold the end.
fn step(text: &str, end: char) -> (&str, &str) {
    let quoted = text.strip_prefix('"').and_then(|inner| inner.find("\"]"));
    let at = quoted.map(|at| at + 2).or_else(|| text.find(end));
    let at = at.unwrap_or(text.len());
    (&text[..at], text.get(at + 1..).unwrap_or_default())
}

/// Files take no load reports: a cluster that wants them is told so.
fn reported_to_nobody(mut decoded: Decoded) -> Decoded {
    if let Resource::Cluster(cluster) = &decoded.value
        && cluster.report_load.is_some()
    {
        let finding = Finding {
            path: "lrs_server".to_owned(),
            treatment: Treatment::Ignored,
            note: "there is no control plane to report loads to".to_owned(),
        };
        let findings = decoded.findings.iter().cloned().chain([finding]);
        decoded.findings = findings.collect();
    }
    decoded
}
