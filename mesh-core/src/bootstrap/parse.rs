//! From JSON to the builders, which check what is not the JSON's shape.

use serde_json::Value;

use super::{
    AuthorityConfig, AuthorityConfigBuilder, Bootstrap, CallCreds, CertificatePlugin,
    CertificateProviderConfig, ChannelCreds, FileWatcherConfig, IstioCaConfig, ServerConfigBuilder,
    ServerFeatures, SpiffeWorkloadApiConfig,
    error::Fault,
    json::{Field, Object, member},
    source::Lookup,
};
use crate::config::LocalityId;

/// Certificate chain and private key.
type IdentityFiles = (std::path::PathBuf, std::path::PathBuf);

/// `environment` gives what the JSON leaves to it.
pub(super) fn bootstrap(json: &[u8], environment: Lookup<'_>) -> Result<Bootstrap, Fault> {
    let value: Value = serde_json::from_slice(json)
        .map_err(|error| Fault::new("", format!("not valid JSON: {error}")))?;
    let mut object = Field::root(&value).object()?;

    let mut builder = Bootstrap::builder();
    for entry in object
        .require("xds_servers", "list at least one control plane")?
        .list()?
    {
        builder = builder.server(server(&entry)?);
    }
    if let Some(field) = object.get("node") {
        let mut node = field.object()?;
        builder = builder
            .node_id(node.string("id")?)
            .node_cluster(node.string("cluster")?);
        if let Some(field) = node.get("locality") {
            builder = builder.locality(locality(&field)?);
        }
        if let Some(metadata) = node.get("metadata") {
            for (key, value) in metadata.map()? {
                builder = builder.metadata(key, value.clone());
            }
        }
        node.finish();
    }
    if let Some(field) = object.get("certificate_providers") {
        for (instance, field) in field.entries()? {
            builder = builder.provider(instance.to_owned(), provider(&field, environment)?);
        }
    }
    if let Some(field) = object.get("server_listener_resource_name_template") {
        builder = builder.server_listener_template(field.str()?);
    }
    if let Some(field) = object.get("client_default_listener_resource_name_template") {
        builder = builder.client_listener_template(field.str()?);
    }
    if let Some(field) = object.get("authorities") {
        for (name, field) in field.entries()? {
            builder = builder.authority(name, authority(&field)?);
        }
    }
    object.finish();
    builder.checked()
}

fn locality(field: &Field<'_>) -> Result<LocalityId, Fault> {
    let mut object = field.object()?;
    let locality = LocalityId {
        region: object.string("region")?,
        zone: object.string("zone")?,
        sub_zone: object.string("sub_zone")?,
    };
    object.finish();
    Ok(locality)
}

fn server(field: &Field<'_>) -> Result<ServerConfigBuilder, Fault> {
    let mut object = field.object()?;
    let uri = object
        .require(
            "server_uri",
            "say where the control plane is, as `host:port`",
        )?
        .str()?;
    let creds = object.require(
        "channel_creds",
        "say how the connection is secured, as [{\"type\": \"tls\"}] or [{\"type\": \"insecure\"}]",
    )?;
    let mut server = ServerConfigBuilder::new(uri.to_owned(), channel_creds(&creds)?);
    if let Some(field) = object.get("call_creds") {
        for entry in field.list()? {
            if let Some(creds) = call_creds(&entry)? {
                server = server.call_creds(creds);
            }
        }
    }
    if let Some(field) = object.get("server_features") {
        let mut features = ServerFeatures::default();
        for entry in field.list()? {
            // Anything may stand here, for the sake of clients newer than us (gRFC A30).
            if !entry.str().is_ok_and(|name| features.enable(name)) {
                let field = entry.path();
                tracing::debug!(field, "server feature is not known and is ignored");
            }
        }
        server = server.features(features);
    }
    object.finish();
    Ok(server)
}

/// The first entry of a supported type. Later ones are checked all the same, as gRPC C-core does,
/// so that a mistake shows before it matters.
fn channel_creds(field: &Field<'_>) -> Result<ChannelCreds, Fault> {
    let mut chosen = None;
    let mut unsupported = Vec::new();
    for entry in field.list()? {
        let mut object = entry.object()?;
        let kind = object
            .require("type", "name the credentials: `tls` or `insecure`")?
            .str()?;
        let creds = match kind {
            "insecure" => {
                let _ = object.get("config");
                ChannelCreds::Insecure
            }
            "tls" => tls(object.get("config"))?,
            other => {
                unsupported.push(other);
                continue;
            }
        };
        object.finish();
        chosen.get_or_insert(creds);
    }
    chosen.ok_or_else(|| {
        let seen = match unsupported.as_slice() {
            [] => "the list is empty".to_owned(),
            kinds => format!("of the types listed, {kinds:?}, none is supported"),
        };
        let google = if unsupported.contains(&"google_default") {
            "; `google_default` is not supported by this library"
        } else {
            ""
        };
        field.fault(format!("{seen}{google}; add `tls` or `insecure`"))
    })
}

fn tls(config: Option<Field<'_>>) -> Result<ChannelCreds, Fault> {
    let Some(config) = config else {
        return Ok(ChannelCreds::Tls {
            ca_certificate_file: None,
            identity_files: None,
        });
    };
    let mut object = config.object()?;
    let ca_certificate_file = object.file("ca_certificate_file")?;
    let identity_files = identity_files(&config, &mut object)?;
    if let Some(interval) = object.get("refresh_interval") {
        interval.duration()?;
    }
    if let Some(bundles) = object.get("spiffe_trust_bundle_map_file") {
        return Err(bundles.fault(
            "not supported for control planes, and without it others would be trusted; use \
             ca_certificate_file",
        ));
    }
    object.finish();
    Ok(ChannelCreds::Tls {
        ca_certificate_file,
        identity_files,
    })
}

