//! Makes a pair that differs as small as it gets: things are taken away one by one for as long as
//! the rest still differs.

use envoy_types::pb::envoy::config::{
    core::v3::HeaderValueOption,
    route::v3::{
        RedirectAction, Route, RouteAction, RouteConfiguration, RouteMatch, route::Action,
        route_action::ClusterSpecifier, route_match::PathSpecifier,
        weighted_cluster::ClusterWeight,
    },
};

use crate::{
    backend::Backends,
    compare::{Found, ask_ours, ask_theirs, differences},
    generate::Asked,
};

/// Of so many candidates at a time Envoy is asked.
const BATCH: usize = 100;

/// The smallest pair that was found, and what both make of it.
pub(crate) async fn shrink(
    backends: &Backends,
    routes: RouteConfiguration,
    found: Found,
) -> (RouteConfiguration, Found) {
    let (mut routes, mut found) = (routes, found);
    'smaller: loop {
        let candidates = candidates(&routes, &found.asked);
        for candidates in candidates.chunks(BATCH) {
            let (batch, requests): (Vec<_>, Vec<_>) = candidates
                .iter()
                .map(|(routes, asked)| (routes.clone(), vec![asked.clone()]))
                .unzip();
            let theirs = ask_theirs(backends, &batch, &requests).await;
            let ours = ask_ours(backends, &batch, &requests).await;
            if let Some(smaller) = differences(&batch, &requests, &theirs, &ours)
                .into_iter()
                .next()
            {
                routes = batch[smaller.number].clone();
                found = smaller;
                continue 'smaller;
            }
        }
        return (routes, found);
    }
}

/// All that is one step smaller, the great steps first.
fn candidates(routes: &RouteConfiguration, asked: &Asked) -> Vec<(RouteConfiguration, Asked)> {
    let mut all = Vec::new();
    let mut smaller = Smaller {
        routes,
        found: Vec::new(),
    };
    smaller.configuration();
    all.extend(smaller.found.into_iter().map(|it| (it, asked.clone())));
    let requests = self::requests(asked);
    all.extend(requests.into_iter().map(|asked| (routes.clone(), asked)));
    all
}

fn requests(asked: &Asked) -> Vec<Asked> {
    let mut all = Vec::new();
    let mut put = |change: &dyn Fn(&mut Asked)| {
        let mut changed = asked.clone();
        change(&mut changed);
        if changed != *asked {
            all.push(changed);
        }
    };
    for at in 0..asked.headers.len() {
        put(&|asked| drop(asked.headers.remove(at)));
    }
    if let Some((path, query)) = asked.path.split_once('?') {
        put(&|asked| path.clone_into(&mut asked.path));
        let pairs: Vec<&str> = query.split('&').collect();
        for at in 0..pairs.len() {
            put(&|asked| {
                let mut pairs = pairs.clone();
                pairs.remove(at);
                asked.path = format!("{path}?{}", pairs.join("&"));
            });
        }
    }
    put(&|asked| "GET".clone_into(&mut asked.method));
    put(&|asked| "a".clone_into(&mut asked.authority));
    put(&|asked| "/".clone_into(&mut asked.path));
    all
}

struct Smaller<'a> {
    routes: &'a RouteConfiguration,
    found: Vec<RouteConfiguration>,
}

