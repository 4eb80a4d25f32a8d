use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{Bootstrap, BootstrapError, Origin, error::Fault, parse};

/// Looks up a variable of the environment.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Names the file that holds the bootstrap.
pub(super) const FILE_VARIABLE: &str = "GRPC_XDS_BOOTSTRAP";
/// Holds the bootstrap's JSON.
pub(super) const CONFIG_VARIABLE: &str = "GRPC_XDS_BOOTSTRAP_CONFIG";

impl Bootstrap {
    /// Bytes a bootstrap's JSON may have: 4 MiB.
    pub const MAX_BYTES: usize = 4 << 20;

    /// Reads the bootstrap that the process environment names, now (gRFC A27).
    ///
    /// `GRPC_XDS_BOOTSTRAP` is the path of a file and wins; if that file is missing or bad there is
    /// no falling through to the other variable. Otherwise `GRPC_XDS_BOOTSTRAP_CONFIG` is the JSON
    /// itself. An empty variable counts as not set. Blocks while the file is read.
    ///
    /// # Errors
    /// If neither variable is set ([`BootstrapError::is_not_configured`]), the file cannot be read,
    /// or its content is not a bootstrap.
    pub fn from_env() -> Result<Self, BootstrapError> {
        Self::from_os_lookup(&environment)
    }

    /// As [`from_env`](Self::from_env), with `lookup` in place of the process environment.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, BootstrapError> {
        Self::from_os_lookup(&|name| lookup(name).map(OsString::from))
    }

    /// Reads the bootstrap in a file. Blocks while it is read.
    ///
    /// # Errors
    /// If the file cannot be read, or its content is not a bootstrap.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, BootstrapError> {
        Self::from_named_file(path.as_ref(), None, &environment)
    }

    /// Reads a bootstrap from its JSON.
    ///
    /// # Errors
    /// If `json` is not a bootstrap.
    pub fn from_json(json: &str) -> Result<Self, BootstrapError> {
        Self::from_bytes(json.as_bytes(), Origin::Text, &environment)
    }

    fn from_os_lookup(lookup: Lookup<'_>) -> Result<Self, BootstrapError> {
        let lookup = &|name: &str| lookup(name).filter(|value| !value.is_empty());
        if let Some(path) = lookup(FILE_VARIABLE) {
            Self::from_named_file(&PathBuf::from(path), Some(FILE_VARIABLE), lookup)
        } else if let Some(json) = lookup(CONFIG_VARIABLE) {
            // What is not Unicode is not JSON: the parser says where.
            let origin = Origin::Variable(CONFIG_VARIABLE);
            Self::from_bytes(json.as_encoded_bytes(), origin, lookup)
        } else {
            Err(BootstrapError::not_configured())
        }
    }

    fn from_named_file(
        path: &Path,
        variable: Option<&'static str>,
        lookup: Lookup<'_>,
    ) -> Result<Self, BootstrapError> {
        let origin = Origin::File {
            path: path.to_owned(),
            variable,
        };
        let mut bytes = Vec::new();
        // One byte more than the limit tells a file that is too long from one that just fits.
        let limit = Self::MAX_BYTES as u64 + 1;
        match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => Self::from_bytes(&bytes, origin, lookup),
            Err(error) => {
                let problem = format!(
                    "cannot be read: {error}; name a file that this process can read{}",
                    match variable {
                        Some(variable) => format!(", or unset {variable}"),
                        None => String::new(),
                    }
                );
                Err(BootstrapError::new(origin, Fault::new("", problem)))
            }
        }
    }

    fn from_bytes(json: &[u8], origin: Origin, lookup: Lookup<'_>) -> Result<Self, BootstrapError> {
        let parsed = if json.len() > Self::MAX_BYTES {
            let problem = format!("longer than the limit of {} bytes", Self::MAX_BYTES);
            Err(Fault::new("", problem))
        } else {
            parse::bootstrap(json, lookup)
        };
        parsed.map_err(|fault| BootstrapError::new(origin, fault))
    }
}

fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
