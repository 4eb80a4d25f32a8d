//! A release day in one process: `cargo run --example quickstart`.
//!
//! An embedded control plane tells a gRPC client where `greeter.shop:8080` is. Five instances of
//! two versions run in two zones while traffic shifts from one version to the other, an instance
//! is drained, another is killed, and the control plane itself goes away and comes back. No call
//! fails.

mod instance;
mod traffic;

use std::{error::Error, time::Duration};

use instance::Instance;
use mesh_core::{
    Code,
    testing::{ControlPlane, Retry, zone},
};
use traffic::Traffic;

const SERVICE: &str = "greeter.shop:8080";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("greeter v1 x3 and v2 x2, in zones a and b, behind {SERVICE}\n");

    // The servers: plain tonic, each in a thread of its own so that it can be killed.
    let mut v1 = Vec::new();
    for (name, in_zone) in [("v1-1", "a"), ("v1-2", "a"), ("v1-3", "b")] {
        v1.push(Instance::start(name, "v1", in_zone)?);
    }
    let mut v2 = Vec::new();
    for (name, in_zone) in [("v2-1", "a"), ("v2-2", "b")] {
        v2.push(Instance::start(name, "v2", in_zone)?);
    }

    // The control plane: what a platform team would keep in Git.
    let control_plane = ControlPlane::start().await;
    let mut service = control_plane.service(SERVICE);
    for (version, weight, instances) in [("v1", 90, &v1), ("v2", 10, &v2)] {
        service = service.version(version).weight(weight);
        for instance in instances {
            service = service.endpoint_in(zone(instance.zone), instance.address);
        }
    }
    service
        .retry(Retry::on([Code::Unavailable]).times(3))
        .apply();

    // The client: this is all that a service needs. Outside of a test it would say
    // `Mesh::from_env().await?`.
    let mesh = control_plane.mesh("quickstart").await;
    let channel = mesh_tonic::channel(&mesh, SERVICE)?;
    let traffic = Traffic::start(channel);

    let split = |v1: u32, v2: u32| {
        control_plane
            .service(SERVICE)
            .split(&[("v1", v1), ("v2", v2)])
            .apply()
    };
    let seen = traffic.act("canary: v2 gets 10 %", 2_000).await?;
    seen.expect_share("v2", 10.0, 5.0)?;

    split(50, 50).acked().await;
    let seen = traffic.act("half: 50/50", 2_000).await?;
    seen.expect_share("v2", 50.0, 8.0)?;

    split(0, 100).acked().await;
    let seen = traffic.act("release: all to v2", 2_000).await?;
    seen.expect_share("v2", 100.0, 0.0)?;

    split(50, 50).acked().await;
    control_plane
        .service(SERVICE)
        .drain(v1[0].address)
        .apply()
        .acked()
        .await;
    let seen = traffic.act("drain v1-1: no new calls", 2_000).await?;
    seen.expect_none_from("v1-1")?;

    control_plane
        .service(SERVICE)
        .restore(v1[0].address)
        .apply()
        .acked()
        .await;
    traffic.answered_by("v1-1").await?;
    traffic.act("restore v1-1", 2_000).await?;

    v2.remove(1).kill();
    let seen = traffic.act("kill v2-2 hard, unannounced", 2_000).await?;
    println!(
        "{:34}  calls that a retry saved: {}",
        "",
        seen.retried(&mesh)
    );

    control_plane.stop().await;
    traffic.act("the control plane is down", 2_000).await?;

    control_plane.restart().await;
    split(100, 0).acked().await;
    let seen = traffic.act("control plane back: all to v1", 2_000).await?;
    seen.expect_none_from("v2-1")?;

    let failed = traffic.stop(Duration::from_secs(5)).await?;
    println!("\nfailed calls: {failed}");
    if failed > 0 {
        return Err("calls failed".into());
    }
    Ok(())
}
