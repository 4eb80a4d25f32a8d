use crate::flags::{self, BOOL, Flag, FlagError, boolean, number};

/// What the server is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFlags {
    /// Port of the test service, 0 for any; default 8080.
    pub port: u16,
    /// Port of the health services in secure mode, 0 for any; default 8081. Otherwise they are
    /// beside the test service.
    pub maintenance_port: u16,
    /// What the server calls itself in responses; default `rust_server`.
    pub server_id: String,
    /// Whether the test service is under the control plane's listener.
    pub secure_mode: bool,
    /// The hostname to answer with, in place of the system's.
    pub host_name_override: Option<String>,
}

/// What the server's command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCommand {
    /// To be told about the flags.
    Help,
    /// To run.
    Run(ServerFlags),
}

static FLAGS: [Flag<ServerFlags>; 5] = [
    Flag {
        name: "port",
        value: "PORT",
        help: "Port of the test service, 0 for any free one. Default: 8080.",
        set: |flags, value| number(value, 0, u16::MAX).map(|port| flags.port = port),
    },
    Flag {
        name: "maintenance_port",
        value: "PORT",
        help: "Port of the health services in secure mode, 0 for any free one; otherwise they are \
               beside the test service. Default: 8081.",
        set: |flags, value| number(value, 0, u16::MAX).map(|port| flags.maintenance_port = port),
    },
    Flag {
        name: "server_id",
        value: "NAME",
        help: "What the server calls itself in responses. Default: rust_server.",
        set: |flags, value| {
            flags.server_id = value.to_owned();
            Ok(())
        },
    },
    Flag {
        name: "secure_mode",
        value: BOOL,
        help: "Put the test service under the listener that the control plane has for it: TLS, \
               policies, routes. Default: false, plaintext and no control plane.",
        set: |flags, value| boolean(value).map(|on| flags.secure_mode = on),
    },
    Flag {
        name: "host_name_override",
        value: "NAME",
        help: "The hostname to answer with. Default: the system's.",
        set: |flags, value| {
            flags.host_name_override = Some(value.to_owned()).filter(|name| !name.is_empty());
            Ok(())
        },
    },
];

/// Reads the server's command line without the program's name, as
/// [`parse`](super::parse) reads the client's.
///
/// # Errors
/// If a flag is unknown, without its value or not valid, or both ports are the same in secure mode.
pub fn parse_server<A: Into<String>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<ServerCommand, FlagError> {
    let Some(flags) = flags::read::<ServerFlags>(&FLAGS, arguments)? else {
        return Ok(ServerCommand::Help);
    };
    if flags.secure_mode && flags.port != 0 && flags.port == flags.maintenance_port {
        return Err(FlagError::Invalid {
            flag: "maintenance_port",
            value: flags.maintenance_port.to_string(),
            reason: "in secure mode it must not be --port".to_owned(),
        });
    }
    Ok(ServerCommand::Run(flags))
}

/// What there is to say about the server's flags.
pub fn server_help() -> String {
    let text = "Serves gRPC's test service under a mesh.\n\
                In secure mode the control plane is the one of the bootstrap that\n\
                GRPC_XDS_BOOTSTRAP (a file) or GRPC_XDS_BOOTSTRAP_CONFIG (JSON) names.\n\n\
                Usage: interop_server [--FLAG=VALUE]...\n\n";
    text.to_owned() + &flags::list(&FLAGS)
}

// === impl ServerFlags ===

impl Default for ServerFlags {
    fn default() -> Self {
        Self {
            port: 8080,
            maintenance_port: 8081,
            server_id: "rust_server".to_owned(),
            secure_mode: false,
            host_name_override: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_defaults_and_values() {
        let none: [&str; 0] = [];
        let defaults = ServerCommand::Run(ServerFlags::default());
        assert_eq!(parse_server(none), Ok(defaults));
        let all = "--port=1 --maintenance_port 2 --server_id=a --secure_mode \
                   --host_name_override=b";
        let expected = ServerFlags {
            port: 1,
            maintenance_port: 2,
            server_id: "a".to_owned(),
            secure_mode: true,
            host_name_override: Some("b".to_owned()),
        };
        let parsed = parse_server(all.split_whitespace());
        assert_eq!(parsed, Ok(ServerCommand::Run(expected)));
        assert_eq!(parse_server(["--help"]), Ok(ServerCommand::Help));
        for name in FLAGS.iter().map(|flag| flag.name) {
            assert!(server_help().contains(&format!("--{name}=")), "{name}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, text) in [
            ("--port=x", "--port=x: use a whole number from 0 to 65535"),
            ("--nope", "unknown flag --nope"),
            ("--server_id", "--server_id needs a value"),
            (
                "--secure_mode --maintenance_port=8080",
                "must not be --port",
            ),
        ] {
            let error = parse_server(line.split_whitespace())
                .unwrap_err()
                .to_string();
            assert!(error.contains(text), "{line}: {error}");
        }
    }
}
