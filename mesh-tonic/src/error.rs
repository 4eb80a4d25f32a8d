use std::fmt;

use mesh_core::Code;
use tonic::Status;

/// Why a call failed. Its [`source`](std::error::Error::source) is a [`Status`] with the right
/// code, which is what generated clients return.
#[derive(Debug)]
pub struct Error {
    status: Status,
    cause: std::sync::Arc<mesh_hyper::Error>,
}

/// A target that no channel can be made for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid target {target:?}: {reason}")]
pub struct InvalidTarget {
    /// The target as given.
    pub target: String,
    /// What is wrong with it.
    pub reason: String,
}

// === impl Error ===

impl Error {
    /// What the mesh knows of a call that a generated client says has failed with `status`. `None`
    /// if the status is the server's own answer.
    ///
    /// ```
    /// # fn example(status: tonic::Status) {
    /// if let Some(error) = mesh_tonic::Error::of(&status) {
    ///     println!("{}: tried {:?}", error.cause().cause(), error.cause().endpoints_tried());
    /// }
    /// # }
    /// ```
    pub fn of(status: &Status) -> Option<&Self> {
        std::error::Error::source(status)?.downcast_ref()
    }

    /// The status that a generated client returns.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What the mesh knows of the failure: route, cluster, endpoints tried.
    pub fn cause(&self) -> &mesh_hyper::Error {
        &self.cause
    }
}

impl From<mesh_hyper::Error> for Error {
    fn from(error: mesh_hyper::Error) -> Self {
        let cause = std::sync::Arc::new(error);
        let mut status = Status::new(code(cause.code()), cause.to_string());
        status.set_source(std::sync::Arc::clone(&cause) as _);
        Self { status, cause }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.status)
    }
}

fn code(code: Code) -> tonic::Code {
    tonic::Code::from_i32(code as i32)
}
