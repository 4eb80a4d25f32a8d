//! The same policies mean the same to every server: a table of policies, asked about the same
//! requests.

use std::net::{Ipv4Addr, SocketAddr};

use mesh_core::testing::{Permission, Principal, Rbac, Route, ServerListener};
use mesh_peers::{Answer, Call, Side};

use crate::world::{World, call, identity, pairs};

const SERVER: &str = "server";
const PEOPLE: [&str; 2] = ["alice", "bob"];
const METHODS: [&str; 2] = ["/peers.Echo/Read", "/peers.Echo/Write"];
const ROLES: [&[&str]; 3] = [&[], &["admin"], &["admin", "guest"]];

/// What a policy is asked about.
#[derive(Debug, Clone, Copy)]
struct Asked {
    who: &'static str,
    method: &'static str,
    roles: &'static [&'static str],
}

impl Asked {
    fn all(who: &'static str) -> impl Iterator<Item = Self> {
        METHODS.into_iter().flat_map(move |method| {
            ROLES
                .into_iter()
                .map(move |roles| Self { who, method, roles })
        })
    }

    fn call(self) -> Call {
        let call = call().method(self.method);
        let roles = self.roles.iter();
        roles.fold(call, |call, role| call.metadata("x-role", *role))
    }

    fn alice(self) -> bool {
        self.who == "alice"
    }

    fn read(self) -> bool {
        self.method == METHODS[0]
    }

    fn admin(self) -> bool {
        self.roles == ["admin"]
    }
}

/// A policy by name, how a server gets it, and what it is to decide.
struct Policy {
    name: &'static str,
    set: Box<dyn Fn(ServerListener) -> ServerListener>,
    allows: fn(Asked) -> bool,
    /// What our server denies all the same: a header that occurs more than once is ambiguous to
    /// it, and in no reading helps a request that another reading hurts. C-core knows only the
    /// values joined (gRFC A41).
    ambiguous: fn(Asked) -> bool,
}

impl Policy {
    fn ambiguous(self, ambiguous: fn(Asked) -> bool) -> Self {
        Self { ambiguous, ..self }
    }
}

fn policy(
    name: &'static str,
    set: impl Fn(ServerListener) -> ServerListener + 'static,
    allows: fn(Asked) -> bool,
) -> Policy {
    Policy {
        name,
        set: Box::new(set),
        allows,
        ambiguous: |_| false,
    }
}

/// An allow-list of one.
fn allow(
    permission: Permission,
    principal: Principal,
) -> impl Fn(ServerListener) -> ServerListener {
    move |server| {
        let (permission, principal) = (permission.clone(), principal.clone());
        server.rbac(Rbac::allow().policy("only", permission, principal))
    }
}

fn deny(permission: Permission, principal: Principal) -> impl Fn(ServerListener) -> ServerListener {
    move |server| {
        let (permission, principal) = (permission.clone(), principal.clone());
        server.rbac(Rbac::deny().policy("only", permission, principal))
    }
}

fn alice() -> Principal {
    Principal::identity(identity("alice"))
}

fn read() -> Permission {
    Permission::path(METHODS[0])
}

