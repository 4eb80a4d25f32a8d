//! The command lines of the client and the server.

mod server;

pub use server::{ServerCommand, ServerFlags, parse_server, server_help};

use std::time::Duration;

use tonic::Code;

use super::{Method, MethodMetadata, plan::AppendText};
use crate::flags::{self, BOOL, Flag, FlagError, boolean, number};

/// What the client is told on its command line.
#[derive(Debug, Clone)]
pub struct Flags {
    /// The target to call, such as `xds:///greeter.shop:8080`.
    pub server: String,
    /// How many channels call it in turn; default 1.
    pub num_channels: u16,
    /// Calls of each method per second and channel; default 1.
    pub qps: u32,
    /// Which methods are called; default `UnaryCall`.
    pub rpc: Vec<Method>,
    /// Request metadata of each method.
    pub metadata: MethodMetadata,
    /// Deadline of each call; default 20 s.
    pub rpc_timeout: Duration,
    /// Port of the services, 0 for any; default 8081.
    pub stats_port: u16,
    /// Whether the cluster's TLS settings may be used. The mesh always follows them, so this
    /// changes nothing; it is here because drivers set it.
    pub secure_mode: bool,
    /// Whether each call is written to standard output.
    pub print_response: bool,
    /// The status of calls that count as successes; default OK.
    pub expect_status: Code,
    /// Whether a call that fails after the first success ends the client.
    pub fail_on_failed_rpc: bool,
}

/// What the command line asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// To be told about the flags.
    Help,
    /// To run.
    Run(Box<Flags>),
}

static FLAGS: [Flag<Flags>; 11] = [
    Flag {
        name: "server",
        value: "TARGET",
        help: "What to call: xds:///NAME. Required.",
        set: |flags, value| {
            flags.server = value.to_owned();
            if value.is_empty() {
                Err("name a target".to_owned())
            } else {
                Ok(())
            }
        },
    },
    Flag {
        name: "num_channels",
        value: "COUNT",
        help: "Channels that call it in turn. Default: 1.",
        set: |flags, value| number(value, 1, 1_000).map(|count| flags.num_channels = count),
    },
    Flag {
        name: "qps",
        value: "RATE",
        help: "Calls of each method per second and channel. Default: 1.",
        set: |flags, value| number(value, 1, 1_000_000).map(|rate| flags.qps = rate),
    },
    Flag {
        name: "rpc",
        value: "METHODS",
        help: "Methods to call, from EmptyCall and UnaryCall, separated by commas. Default: \
               UnaryCall.",
        set: |flags, value| {
            let methods = value.split(',').map(|name| name.parse::<Method>());
            flags.rpc = methods
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?;
            Ok(())
        },
    },
    Flag {
        name: "metadata",
        value: "ENTRIES",
        help: "Request metadata: METHOD:KEY:VALUE, separated by commas.",
        set: |flags, value| {
            flags.metadata = metadata(value)?;
            Ok(())
        },
    },
    Flag {
        name: "rpc_timeout_sec",
        value: "SECONDS",
        help: "Deadline of each call. Default: 20.",
        set: |flags, value| {
            flags.rpc_timeout = Duration::from_secs(number(value, 1, u64::from(u32::MAX))?);
            Ok(())
        },
    },
    Flag {
        name: "stats_port",
        value: "PORT",
        help: "Port of the statistics, configuration and health services, 0 for any free one. \
               Default: 8081.",
        set: |flags, value| number(value, 0, u16::MAX).map(|port| flags.stats_port = port),
    },
    Flag {
        name: "secure_mode",
        value: BOOL,
        help: "Accepted, and changes nothing: whether a connection uses TLS is for the cluster's \
               configuration to say, and the mesh always follows it. Default: false.",
        set: |flags, value| boolean(value).map(|on| flags.secure_mode = on),
    },
    Flag {
        name: "print_response",
        value: BOOL,
        help: "Write how each call ended to standard output. Default: false.",
        set: |flags, value| boolean(value).map(|on| flags.print_response = on),
    },
    Flag {
        name: "expect_status",
        value: "CODE",
        help: "Status of calls that count as successes for --fail_on_failed_rpc, by name. \
               Default: OK.",
        set: |flags, value| code(value).map(|code| flags.expect_status = code),
    },
    Flag {
        name: "fail_on_failed_rpc",
        value: BOOL,
        help: "Exit with status 1 when a call fails after another has succeeded. Default: false.",
        set: |flags, value| boolean(value).map(|on| flags.fail_on_failed_rpc = on),
    },
];

/// The names of the status codes, in their order.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Reads a command line without the program's name. Flags are `--flag=value` or `--flag value`; one
/// that is true or false may go without. The last of several counts.
///
/// # Errors
/// If a flag is unknown, without its value or not valid, or `--server` is missing.
pub fn parse<A: Into<String>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<Command, FlagError> {
    let Some(flags) = flags::read::<Flags>(&FLAGS, arguments)? else {
        return Ok(Command::Help);
    };
    if flags.server.is_empty() {
        return Err(FlagError::Missing("server"));
    }
    Ok(Command::Run(Box::new(flags)))
}

/// What there is to say about the flags.
pub fn help() -> String {
    let mut text = String::from(
        "Calls a target of the mesh at a fixed rate, and tells test drivers where the calls went.\n\
         The control plane is the one of the bootstrap that GRPC_XDS_BOOTSTRAP (a file) or\n\
         GRPC_XDS_BOOTSTRAP_CONFIG (JSON) names.\n\n\
         Usage: interop_client --server=xds:///NAME [--FLAG=VALUE]...\n\n",
    );
    text.push_str(&flags::list(&FLAGS));
    text
}

// === impl Flags ===

impl Default for Flags {
    fn default() -> Self {
        Self {
            server: String::new(),
            num_channels: 1,
            qps: 1,
            rpc: vec![Method::UnaryCall],
            metadata: MethodMetadata::default(),
            rpc_timeout: Duration::from_secs(20),
            stats_port: 8081,
            secure_mode: false,
            print_response: false,
            expect_status: Code::Ok,
            fail_on_failed_rpc: false,
        }
    }
}

fn code(value: &str) -> Result<Code, String> {
    let number = CODES.iter().position(|name| *name == value);
    let number = number.and_then(|number| i32::try_from(number).ok());
    number
        .map(Code::from_i32)
        .ok_or_else(|| format!("use one of {}", CODES.join(", ")))
}

fn metadata(value: &str) -> Result<MethodMetadata, String> {
    let mut metadata = MethodMetadata::default();
    for entry in value.split(',').filter(|entry| !entry.is_empty()) {
        let parts: Vec<&str> = entry.split(':').collect();
        let [method, key, value] = parts[..] else {
            return Err(format!("{entry:?} is not METHOD:KEY:VALUE"));
        };
        let method: Method = method
            .parse()
            .map_err(|error| format!("{entry:?}: {error}"))?;
        let appended = metadata[method].append_text(key, value);
        appended.map_err(|error| format!("{entry:?}: {error}"))?;
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests;
