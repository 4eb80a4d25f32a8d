//! TLS of the connections that a server accepts (gRFC A29, A36).

use envoy_types::pb::{
    envoy::{
        config::core::v3::TransportSocket,
        extensions::transport_sockets::tls::v3::{
            DownstreamTlsContext, downstream_tls_context::OcspStaplePolicy,
        },
    },
    google::protobuf::{Any, BoolValue},
};

use super::{
    Context, FieldError,
    extension::unpack,
    tls::{self, Providers},
};
use crate::{config::DownstreamTls, control::xds::Side};

/// Decodes the field `transport_socket` of a filter chain.
pub(super) fn decode(
    socket: &TransportSocket,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<DownstreamTls, FieldError> {
    tls::socket(socket, cx, |config, cx| downstream(config, providers, cx))
}

fn downstream(
    config: &Any,
    providers: &Providers,
    cx: &mut Context<'_>,
) -> Result<DownstreamTls, FieldError> {
    let DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        ocsp_staple_policy,
        ..
    } = unpack(config)?;
    let truth = |wire: Option<BoolValue>| wire.is_some_and(|wire| wire.value);
    if truth(require_sni) {
        return Err(FieldError::new("not supported").field("require_sni"));
    }
    if ocsp_staple_policy != OcspStaplePolicy::LenientStapling as i32 {
        let problem = "must be LENIENT_STAPLING: nothing is stapled";
        return Err(FieldError::new(problem).field("ocsp_staple_policy"));
    }
    let tls::Common {
        identity,
        roots,
        sans,
    } = tls::common(common_tls_context.as_ref(), Side::Server, providers, cx)?;
    let identity = identity.ok_or_else(|| {
        FieldError::new("must be set: a server presents a certificate")
            .field("tls_certificate_provider_instance")
            .field("common_tls_context")
    })?;
    let require_client_certificate = truth(require_client_certificate);
    if require_client_certificate && roots.is_none() {
        return Err(FieldError::new(
            "needs common_tls_context.validation_context: without it nobody is trusted",
        )
        .field("require_client_certificate"));
    }
    // gRPC for Go refuses matchers of names here. They can only restrict who may connect, and
    // Envoy enforces them: so do we.
    Ok(DownstreamTls {
        identity,
        roots,
        require_client_certificate,
        sans,
    })
}

#[cfg(test)]
mod tests;
