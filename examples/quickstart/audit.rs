//! The audit log of all instances: the first lines of each act are printed.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use mesh_core::{
    authz::AuditEvent,
    control::xds::{
        FilterRegistry, RbacDecoder,
        decode::{Message, SharedLogger},
    },
};

/// Lines that are printed of one act.
const LINES: u32 = 2;

/// The logger that writes to the standard output, whose place this one takes.
static STDOUT: Message = Message {
    name: "envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog",
    fields: &[],
};

/// Prints the first events of an act.
#[derive(Default)]
pub(crate) struct Audit {
    left: AtomicU32,
}

impl Audit {
    /// The filters of a mesh whose audit events come here.
    pub(crate) fn filters(self: &Arc<Self>) -> FilterRegistry {
        let audit = Arc::clone(self);
        let logger = SharedLogger::new(
            &STDOUT,
            Arc::new(move |event: &AuditEvent<'_>| audit.print(event)),
        );
        FilterRegistry::standard().register(RbacDecoder::standard().with_logger(logger))
    }

    /// Prints the next few events.
    pub(crate) fn listen(&self) {
        self.left.store(LINES, Ordering::Relaxed);
    }

    fn print(&self, event: &AuditEvent<'_>) {
        let one_less = |left: u32| left.checked_sub(1);
        if self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
        {
            println!(
                "{:34}  audit: {} of {} {}",
                "",
                event.principal,
                event.rpc_method,
                if event.authorized {
                    "allowed"
                } else {
                    "denied"
                },
            );
        }
    }
}
