//! A control plane that goes away before it has sent all of a change.

use mesh_core::{
    config::Kind,
    testing::{ControlPlane, cluster_name},
};
use mesh_tests::{
    backend::Backend,
    eventually, every_way,
    load::{Load, until_success},
    way::Way,
};

use crate::SERVICE;

/// The routes lead to a cluster of which one part is missing: what was in force goes on, no call
/// fails, and the change comes into force when the control plane is back and has sent the rest.
async fn a_change_in_pieces_changes_nothing(way: Way) {
    for missing in [Kind::Cluster, Kind::Endpoints] {
        let control_plane = ControlPlane::start().await;
        // Of a cluster, a server of the incremental protocol says that there is none: an answer.
        if missing == Kind::Cluster && control_plane.features().delta {
            continue;
        }
        let (old, new) = (Backend::start("old").await, Backend::start("new").await);
        let service = || way.of(control_plane.service(SERVICE));
        service().version("v1").endpoint(old.address()).apply();
        let mesh = control_plane.mesh("client").await;
        let channel = way.caller(&mesh, SERVICE);
        assert_eq!(until_success(&channel).await, "old");
        let load = Load::start(&channel, 2);

        let next = cluster_name(SERVICE, "next");
        control_plane.hold();
        let split = [("v1", 0), ("next", 100)];
        let change = service().version("next").endpoint(new.address());
        change.split(&split).apply();
        control_plane.remove(missing, &next);
        control_plane.release();
        control_plane
            .until("the missing part is asked for", |plane| {
                plane.subscriptions(missing).contains(&next)
            })
            .await;
        control_plane.stop().await;
        let trouble = || mesh.targets().into_iter().find_map(|target| target.trouble);
        let trouble = eventually(trouble, || "no trouble".into()).await;
        assert!(trouble.text.contains("out of reach"), "{trouble}");
        load.more(100).await;
        let seen = load.take();
        seen.assert_no_failure();
        assert_eq!(seen.from("new"), 0);

        control_plane.restart().await;
        let change = service().version("next").endpoint(new.address());
        change.split(&split).apply();
        load.until("the change", |seen| seen.from("new") > 0).await;
        load.stop().await.assert_no_failure();
    }
}

every_way!(tokio::test(flavor = "multi_thread", worker_threads = 2);
    a_change_in_pieces_changes_nothing,
);