fn policies(address: SocketAddr) -> Vec<Policy> {
    let anything = Permission::any;
    let anybody = Principal::any;
    let port = address.port();
    vec![
        policy("no filter", |server| server, |_| true),
        policy("no rules", |s| s.rbac(Rbac::off()), |_| true),
        policy("log", |s| s.rbac(Rbac::log()), |_| true),
        policy("allow nothing", |s| s.rbac(Rbac::allow()), |_| false),
        policy("deny nothing", |s| s.rbac(Rbac::deny()), |_| true),
        policy("allow alice", allow(anything(), alice()), Asked::alice),
        policy("deny alice", deny(anything(), alice()), |a| !a.alice()),
        policy("allow read", allow(read(), anybody()), Asked::read),
        policy("deny read", deny(read(), anybody()), |a| !a.read()),
        policy("alice reads", allow(read(), alice()), |a| {
            a.alice() && a.read()
        }),
        policy(
            "identity by prefix",
            allow(anything(), Principal::identity_prefix(identity("al"))),
            Asked::alice,
        ),
        policy(
            "identity by expression",
            allow(anything(), Principal::identity_regex(".*/peers[.]test/b.b")),
            |a| !a.alice(),
        ),
        policy(
            "an expression that matches a part",
            allow(anything(), Principal::identity_regex("alice")),
            |_| false,
        ),
        policy(
            "whoever is authenticated",
            allow(anything(), Principal::authenticated()),
            |_| true,
        ),
        policy("not alice", allow(anything(), alice().negated()), |a| {
            !a.alice()
        }),
        policy(
            "paths by prefix",
            allow(Permission::path_prefix("/peers.Echo/Re"), anybody()),
            Asked::read,
        ),
        policy(
            "paths by expression",
            allow(Permission::path_regex("/.*/W[a-z]+"), anybody()),
            |a| !a.read(),
        ),
        policy("not read", allow(read().negated(), anybody()), |a| {
            !a.read()
        }),
        policy(
            "a header, whole",
            allow(Permission::header("x-role", "admin"), anybody()),
            Asked::admin,
        ),
        policy(
            "a header, joined",
            allow(Permission::header("x-role", "admin,guest"), anybody()),
            |a| a.roles.len() == 2,
        )
        .ambiguous(|a| a.roles.len() == 2),
        policy(
            "deny a header",
            deny(Permission::header("x-role", "admin"), anybody()),
            |a| !a.admin(),
        )
        .ambiguous(|a| a.roles.len() == 2),
        policy(
            "a header of the client's",
            allow(anything(), Principal::header("x-role", "admin")),
            Asked::admin,
        ),
        policy(
            "no header",
            allow(Permission::header_present("x-role", false), anybody()),
            |a| a.roles.is_empty(),
        ),
        policy(
            "the authority",
            allow(Permission::header(":authority", "greeter"), anybody()),
            |_| true,
        ),
        policy(
            "the host is the authority",
            allow(Permission::header("host", "greeter"), anybody()),
            |_| true,
        ),
        policy(
            "the HTTP method",
            allow(Permission::header(":method", "POST"), anybody()),
            |_| true,
        ),
        policy(
            "alice or the admin",
            allow(
                anything(),
                Principal::one([alice(), Principal::header("x-role", "admin")]),
            ),
            |a| a.alice() || a.admin(),
        ),
        policy(
            "alice, the admin",
            allow(
                anything(),
                Principal::all([alice(), Principal::header("x-role", "admin")]),
            ),
            |a| a.alice() && a.admin(),
        ),
        policy(
            "read, or as an admin",
            allow(
                Permission::one([read(), Permission::header("x-role", "admin")]),
                anybody(),
            ),
            |a| a.read() || a.admin(),
        ),
        policy(
            "not read as an admin",
            allow(
                Permission::all([read(), Permission::header("x-role", "admin")]).negated(),
                anybody(),
            ),
            |a| !(a.read() && a.admin()),
        )
        .ambiguous(|a| a.read() && a.roles.len() == 2),
        policy(
            "from here",
            allow(anything(), Principal::source_ip(Ipv4Addr::LOCALHOST, 8)),
            |_| true,
        ),
        policy(
            "from elsewhere",
            allow(
                anything(),
                Principal::source_ip(Ipv4Addr::new(10, 0, 0, 0), 8),
            ),
            |_| false,
        ),
        policy(
            "to here",
            allow(
                Permission::all([
                    Permission::destination_ip(Ipv4Addr::LOCALHOST, 32),
                    Permission::destination_port(port),
                ]),
                anybody(),
            ),
            |_| true,
        ),
        policy(
            "to another port",
            allow(Permission::destination_port(port ^ 1), anybody()),
            |_| false,
        ),
        policy(
            "two policies",
            |server| {
                let rbac = Rbac::allow()
                    .policy("readers", read(), Principal::any())
                    .policy("alice", Permission::any(), alice());
                server.rbac(rbac)
            },
            |a| a.alice() || a.read(),
        ),
        policy(
            "two filters",
            |server| {
                let deny = Rbac::deny().policy("read", read(), Principal::any());
                let allow = Rbac::allow().policy("alice", Permission::any(), alice());
                // The probe's override is of the filter of this name.
                let probe = Permission::path_prefix("/peers.Echo/Probe");
                let allow = allow.policy("probe", probe, Principal::any());
                server.rbac_filter("deny", deny).rbac_filter("allow", allow)
            },
            |a| a.alice() && !a.read(),
        ),
        policy(
            "a route without rules",
            |server| {
                let free = Route::path(METHODS[0]).rbac(Rbac::off());
                server.rbac(Rbac::allow()).route(free)
            },
            Asked::read,
        ),
        policy(
            "a route with others",
            |server| {
                let own = Rbac::deny().policy("alice", Permission::any(), alice());
                server
                    .rbac(Rbac::allow())
                    .route(Route::path(METHODS[0]).rbac(own))
            },
            |a| a.read() && !a.alice(),
        ),
        policy(
            "a route by header",
            |server| {
                let admin = Route::prefix("/").header("x-role", "admin");
                server.rbac(Rbac::allow()).route(admin.rbac(Rbac::off()))
            },
            Asked::admin,
        ),
    ]
}

/// Puts each policy in force, and asks the server about everything.
async fn decisions(client: Side, side: Side) {
    let world = World::start().await;
    let _files = [world.node("alice"), world.node("bob"), world.node(SERVER)];
    let server = world.server(side, SERVER).await;
    let address = server.address();
    let mut clients = [
        world.client(client, PEOPLE[0]).await,
        world.client(client, PEOPLE[1]).await,
    ];
    world.mutual_tls(SERVER, address);
    for (number, policy) in policies(address).iter().enumerate() {
        // What no version before had a route for shows that this one is in force.
        let probe = format!("/peers.Echo/Probe{number}");
        let server = world.control_plane.server(address).inline_routes(true);
        let server = server.clear_http_filters().clear_routes();
        let server = server
            .only_routes(true)
            .route(Route::path(&probe).rbac(Rbac::off()));
        let rest = METHODS.into_iter().map(Route::path);
        let server = rest.fold((policy.set)(server), ServerListener::route);
        server.apply();
        for (client, who) in clients.iter_mut().zip(PEOPLE) {
            let probe = call().method(&probe).wait_for_ready();
            let passes = |answers: &[Answer]| answers.iter().all(Result::is_ok);
            client.until(&probe, policy.name, passes).await;
            for asked in Asked::all(who) {
                let decided = match client.once(&asked.call()).await {
                    Ok(_) => true,
                    Err(failure) if failure.code == "PERMISSION_DENIED" => false,
                    Err(failure) => panic!("{}: {asked:?}: {failure:?}", policy.name),
                };
                let ambiguous = side == Side::Ours && (policy.ambiguous)(asked);
                let expected = (policy.allows)(asked) && !ambiguous;
                assert_eq!(decided, expected, "{}: {asked:?}", policy.name);
            }
        }
    }
}

pairs!(decisions);
