//! A release day in one process: `cargo run --example quickstart`.
//!
//! An embedded control plane tells a gRPC client where `greeter.shop:8080` is, and its servers who
//! may call them. Five instances of two versions run in two zones, and ask a catalog over plain HTTP
//! at every call; all speak mTLS with SPIFFE identities from an embedded certificate authority. The
//! way of one call is shown, with who called whom and how much time was left. Traffic shifts from one version to the
//! other, an instance is drained, another is killed, every certificate and then the root is
//! replaced, a caller is denied and let in again, and the control plane itself goes away and comes
//! back: meanwhile a new client starts, and serves. No call fails. What Prometheus would scrape of the
//! client is served meanwhile, with `--stay` for as long as you like, and the golden signals of all
//! services are a table in the end.

mod audit;
mod catalog;
mod chain;
mod golden;
mod identities;
mod instance;
mod newcomer;
mod traffic;

use std::{collections::BTreeMap, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use audit::Audit;
use catalog::Catalog;
use golden::Golden;
use identities::Identities;
use instance::{Instance, Planned};
use mesh_core::{
    Code, Mesh,
    authz::AuditCondition,
    testing::{
        ControlPlane, Endpoint, ListenerTls, Permission, Principal, Rbac, Retry, SanMatch, Tls,
        zone,
    },
};
use newcomer::Saved;
use traffic::Traffic;

const SERVICE: &str = "greeter.shop:8080";
const GREETER: &str = "spiffe://shop.example/ns/shop/sa/greeter";
const CATALOG: &str = "spiffe://shop.example/ns/shop/sa/catalog";
const WEB: &str = "spiffe://shop.example/ns/shop/sa/web";
/// The certificate provider of all bootstraps.
const PROVIDER: &str = "default";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some(newcomer::ARGUMENT) {
        return newcomer::run().await;
    }
    println!("greeter v1 x3 and v2 x2, in zones a and b, behind {SERVICE}");
    println!("which ask {} over plain HTTP", catalog::SERVICE);
    println!("all mTLS: {WEB} calls {GREETER},");
    println!("which calls {CATALOG}\n");

    // The certificate authority, and the control plane: what a platform team runs.
    let mut identities = Identities::start().await;
    let control_plane = ControlPlane::start().await;
    let named = |id| identities.authority.config().spiffe_id(id);
    control_plane.certificate_provider(PROVIDER, named(GREETER));
    let web = control_plane.view("web");
    web.certificate_provider(PROVIDER, named(WEB));
    let store = control_plane.view("catalog");
    store.certificate_provider(PROVIDER, named(CATALOG));

    let v1 = [("v1-1", "a"), ("v1-2", "a"), ("v1-3", "b")];
    let v2 = [("v2-1", "a"), ("v2-2", "b")];
    let plan = |version, instances: &[(&'static str, &'static str)]| {
        let planned = instances.iter();
        let planned = planned.map(move |(name, zone)| Planned::new(name, version, zone));
        planned.collect::<Result<Vec<_>, _>>()
    };
    let (v1, v2) = (plan("v1", &v1)?, plan("v2", &v2)?);
    let addresses: Vec<SocketAddr> = v1
        .iter()
        .chain(&v2)
        .map(|planned| planned.address)
        .collect();

    // What a platform team would keep in Git: where the service is and whom to find there...
    let mut service = control_plane.service(SERVICE);
    for (version, weight, instances) in [("v1", 90, &v1), ("v2", 10, &v2)] {
        service = service.version(version).weight(weight).tls(
            Tls::trust(PROVIDER)
                .present(PROVIDER)
                .san(SanMatch::uri(GREETER)),
        );
        for instance in instances {
            let endpoint = Endpoint::new(instance.address)
                .locality(zone(instance.zone))
                .workload(golden::at_endpoint("greeter", version));
            service = service.endpoint(endpoint);
        }
    }
    service
        .retry(Retry::on([Code::Unavailable]).times(3))
        .apply();
    // ...and who may call it.
    let allow = |who: &str| {
        Rbac::allow()
            .policy("callers", Permission::any(), Principal::identity(who))
            .audited(AuditCondition::OnDeny)
    };
    for &address in &addresses {
        control_plane
            .server(address)
            .tls(ListenerTls::present(PROVIDER).require_client(PROVIDER))
            .rbac(allow(WEB))
            .apply();
    }

    // The catalog is another service of HTTP, whom only greeters may call.
    let (listener, address) = catalog::listen().await?;
    let found = Tls::trust(PROVIDER)
        .present(PROVIDER)
        .san(SanMatch::uri(CATALOG));
    control_plane
        .service(catalog::SERVICE)
        .tls(found)
        .endpoint(Endpoint::new(address).workload(golden::at_endpoint("catalog", "v1")))
        .retry(Retry::conditions(["connect-failure", "refused-stream", "reset"]).times(3))
        .apply();
    control_plane
        .server(address)
        .tls(ListenerTls::present(PROVIDER).require_client(PROVIDER))
        .rbac(allow(GREETER))
        .apply();
    let mesh = control_plane.mesh("catalog").await;
    identities.add(&mesh);
    let mut catalog = Catalog::start(&mesh, listener);

    // The servers, each in a thread of its own so that it can be killed.
    let audit = Arc::new(Audit::default());
    let mut running = BTreeMap::new();
    for planned in v1.into_iter().chain(v2) {
        let name = planned.name;
        let bootstrap = control_plane.bootstrap(name);
        let instance = planned.start(bootstrap, &audit).await?;
        identities.add(&instance.mesh);
        running.insert(name, instance);
    }

    // The client: this is all that a service needs. Outside of a test it would say
    // `Mesh::from_env().await?`.
    let saved = Saved::new();
    let mesh = Mesh::builder()
        .bootstrap(control_plane.bootstrap("web"))
        .workload(golden::workload("web", "v1"))
        .snapshot(saved.options())
        .build()
        .await?;
    let channel = mesh_tonic::channel(&mesh, SERVICE)?;
    identities.add(&mesh);
    let mut golden = Golden::start(&mesh).await?;
    for instance in running.values() {
        golden.add(&instance.mesh);
    }
    let traffic = Traffic::start(channel.clone());

    chain::act(channel, &mut catalog).await?;

    let split = |v1: u32, v2: u32| {
        control_plane
            .service(SERVICE)
            .split(&[("v1", v1), ("v2", v2)])
            .apply()
    };
    let seen = traffic.act("canary: v2 gets 10 %", 1_000).await?;
    seen.expect_share("v2", 10.0, 5.0)?;

    split(50, 50).acked_by("web").await;
    let seen = traffic.act("half: 50/50", 1_000).await?;
    seen.expect_share("v2", 50.0, 8.0)?;

    split(0, 100).acked_by("web").await;
    let seen = traffic.act("release: all to v2", 1_000).await?;
    seen.expect_share("v2", 100.0, 0.0)?;

    let address = |instance: &Instance| instance.address;
    let first = running.get("v1-1").map(address).ok_or("v1-1 runs")?;
    split(50, 50).acked_by("web").await;
    control_plane
        .service(SERVICE)
        .drain(first)
        .apply()
        .acked_by("web")
        .await;
    let seen = traffic.act("drain v1-1: no new calls", 1_000).await?;
    seen.expect_none_from("v1-1")?;

    control_plane
        .service(SERVICE)
        .restore(first)
        .apply()
        .acked_by("web")
        .await;
    traffic.answered_by("v1-1").await?;
    traffic.act("restore v1-1", 1_000).await?;

    let renewed = identities.renewed().await?;
    traffic.act("every certificate rotated", 1_000).await?;
    println!("{:34}  certificates replaced: {renewed}", "");

    identities.rotate_root().await?;
    traffic.act("the root rotated, too", 1_000).await?;

    let policy = async |who: &str| {
        for &address in &addresses {
            let server = control_plane.server(address);
            server.rbac(allow(who)).apply().acked().await;
        }
    };
    audit.listen();
    traffic.expect_denials(true);
    policy("spiffe://shop.example/ns/shop/sa/billing").await;
    let seen = traffic.act("policy: web may not call", 500).await?;
    seen.expect_denied(true)?;

    policy(WEB).await;
    let seen = traffic.act("policy: web may call again", 1_000).await?;
    seen.expect_denied(false)?;
    traffic.expect_denials(false);

    let killed = running.remove("v2-2").ok_or("v2-2 runs")?;
    identities.remove("v2-2");
    killed.kill();
    let seen = traffic.act("kill v2-2 hard, unannounced", 1_000).await?;
    println!(
        "{:34}  calls that a retry saved: {}",
        "",
        seen.retried(&mesh)
    );

    control_plane.stop().await;
    traffic.act("the control plane is down", 1_000).await?;
    saved.start(&mesh, web.bootstrap_json("web")).await?;

    control_plane.restart().await;
    split(100, 0).acked_by("web").await;
    let seen = traffic.act("control plane back: all to v1", 1_000).await?;
    seen.expect_none_from("v2-1")?;

    if std::env::args().nth(1).as_deref() == Some(golden::STAY) {
        golden.stay().await?;
    }
    golden.print().await;

    let (failed, denied) = traffic.stop(Duration::from_secs(5)).await?;
    println!("\ndenied by policy: {denied}");
    println!("failed calls: {failed}");
    if failed > 0 {
        return Err("calls failed".into());
    }
    Ok(())
}
