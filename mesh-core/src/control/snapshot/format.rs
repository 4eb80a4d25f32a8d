//! A snapshot as bytes.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `MESHSNAP` |
//! | 8 | 4 | version of the format, 1 |
//! | 12 | 4 | flags: 1, there is an authentication code |
//! | 16 | 8 | length of the body |
//! | 24 | 8 | FNV-1a (64 bits) of the 24 bytes before and of the body, each behind its length |
//! | 32 | | body: an [`Opening`], then each [`Record`], protobuf behind its length |
//! | | 32 | HMAC-SHA256 (RFC 2104) of all before it, if there is one |
//!
//! Numbers are little endian. Nothing follows.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::{
    error::{SnapshotError, SnapshotErrorKind},
    key::{CODE_LENGTH, Key},
};
use crate::{
    bootstrap::Bootstrap,
    config::ResourceId,
    control::xds::{dump::Fnv, type_url},
};

const MAGIC: &[u8; 8] = b"MESHSNAP";
const VERSION: u32 = 1;
const HAS_CODE: u32 = 1;
/// Bytes before the body.
const HEADER: usize = 32;
/// Those that the checksum covers.
const SUMMED: usize = 24;
/// Resources that a snapshot may have.
const MAX_RECORDS: u64 = 1 << 20;

/// Whose resources they are: those of another are of no use.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Identity {
    #[prost(string, tag = "1")]
    node_id: String,
    #[prost(string, tag = "2")]
    node_cluster: String,
    /// Every control plane of the bootstrap, those of its authorities too.
    #[prost(string, repeated, tag = "3")]
    servers: Vec<String>,
}

/// What comes first.
#[derive(Clone, PartialEq, Message)]
struct Opening {
    #[prost(message, optional, tag = "1")]
    identity: Option<Identity>,
    #[prost(uint64, tag = "2")]
    records: u64,
}

/// One resource. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
    #[prost(string, tag = "4")]
    version: String,
    #[prost(string, tag = "5")]
    server: String,
    #[prost(uint64, tag = "6")]
    updated: u64,
    #[prost(uint64, tag = "7")]
    confirmed: u64,
}

/// A resource that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Saved {
    /// As it was received, unwrapped, without private keys.
    pub(super) raw: Arc<Any>,
    pub(super) version: Arc<str>,
    /// The control plane that sent it.
    pub(super) server: Arc<str>,
    /// When it did.
    pub(super) updated: SystemTime,
    /// When it was last in force while that control plane was there.
    pub(super) confirmed: SystemTime,
}

// === impl Identity ===

impl Identity {
    /// Who `bootstrap` says that we are.
    pub(crate) fn of(bootstrap: &Bootstrap) -> Self {
        let authorities = bootstrap.authorities.values();
        let all = authorities.flat_map(|authority| &authority.servers);
        let servers = bootstrap.servers.iter().chain(all);
        Self {
            node_id: bootstrap.node.id.clone(),
            node_cluster: bootstrap.node.cluster.clone(),
            servers: servers.map(|server| server.uri.clone()).collect(),
        }
    }

    /// What tells it from others in the name of a file.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        hash.field(&self.encode_to_vec());
        hash.0
    }
}

// === impl Saved ===

impl Saved {
    /// How long ago it was confirmed. What is of the future was written under another clock.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.confirmed).unwrap_or_default()
    }
}

// === the way out ===

/// `resources` as bytes, with an authentication code if there is a key.
pub(super) fn encode(
    identity: &Identity,
    resources: &[(ResourceId, Saved)],
    key: Option<&Key>,
) -> Vec<u8> {
    let flags = key.map_or(0, |_| HAS_CODE);
    let mut bytes = Vec::from(*MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.resize(HEADER, 0);
    let opening = Opening {
        identity: Some(identity.clone()),
        records: resources.len() as u64,
    };
    write(&opening, &mut bytes);
    for (id, saved) in resources {
        write(&record(id, saved), &mut bytes);
    }
    let length = (bytes.len() - HEADER) as u64;
    bytes[16..SUMMED].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&bytes);
    bytes[SUMMED..HEADER].copy_from_slice(&sum.to_le_bytes());
    if let Some(key) = key {
        let code = key.code(&bytes);
        bytes.extend(code.as_ref());
    }
    bytes
}

/// At most how many bytes there are beside resources.
pub(super) fn overhead(identity: &Identity) -> u64 {
    // Of tags, lengths and the number of resources there are fewer.
    const FRAME: usize = 32;
    (HEADER + FRAME + identity.encoded_len() + CODE_LENGTH) as u64
}

/// At most how many bytes a resource takes.
pub(super) fn size(id: &ResourceId, saved: &Saved) -> u64 {
    // Of tags, lengths and numbers there are fewer.
    const FRAME: usize = 96;
    let texts = id.name.len() + saved.version.len() + saved.server.len();
    (FRAME + texts + saved.raw.type_url.len() + saved.raw.value.len()) as u64
}

fn record(id: &ResourceId, saved: &Saved) -> Record {
    Record {
        type_url: saved.raw.type_url.clone(),
        name: id.name.to_string(),
        value: saved.raw.value.clone(),
        version: saved.version.to_string(),
        server: saved.server.to_string(),
        updated: seconds(saved.updated),
        confirmed: seconds(saved.confirmed),
    }
}

fn write(message: &impl Message, bytes: &mut Vec<u8>) {
    message
        .encode_length_delimited(bytes)
        .expect("a vector takes any number of bytes");
}

// === the way back ===

