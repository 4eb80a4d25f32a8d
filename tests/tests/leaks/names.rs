//! Targets over aggregate clusters, and over clusters whose endpoints are looked up by name.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use mesh_core::{
    Mesh,
    testing::{ControlPlane, Hosts},
};
use mesh_tests::{alone, backend::Backend};

use crate::{Usage, client, heap, request, service};

/// Targets that come and go at once.
const BATCH: usize = 10;

#[test]
fn a_thousand_aggregates_and_names_leave_nothing() {
    alone(async {
        const TARGETS: usize = 1_000;
        const WARM_UP: usize = 200;
        const SLACK: i64 = 64 << 10;

        let control_plane = ControlPlane::start().await;
        let backend = Backend::start("one").await;
        let hosts = Hosts::new();
        hosts.set("leaf.test", [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let mesh = Mesh::builder()
            .bootstrap(control_plane.bootstrap("leaks"))
            .resolver(Arc::new(hosts.clone()))
            .build()
            .await
            .expect("a given bootstrap is all that a mesh needs");
        let port = backend.address().port();
        let leaf = |name: &str| control_plane.service(name);
        leaf("empty").version("").apply();
        leaf("lost").strict_dns("lost.test", port).apply();
        leaf("logical").logical_dns("leaf.test", port).apply();
        leaf("strict").strict_dns("leaf.test", port).apply();
        leaf("inner")
            .aggregate(["empty", "lost", "logical"])
            .apply();
        let targets: Vec<_> = (0..BATCH)
            .map(|number| format!("target-{number}"))
            .collect();
        for (number, target) in targets.iter().enumerate() {
            match number % 5 {
                0 => leaf(target).logical_dns("leaf.test", port).apply(),
                1 => leaf(target).strict_dns("leaf.test", port).apply(),
                2 => leaf(target).aggregate(["strict"]).apply(),
                _ => leaf(target).aggregate(["inner", "strict"]).apply(),
            };
        }
        service(&control_plane, "kept", &backend).apply();
        let mut kept = client(&mesh, "kept");
        kept.unary(request()).await.expect("the kept target works");

        let usage = Usage::now(&control_plane, &backend);
        let come_and_go = async |times: usize| {
            for _ in (0..times).step_by(BATCH) {
                let clients = targets.iter().map(|target| client(&mesh, target));
                for mut client in clients.collect::<Vec<_>>() {
                    client.unary(request()).await.expect("it is served");
                }
                usage.is_back(&control_plane, &backend).await;
                control_plane.clear_log();
            }
            heap()
        };
        let before = come_and_go(WARM_UP).await;
        let looked_up = hosts.lookups("leaf.test");
        let after = come_and_go(TARGETS).await;
        assert!(
            hosts.lookups("leaf.test") >= looked_up + (TARGETS / BATCH) as u64,
            "each time anew"
        );
        let grown = after - before;
        assert!(grown < SLACK, "{grown} bytes more after {TARGETS} targets");
        assert_eq!(mesh.targets().len(), 1);
        let counts = mesh.metrics().totals();
        assert_eq!((counts.failed(), counts.in_flight()), (0, 0));
        kept.unary(request()).await.expect("the kept target works");
    });
}
