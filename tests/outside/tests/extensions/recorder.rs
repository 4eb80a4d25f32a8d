//! A recorder.

use std::sync::Arc;

use mesh_core::{
    Code, Mesh,
    telemetry::{Attempt, CallRecord, Instruments, Recorder, Series},
    testing::{ControlPlane, Fault},
};
use orders::INVENTORY;
use parking_lot::Mutex;
use tonic::Status;

use crate::{client, reserve, support::FakeInventory};

/// Writes a line for each call, where metrics would be counted.
#[derive(Debug, Default)]
struct Ledger {
    lines: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Page {
    series: Series,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Recorder for Ledger {
    fn bind(&self, series: &Series) -> Arc<dyn Instruments> {
        Arc::new(Page {
            series: series.clone(),
            lines: Arc::clone(&self.lines),
        })
    }
}

impl Instruments for Page {
    fn started(&self) {}

    fn attempt(&self, _: &Attempt<'_>) {}

    fn finished(&self, call: &CallRecord<'_>) {
        let Series {
            target, cluster, ..
        } = &self.series;
        let (code, cause) = (call.code, call.cause);
        self.lines
            .lock()
            .push(format!("{target} {cluster} {code} {cause}"));
    }
}

#[tokio::test]
async fn a_recorder_of_ones_own() {
    let inventory = FakeInventory::start("north").await;
    let control_plane = ControlPlane::start().await;
    control_plane
        .service(INVENTORY)
        .version("v1")
        .endpoint(inventory.address)
        .apply();
    let ledger = Arc::new(Ledger::default());
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("orders"))
        .recorder(Arc::clone(&ledger) as _)
        .build()
        .await
        .unwrap();
    let mut client = client(&mesh);

    reserve(&mut client).await.unwrap();
    inventory.fail_next(Status::not_found("no such item"));
    reserve(&mut client).await.unwrap_err();
    let fault = Fault::new().abort(Code::Unavailable, 100.0);
    control_plane
        .service(INVENTORY)
        .fault(fault)
        .apply()
        .acked()
        .await;
    reserve(&mut client).await.unwrap_err();

    assert_eq!(
        *ledger.lines.lock(),
        [
            "inventory.shop:8080 inventory.shop:8080/v1 OK response",
            "inventory.shop:8080 inventory.shop:8080/v1 NOT_FOUND response",
            "inventory.shop:8080 inventory.shop:8080/v1 UNAVAILABLE fault",
        ]
    );
    assert_eq!(mesh.metrics().totals().started(), 0);
}