/// `certificate_file` and `private_key_file`, both or none.
fn identity_files(
    config: &Field<'_>,
    object: &mut Object<'_>,
) -> Result<Option<IdentityFiles>, Fault> {
    let certificate = object.file("certificate_file")?;
    let private_key = object.file("private_key_file")?;
    match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Ok(Some((certificate, private_key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(config.fault("certificate_file needs private_key_file beside it")),
        (None, Some(_)) => Err(config.fault("private_key_file needs certificate_file beside it")),
    }
}

/// The credentials, unless their type is not supported.
fn call_creds(entry: &Field<'_>) -> Result<Option<CallCreds>, Fault> {
    let mut object = entry.object()?;
    let kind = object.require("type", "name the credentials: `jwt_token_file`")?;
    if kind.str()? != "jwt_token_file" {
        let (field, kind) = (entry.path(), kind.str()?);
        tracing::debug!(
            field,
            kind,
            "call credentials are not supported and are skipped"
        );
        return Ok(None);
    }
    let help = "say which file holds the token, as {\"jwt_token_file\": \"/path\"}";
    let mut config = object.require("config", help)?.object()?;
    let file = config.require("jwt_token_file", help)?.file()?;
    config.finish();
    object.finish();
    Ok(Some(CallCreds::JwtTokenFile(file)))
}

fn provider(
    field: &Field<'_>,
    environment: Lookup<'_>,
) -> Result<CertificateProviderConfig, Fault> {
    let mut object = field.object()?;
    let plugin_name = object
        .require("plugin_name", "name the plugin, such as `file_watcher`")?
        .str()?
        .to_owned();
    let config = object.get("config");
    let config = match plugin_name.as_str() {
        FileWatcherConfig::PLUGIN => match config {
            Some(config) => file_watcher(&config)?,
            // Refused for naming no file, by the check that code-built ones go through.
            None => FileWatcherConfig::new(),
        }
        .into(),
        IstioCaConfig::PLUGIN => {
            let help = "say which certificate authority to ask, in ca_server";
            istio_ca(&object.require("config", help)?)?.into()
        }
        SpiffeWorkloadApiConfig::PLUGIN => {
            workload_api(config.as_ref(), field, environment)?.into()
        }
        _ => CertificatePlugin::Unsupported,
    };
    object.finish();
    Ok(CertificateProviderConfig {
        plugin_name,
        config,
    })
}

fn file_watcher(config: &Field<'_>) -> Result<FileWatcherConfig, Fault> {
    let mut object = config.object()?;
    let watcher = FileWatcherConfig {
        identity_files: identity_files(config, &mut object)?,
        ca_certificate_file: object.file("ca_certificate_file")?,
        spiffe_trust_bundle_map_file: object.file("spiffe_trust_bundle_map_file")?,
        refresh_interval: match object.get("refresh_interval") {
            Some(interval) => interval.duration()?,
            None => FileWatcherConfig::DEFAULT_REFRESH,
        },
    };
    object.finish();
    Ok(watcher)
}

fn istio_ca(config: &Field<'_>) -> Result<IstioCaConfig, Fault> {
    let mut object = config.object()?;
    let help = "say which certificate authority to ask, as an entry of xds_servers does";
    let field = object.require("ca_server", help)?;
    let server = server(&field)?.build_at(field.path())?;
    let mut ca = IstioCaConfig::new(server);
    if let Some(id) = object.get("cluster_id") {
        ca = ca.cluster_id(id.str()?);
    }
    if let Some(validity) = object.get("validity") {
        ca = ca.validity(validity.duration()?);
    }
    if let Some(id) = object.get("spiffe_id") {
        ca = ca.spiffe_id(id.str()?);
    }
    ca.ca_certificate_file = object.file("ca_certificate_file")?;
    object.finish();
    Ok(ca)
}

fn workload_api(
    config: Option<&Field<'_>>,
    provider: &Field<'_>,
    environment: Lookup<'_>,
) -> Result<SpiffeWorkloadApiConfig, Fault> {
    const VARIABLE: &str = SpiffeWorkloadApiConfig::SOCKET_VARIABLE;
    let mut socket = None;
    if let Some(config) = config {
        let mut object = config.object()?;
        if let Some(field) = object.get("socket") {
            socket = Some(field.str()?.to_owned());
        }
        object.finish();
    }
    // Empty is as good as unset, as everywhere in the environment.
    let found = environment(VARIABLE).filter(|socket| !socket.is_empty());
    let socket = match (socket, found) {
        (Some(socket), _) => socket,
        // What is not Unicode is no socket: the check says so.
        (None, Some(socket)) => socket.to_string_lossy().into_owned(),
        (None, None) => {
            let path = member(&member(provider.path(), "config"), "socket");
            let problem = format!(
                "missing; say where the Workload API listens, such as \
                 `unix:///run/spire/agent/public/api.sock`, here or in {VARIABLE}"
            );
            return Err(Fault::new(path, problem));
        }
    };
    Ok(SpiffeWorkloadApiConfig::new(socket))
}

fn authority(field: &Field<'_>) -> Result<AuthorityConfigBuilder, Fault> {
    let mut object = field.object()?;
    let mut authority = AuthorityConfig::builder();
    if let Some(field) = object.get("client_listener_resource_name_template") {
        authority = authority.client_listener_template(field.str()?);
    }
    if let Some(field) = object.get("xds_servers") {
        for entry in field.list()? {
            authority = authority.server(server(&entry)?);
        }
    }
    if let Some(field) = object.get("fallback_on_reachability_only") {
        authority = authority.fallback_on_reachability_only(field.bool()?);
    }
    object.finish();
    Ok(authority)
}
