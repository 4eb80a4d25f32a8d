//! The last accepted resources, kept on disk: a new process serves while its control plane is down.
//!
//! ```no_run
//! # async fn example() -> Result<(), mesh_core::BuildError> {
//! use mesh_core::{Mesh, control::snapshot::SnapshotOptions};
//!
//! let mesh = Mesh::builder()
//!     .snapshot(SnapshotOptions::new("/var/lib/greeter/mesh"))
//!     .build()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! Or `MESH_SNAPSHOT_DIRECTORY=/var/lib/greeter/mesh` in the environment, where the bootstrap comes
//! from there too and nothing is said in code.
//!
//! # What is saved
//!
//! Listeners, routes, clusters and endpoints that a control plane sent and this process watches, as
//! they came and with their versions, once they are in force: a second after the last change, 15 s
//! after the first one if changes do not end, every hour, in [`Mesh::drain`](crate::Mesh::drain), and
//! when the last user of the mesh is gone. What an earlier process has saved and this one has not
//! asked for yet is kept. Not saved: secrets (SDS), private keys that a TLS context has inline, and
//! what the control plane took away (gRFC A88 leaves it in force for those who use it).
//!
//! The file is one for each node (its `id` and `cluster`) and set of control planes: processes that are
//! the same node may share a directory, and so may others. A new process finds what an earlier one
//! has saved if its node has the same `id`: that of a pod which has its name in it is the same after
//! the container was restarted, and another one after a deployment. Files of other nodes that were not
//! written for [`SnapshotOptions::max_age`] are removed when a process begins. It is replaced as a whole (written beside, synced, renamed), readable
//! for its owner alone (`0600`), and bounded: 64 MiB and seven days by default. Whoever can write
//! to it says where calls go, and what servers allow: one that is another user's, or that everybody may
//! write to, is refused, unless [a key](SnapshotOptions::key) tells that it is ours. A key does not tell
//! whether it is the last one: an earlier file of ours, put back, is used as long as it is not too old.
//!
//! # What becomes of it
//!
//! A new process reads the file before [`MeshBuilder::build`](crate::MeshBuilder::build) returns. Whoever
//! watches a resource that is in it gets it at once, with a trouble that says that it is stale:
//! [`Mesh::targets`](crate::Mesh::targets) shows that, and [`Mesh::config_dump`](crate::Mesh::config_dump)
//! marks it ([`AcceptedDump::stale`](crate::control::xds::AcceptedDump::stale)). The control plane is
//! asked as always, and what it sends takes its place.
//!
//! Until then a control plane that cannot be reached is a trouble and no more. One that says that there
//! is no such resource, or sends one that is refused, takes away nothing either, as if it had sent
//! the saved one itself (gRFC A88), unless the first control plane for that name has the feature
//! `fail_on_data_errors`: then it is gone. Silence for
//! [`Options::resource_timeout`](crate::Options::resource_timeout) on an open stream counts as that word
//! (gRFC A57), unless the control plane has `resource_timer_is_transient_error`. What it says is not
//! there, the next process does not begin with; its silence alone, which may be slowness, leaves what is
//! saved as it is.
//!
//! What was allowed when it was saved is allowed again until the control plane answers: where access that
//! is taken back must not return for so long, shorten [`SnapshotOptions::max_age`].
//!
//! A saved resource is not a cached one where it comes to falling back (gRFC A71): a second control
//! plane that can be reached is asked at once, since what it knows is newer.
//!
//! # What is refused
//!
//! A file that is corrupt, cut off, of a format that is not known, of another node or other control
//! planes, too old, too large, or not made with our key is not used, and the rest goes as without
//! it: [`Snapshot::status`] and `tracing` say why. A resource in it that this program does not accept
//! is left out. The next save replaces a file that was refused.

mod disk;
mod error;
mod format;
mod key;
mod options;
mod relay;
mod saver;
mod source;
mod store;
mod table;
#[cfg(test)]
mod tests;

#[cfg(feature = "testing")]
pub(crate) use self::format::{read_bytes, written};
pub use self::{
    error::{SnapshotError, SnapshotErrorKind},
    options::SnapshotOptions,
    store::{Snapshot, SnapshotStatus},
};
pub(crate) use self::{format::Identity, source::SnapshotSource, store::SnapshotSeed};
