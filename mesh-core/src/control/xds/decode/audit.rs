//! Audit loggers of access control (gRFC A59).

use std::{collections::BTreeMap, fmt, sync::Arc};

use envoy_types::pb::envoy::config::{
    core::v3::TypedExtensionConfig,
    rbac::v3::rbac::{
        AuditLoggingOptions,
        audit_logging_options::{AuditCondition as WireCondition, AuditLoggerConfig},
    },
};

use super::{Extension, FieldError, ResultExt, bounds::quote, fields::Message};
use crate::authz::{AuditCondition, AuditLogger, AuditLoggers, NamedLogger, StdoutLogger};

/// Makes the audit loggers of one type from their configuration.
pub trait AuditLoggerDecoder: fmt::Debug + Send + Sync + 'static {
    /// The message that configures the logger. Its name is how configuration asks for it.
    fn message(&self) -> &'static Message;

    /// Makes a logger.
    ///
    /// # Errors
    /// If the configuration cannot be accepted: the whole listener is rejected then. The path is
    /// relative to the logger's configuration.
    fn decode(&self, config: &Extension) -> Result<Arc<dyn AuditLogger>, FieldError>;
}

/// An audit logger that is there already, such as a function or a channel's sender: all
/// configurations of its type lead to it.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use mesh_core::{
///     authz::AuditEvent,
///     control::xds::{
///         FilterRegistry, RbacDecoder,
///         decode::{Message, SharedLogger},
///     },
/// };
///
/// static AUDIT: Message = Message { name: "acme.Audit", fields: &[] };
///
/// let (denied, _receiver) = mpsc::channel();
/// let logger = move |event: &AuditEvent<'_>| {
///     let _ = denied.send(event.rpc_method.to_owned());
/// };
/// let rbac = RbacDecoder::standard().with_logger(SharedLogger::new(&AUDIT, Arc::new(logger)));
/// let filters = FilterRegistry::standard().register(rbac);
/// ```
#[derive(Clone)]
pub struct SharedLogger {
    message: &'static Message,
    logger: Arc<dyn AuditLogger>,
}

/// The decoder of `envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog`.
#[derive(Debug)]
struct StdoutDecoder;

/// Audit loggers by the name of their type.
#[derive(Debug, Clone)]
pub(super) struct Loggers(BTreeMap<&'static str, Arc<dyn AuditLoggerDecoder>>);

// === impl SharedLogger ===

impl SharedLogger {
    /// `logger`, for configurations of the type `message`.
    pub fn new(message: &'static Message, logger: Arc<dyn AuditLogger>) -> Self {
        Self { message, logger }
    }
}

impl AuditLoggerDecoder for SharedLogger {
    fn message(&self) -> &'static Message {
        self.message
    }

    fn decode(&self, _: &Extension) -> Result<Arc<dyn AuditLogger>, FieldError> {
        Ok(self.logger.clone())
    }
}

impl fmt::Debug for SharedLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLogger")
            .field("message", &self.message.name)
            .finish_non_exhaustive()
    }
}

// === impl StdoutDecoder ===

impl AuditLoggerDecoder for StdoutDecoder {
    fn message(&self) -> &'static Message {
        &STDOUT_AUDIT_LOG
    }

    fn decode(&self, _: &Extension) -> Result<Arc<dyn AuditLogger>, FieldError> {
        Ok(Arc::new(StdoutLogger))
    }
}

// === impl Loggers ===

impl Loggers {
    /// Those that this crate has.
    pub(super) fn standard() -> Self {
        let mut loggers = Self(BTreeMap::new());
        loggers.insert(StdoutDecoder);
        loggers
    }

    pub(super) fn insert(&mut self, decoder: impl AuditLoggerDecoder) {
        self.0.insert(decoder.message().name, Arc::new(decoder));
    }

    pub(super) fn message(&self, name: &str) -> Option<&'static Message> {
        self.0.get(name).map(|decoder| decoder.message())
    }

    pub(super) fn decode(&self, wire: AuditLoggingOptions) -> Result<AuditLoggers, FieldError> {
        let AuditLoggingOptions {
            audit_condition,
            logger_configs,
            ..
        } = wire;
        let condition = match WireCondition::try_from(audit_condition) {
            Ok(WireCondition::None) => AuditCondition::Never,
            Ok(WireCondition::OnDeny) => AuditCondition::OnDeny,
            Ok(WireCondition::OnAllow) => AuditCondition::OnAllow,
            Ok(WireCondition::OnDenyAndAllow) => AuditCondition::OnDenyAndAllow,
            Err(_) => {
                let problem = format!("unknown condition {audit_condition}");
                return Err(FieldError::new(problem).field("audit_condition"));
            }
        };
        let mut loggers = Vec::with_capacity(logger_configs.len());
        for (index, wire) in logger_configs.into_iter().enumerate() {
            let logger = self.logger(wire).index("logger_configs", index)?;
            loggers.extend(logger);
        }
        Ok(AuditLoggers { condition, loggers })
    }

    /// One logger; `None` if it is optional and not known here. One that is known must be valid.
    fn logger(&self, wire: AuditLoggerConfig) -> Result<Option<NamedLogger>, FieldError> {
        let AuditLoggerConfig {
            audit_logger,
            is_optional,
            ..
        } = wire;
        let TypedExtensionConfig { typed_config, .. } =
            audit_logger.ok_or_else(|| FieldError::new("must be set").field("audit_logger"))?;
        let decode = || {
            let any = typed_config.ok_or_else(|| FieldError::new("must be set"))?;
            let (kind, config) = Extension::unwrap(&any)?;
            let Some(decoder) = self.0.get(kind.as_str()) else {
                let problem = format!("audit logger {:?} is not known here", quote(&kind));
                return match is_optional {
                    true => Ok(None),
                    false => Err(FieldError::new(problem)),
                };
            };
            let logger = decoder.decode(&config)?;
            Ok(Some(NamedLogger {
                kind: kind.into(),
                // Only compared.
                config: format!("{config:?}").into(),
                logger,
            }))
        };
        decode().field("typed_config").field("audit_logger")
    }
}

static STDOUT_AUDIT_LOG: Message = Message {
    name: "envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog",
    fields: &[],
};
