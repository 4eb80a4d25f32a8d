use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rustls::RootCertStore;
use tokio::task::{AbortHandle, spawn_blocking};

use super::{Publisher, Roots, Trust, Watched};

/// Time between two readings.
const REFRESH: Duration = Duration::from_secs(3600);

/// The roots of the operating system (gRFC A82), read again each hour while they are in use.
#[derive(Debug, Default)]
pub(super) struct SystemRoots(Mutex<Weak<Reading>>);

#[derive(Debug)]
struct Reading {
    trust: Arc<Publisher<Trust>>,
    task: AbortHandle,
}

// === impl SystemRoots ===

impl SystemRoots {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn watch(&self) -> Watched<Trust> {
        let mut running = self.0.lock();
        let reading = running.upgrade().unwrap_or_else(|| {
            let trust = Arc::new(Publisher::new());
            let task = tokio::spawn(read(Arc::clone(&trust))).abort_handle();
            let reading = Arc::new(Reading { trust, task });
            *running = Arc::downgrade(&reading);
            reading
        });
        reading.trust.watch(Arc::clone(&reading))
    }
}

async fn read(trust: Arc<Publisher<Trust>>) {
    let mut last = Vec::new();
    loop {
        match spawn_blocking(rustls_native_certs::load_native_certs).await {
            // A look that finds nothing where there was something is not believed.
            Ok(loaded) if loaded.certs.is_empty() => {
                let errors: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
                trust.trouble(format!(
                    "the operating system has no trusted roots; install them ({})",
                    errors.join("; ")
                ));
            }
            Ok(loaded) if loaded.certs == last => {}
            Ok(loaded) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(loaded.certs.iter().cloned());
                last = loaded.certs;
                if roots.is_empty() {
                    trust.trouble("none of the operating system's trusted roots can be used");
                } else {
                    trust.publish(Arc::new(Trust::Roots(Roots(Arc::new(roots)))));
                }
            }
            Err(error) => trust.trouble(format!(
                "cannot load the operating system's trusted roots: {error}"
            )),
        }
        tokio::time::sleep(REFRESH).await;
    }
}

// === impl Reading ===

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}