/// The resources in `bytes`, which must be those of `identity` and, with a key, bear its
/// authentication code. Says nothing of whether they can be decoded.
pub(super) fn decode(
    bytes: &[u8],
    identity: &Identity,
    key: Option<&Key>,
) -> Result<Vec<(ResourceId, Saved)>, SnapshotError> {
    let body = open(bytes, key)?;
    let mut rest = body;
    let opening: Opening = read(&mut rest)?;
    if opening.identity.as_ref() != Some(identity) {
        return Err(foreign(opening.identity.as_ref(), identity));
    }
    if opening.records > MAX_RECORDS {
        let problem = format!(
            "{} resources: at most {MAX_RECORDS} are read",
            opening.records
        );
        return Err(SnapshotError::new(SnapshotErrorKind::TooLarge, problem));
    }
    let mut resources = Vec::new();
    for _ in 0..opening.records {
        resources.push(saved(read(&mut rest)?)?);
    }
    if !rest.is_empty() {
        return Err(corrupt("more bytes than its resources have"));
    }
    Ok(resources)
}

/// The body, once it is known to be whole and, with a key, ours.
fn open<'a>(bytes: &'a [u8], key: Option<&Key>) -> Result<&'a [u8], SnapshotError> {
    if !bytes.starts_with(MAGIC) {
        // An empty file is what a crash of the machine may leave of one.
        return Err(match MAGIC.starts_with(bytes) {
            true => corrupt("cut off"),
            false => SnapshotError::new(SnapshotErrorKind::Format, "not a snapshot"),
        });
    }
    if bytes.len() < HEADER {
        return Err(corrupt("cut off"));
    }
    let number = |at: usize| {
        let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
    let (version, flags) = (number(8), number(12));
    if version != VERSION || flags & !HAS_CODE != 0 {
        let problem = format!("format {version} with flags {flags:#x}: {VERSION} is known here");
        return Err(SnapshotError::new(SnapshotErrorKind::Format, problem));
    }
    let code = if flags & HAS_CODE == 0 {
        0
    } else {
        CODE_LENGTH
    };
    let found = (bytes.len() - HEADER) as u64;
    if long(16).checked_add(code as u64) != Some(found) {
        return Err(corrupt("not as long as it says"));
    }
    let (content, code) = bytes.split_at(bytes.len() - code);
    if long(SUMMED) != checksum(content) {
        return Err(corrupt("its checksum is another"));
    }
    match key {
        Some(_) if code.is_empty() => Err(unauthentic("it has no authentication code")),
        Some(key) if !key.made(code, content) => {
            Err(unauthentic("its authentication code is not of our key"))
        }
        _ => Ok(&content[HEADER..]),
    }
}

fn saved(record: Record) -> Result<(ResourceId, Saved), SnapshotError> {
    let Some(kind) = type_url::kind_of(&record.type_url) else {
        return Err(corrupt("a resource of a type that is never saved"));
    };
    if record.name.is_empty() {
        return Err(corrupt("a resource without a name"));
    }
    let saved = Saved {
        raw: Arc::new(Any {
            type_url: record.type_url,
            value: record.value,
        }),
        version: record.version.into(),
        server: record.server.into(),
        updated: time(record.updated)?,
        confirmed: time(record.confirmed)?,
    };
    Ok((ResourceId::new(kind, record.name), saved))
}

fn read<M: Message + Default>(rest: &mut &[u8]) -> Result<M, SnapshotError> {
    M::decode_length_delimited(rest).map_err(|_| corrupt("what it holds cannot be read"))
}

/// Reads `bytes`, then what is in them as if its length and its checksum were right: for fuzzing, which
/// does not get past them.
#[cfg(feature = "testing")]
pub(crate) fn read_bytes(bytes: &[u8]) {
    let own = Identity::default();
    let _ = decode(bytes, &own, None);
    if let Some(body) = bytes.get(HEADER..) {
        let _ = decode(&sealed(body), &own, None);
    }
}

/// A good snapshot of nobody's.
#[cfg(feature = "testing")]
pub(crate) fn written(resources: Vec<(ResourceId, Any)>) -> Vec<u8> {
    let saved = |raw| Saved {
        raw: Arc::new(raw),
        version: "1".into(),
        server: "xds.test:1".into(),
        updated: SystemTime::UNIX_EPOCH,
        confirmed: SystemTime::UNIX_EPOCH,
    };
    let resources = resources.into_iter().map(|(id, raw)| (id, saved(raw)));
    encode(&Identity::default(), &resources.collect::<Vec<_>>(), None)
}

/// What has this body, right or not.
#[cfg(any(test, feature = "testing"))]
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(*MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(body);
    let sum = checksum(&bytes);
    bytes[SUMMED..HEADER].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// FNV-1a of everything but itself.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = Fnv::default();
    hash.field(&bytes[..SUMMED]);
    hash.field(&bytes[HEADER..]);
    hash.0
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn time(seconds: u64) -> Result<SystemTime, SnapshotError> {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .ok_or_else(|| corrupt("a time that never comes"))
}

fn corrupt(problem: &str) -> SnapshotError {
    SnapshotError::new(SnapshotErrorKind::Corrupt, problem)
}

fn unauthentic(problem: &str) -> SnapshotError {
    SnapshotError::new(SnapshotErrorKind::Unauthentic, problem)
}

fn foreign(found: Option<&Identity>, own: &Identity) -> SnapshotError {
    let found = found.cloned().unwrap_or_default();
    let problem = format!(
        "of node {:?}, cluster {:?}, control planes {:?}; we are node {:?}, cluster {:?}, control \
         planes {:?}",
        found.node_id,
        found.node_cluster,
        found.servers,
        own.node_id,
        own.node_cluster,
        own.servers
    );
    SnapshotError::new(SnapshotErrorKind::Foreign, problem)
}

#[cfg(test)]
mod tests;