impl Smaller<'_> {
    /// Keeps what a change makes, if it is valid and another.
    fn put(&mut self, change: impl FnOnce(&mut RouteConfiguration)) {
        let mut routes = self.routes.clone();
        change(&mut routes);
        if routes != *self.routes {
            self.found.push(routes);
        }
    }

    fn configuration(&mut self) {
        let routes = self.routes;
        for at in 0..routes.virtual_hosts.len() {
            if routes.virtual_hosts.len() > 1 {
                self.put(|routes| drop(routes.virtual_hosts.remove(at)));
            }
        }
        self.put(|routes| routes.most_specific_header_mutations_wins = false);
        self.put(|routes| routes.ignore_port_in_host_matching = false);
        self.changes(
            |it| &mut it.request_headers_to_add,
            |it| &mut it.request_headers_to_remove,
        );
        self.changes(
            |it| &mut it.response_headers_to_add,
            |it| &mut it.response_headers_to_remove,
        );
        for at in 0..routes.virtual_hosts.len() {
            self.host(at);
        }
    }

    /// Lists of changes to headers.
    fn changes(
        &mut self,
        add: impl Fn(&mut RouteConfiguration) -> &mut Vec<HeaderValueOption>,
        remove: impl Fn(&mut RouteConfiguration) -> &mut Vec<String>,
    ) {
        let mut routes = self.routes.clone();
        for at in 0..add(&mut routes).len() {
            self.put(|routes| drop(add(routes).remove(at)));
        }
        for at in 0..remove(&mut routes).len() {
            self.put(|routes| drop(remove(routes).remove(at)));
        }
    }

    fn host(&mut self, number: usize) {
        let host = &self.routes.virtual_hosts[number];
        for at in 0..host.domains.len() {
            if host.domains.len() > 1 {
                self.put(|it| drop(it.virtual_hosts[number].domains.remove(at)));
            }
        }
        for at in 0..host.routes.len() {
            self.put(|it| drop(it.virtual_hosts[number].routes.remove(at)));
        }
        self.changes(
            |it| &mut it.virtual_hosts[number].request_headers_to_add,
            |it| &mut it.virtual_hosts[number].request_headers_to_remove,
        );
        self.changes(
            |it| &mut it.virtual_hosts[number].response_headers_to_add,
            |it| &mut it.virtual_hosts[number].response_headers_to_remove,
        );
        for at in 0..host.routes.len() {
            self.route(number, at);
        }
    }

    fn route(&mut self, host: usize, number: usize) {
        let route = &self.routes.virtual_hosts[host].routes[number];
        self.changes(
            |it| &mut route_of(it, host, number).request_headers_to_add,
            |it| &mut route_of(it, host, number).request_headers_to_remove,
        );
        self.changes(
            |it| &mut route_of(it, host, number).response_headers_to_add,
            |it| &mut route_of(it, host, number).response_headers_to_remove,
        );
        let matcher = route.r#match.clone().unwrap_or_default();
        for at in 0..matcher.headers.len() {
            self.put(|it| drop(match_of(it, host, number).headers.remove(at)));
            self.put(|it| match_of(it, host, number).headers[at].invert_match = false);
            self.put(|it| {
                match_of(it, host, number).headers[at].treat_missing_header_as_empty = false;
            });
        }
        for at in 0..matcher.query_parameters.len() {
            self.put(|it| drop(match_of(it, host, number).query_parameters.remove(at)));
        }
        self.put(|it| match_of(it, host, number).runtime_fraction = None);
        self.put(|it| match_of(it, host, number).case_sensitive = None);
        self.put(|it| {
            let anything = PathSpecifier::Prefix("/".to_owned());
            match_of(it, host, number).path_specifier = Some(anything);
        });
        if let Some(Action::Route(action)) = &route.action {
            self.action(action, host, number);
        }
        if let Some(Action::Redirect(_)) = &route.action {
            self.redirect(host, number);
        }
    }

    fn action(&mut self, action: &RouteAction, host: usize, number: usize) {
        self.put(|it| action_of(it, host, number).prefix_rewrite.clear());
        self.put(|it| action_of(it, host, number).regex_rewrite = None);
        self.put(|it| action_of(it, host, number).host_rewrite_specifier = None);
        self.put(|it| action_of(it, host, number).append_x_forwarded_host = false);
        let Some(ClusterSpecifier::WeightedClusters(weights)) = &action.cluster_specifier else {
            return;
        };
        for (at, cluster) in weights.clusters.iter().enumerate() {
            if cluster.weight.unwrap_or_default().value == 0 {
                self.put(|it| drop(weights_of(it, host, number).remove(at)));
                continue;
            }
            self.put(|it| {
                let name = cluster.name.clone();
                action_of(it, host, number).cluster_specifier =
                    Some(ClusterSpecifier::Cluster(name));
            });
            self.put(|it| weights_of(it, host, number)[at].host_rewrite_specifier = None);
            self.changes(
                |it| &mut weights_of(it, host, number)[at].request_headers_to_add,
                |it| &mut weights_of(it, host, number)[at].request_headers_to_remove,
            );
            self.changes(
                |it| &mut weights_of(it, host, number)[at].response_headers_to_add,
                |it| &mut weights_of(it, host, number)[at].response_headers_to_remove,
            );
        }
    }

    fn redirect(&mut self, host: usize, number: usize) {
        let mut put = |change: fn(&mut RedirectAction)| {
            self.put(|it| {
                if let Some(Action::Redirect(redirect)) = &mut route_of(it, host, number).action {
                    change(redirect);
                }
            });
        };
        put(|it| it.host_redirect.clear());
        put(|it| it.port_redirect = 0);
        put(|it| it.response_code = 0);
        put(|it| it.strip_query = false);
        put(|it| it.scheme_rewrite_specifier = None);
        put(|it| it.path_rewrite_specifier = None);
    }
}

fn route_of(routes: &mut RouteConfiguration, host: usize, number: usize) -> &mut Route {
    &mut routes.virtual_hosts[host].routes[number]
}

fn match_of(routes: &mut RouteConfiguration, host: usize, number: usize) -> &mut RouteMatch {
    let matcher = &mut route_of(routes, host, number).r#match;
    matcher.get_or_insert_default()
}

fn action_of(routes: &mut RouteConfiguration, host: usize, number: usize) -> &mut RouteAction {
    match &mut route_of(routes, host, number).action {
        Some(Action::Route(action)) => action,
        _ => unreachable!("it forwards"),
    }
}

fn weights_of(
    routes: &mut RouteConfiguration,
    host: usize,
    number: usize,
) -> &mut Vec<ClusterWeight> {
    match &mut action_of(routes, host, number).cluster_specifier {
        Some(ClusterSpecifier::WeightedClusters(weights)) => &mut weights.clusters,
        _ => unreachable!("it has weights"),
    }
}
