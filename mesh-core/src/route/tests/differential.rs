//! Tables against the reference on generated routes and requests, small enough to collide often.

use fastrand::Rng;

use super::{
    reference::{Request, Verdict, verdict},
    *,
};

const NAMES: [&str; 12] = [
    "x",
    "x",
    "y",
    "x-bin",
    "content-type",
    "te",
    "grpc-timeout",
    "host",
    ":path",
    ":method",
    ":authority",
    ":scheme",
];
const VALUES: [&str; 10] = [
    "",
    "a",
    "A",
    "ab",
    "Ab,a",
    "1",
    "-5",
    "10",
    "1,1",
    "application/grpc",
];
const QUERIES: [&str; 9] = [
    "", "a", "a=", "a=1", "a=1&a=2", "b&a=A", "A=1", "b=a=1", "&b=ab&",
];

/// Expressions are slow to compile: one set for all tables.
struct Generator {
    rng: Rng,
    paths: Vec<Regex>,
    values: Vec<Regex>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let compile = |sources: &[&str]| sources.iter().map(|s| Regex::new(s).unwrap()).collect();
        Self {
            rng: Rng::with_seed(seed),
            paths: compile(&["/a.*", "/[ab]", ".*", "/A/b", "(?i)/ab?", "a|/b", ""]),
            values: compile(&["a+", ".*", "[0-9]", "", "(?i)ab|1,1"]),
        }
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())]
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        if !self.chance(5) {
            path.push('/');
        }
        for _ in 0..self.rng.usize(0..5) {
            path.push(self.one(&['a', 'a', 'A', 'b', 'B', '/']));
        }
        path
    }

    fn path_matcher(&mut self) -> PathMatcher {
        let path = self.path();
        match self.rng.u8(0..10) {
            0..3 => super::path(&path),
            3..5 => path_ignoring_case(&path),
            5..8 => prefix(&path),
            8 => prefix_ignoring_case(&path),
            _ => PathMatcher::Regex(self.paths[self.rng.usize(0..self.paths.len())].clone()),
        }
    }

    fn string_matcher(&mut self) -> StringMatcher {
        let value = self.one(&VALUES).to_owned();
        let pattern = match self.rng.u8(0..5) {
            0 => StringMatch::Exact(value),
            1 => StringMatch::Prefix(value),
            2 => StringMatch::Suffix(value),
            3 => StringMatch::Contains(value),
            _ => StringMatch::Regex(self.values[self.rng.usize(0..self.values.len())].clone()),
        };
        StringMatcher::new(pattern, self.chance(40))
    }

    fn header_matcher(&mut self) -> HeaderMatcher {
        let test = match self.rng.u8(0..5) {
            0 => HeaderMatch::Present(self.chance(50)),
            1 => HeaderMatch::Range {
                start: self.one(&[i64::MIN, -5, 0, 1]),
                end: self.one(&[0, 1, 2, 10, 11, i64::MAX]),
            },
            _ => HeaderMatch::Value(self.string_matcher()),
        };
        HeaderMatcher {
            name: self.one(&NAMES).to_owned(),
            test,
            invert: self.chance(30),
            treat_missing_as_empty: self.chance(20),
        }
    }

    fn route(&mut self) -> Route {
        let mut route = route(self.path_matcher());
        while self.chance(25) {
            let header = self.header_matcher();
            route.matcher.headers.push(header);
        }
        while self.chance(15) {
            let test = match self.rng.u8(0..10) {
                0..3 => QueryMatch::Present(true),
                3..5 => QueryMatch::Present(false),
                _ => QueryMatch::Value(self.string_matcher()),
            };
            let name = self.one(&["a", "b"]).to_owned();
            route.matcher.query.push(QueryMatcher { name, test });
        }
        if self.chance(15) {
            let parts = self.one(&[0, Fraction::WHOLE]);
            route.matcher.fraction = Some(Fraction::per_million(parts));
        }
        route
    }

    fn routes(&mut self) -> Vec<Route> {
        let n = if self.chance(3) {
            100
        } else {
            self.rng.usize(0..12)
        };
        (0..n).map(|_| self.route()).collect()
    }

    fn request(&mut self) -> Request {
        let mut request = Request {
            method: self.one(&["GET", "POST", "a"]),
            scheme: self.one(&["http", "https"]),
            authority: self.one(&["a", "Ab", "1"]).to_owned(),
            path: self.path(),
            query: self.chance(50).then(|| self.one(&QUERIES).to_owned()),
            headers: Vec::new(),
        };
        while self.chance(60) {
            // Pseudo-headers cannot be among the headers.
            let name = self.one(&NAMES[..8]);
            request.headers.push((name, self.one(&VALUES)));
        }
        request
    }
}

#[test]
fn tables_agree_with_the_reference_on_200_000_cases() {
    let (tables, requests) = (10_000, 10);
    let mut generator = Generator::new(0x6d65_7368);
    let (mut matched, mut rejected) = (0, 0);
    for _ in 0..tables {
        let routes = generator.routes();
        let compiled = [Semantics::Grpc, Semantics::Http].map(|s| Table::compile(s, &routes));
        for _ in 0..requests {
            let request = generator.request();
            let method = Method::from_bytes(request.method.as_bytes()).unwrap();
            let mut headers = HeaderMap::new();
            for &(name, value) in &request.headers {
                headers.append(name, HeaderValue::from_static(value));
            }
            let head = Head {
                method: &method,
                scheme: request.scheme,
                authority: &request.authority,
                path: &request.path,
                query: request.query.as_deref(),
                headers: &headers,
            };
            for table in &compiled {
                let mut expected = None;
                let mut rejections = Vec::new();
                for (number, route) in routes.iter().enumerate() {
                    match verdict(table.semantics(), route, &request) {
                        Verdict::Match => {
                            expected = Some(number);
                            break;
                        }
                        Verdict::OtherPath => {}
                        Verdict::Rejected(reason) => rejections.push(Rejection {
                            route: number,
                            reason,
                        }),
                    }
                }
                let mut explain = Explain::default();
                let found = table.find(&head, &mut explain);
                let context = || format!("{:?}: {request:?} in {routes:#?}", table.semantics());
                assert_eq!(found, expected, "{}", context());
                assert_eq!(explain.rejections, rejections, "{}", context());
                matched += usize::from(found.is_some());
                rejected += rejections.len();
            }
        }
    }
    // The generator must keep reaching both outcomes.
    let cases = 2 * tables * requests;
    assert!((cases / 4..cases * 3 / 4).contains(&matched), "{matched}");
    assert!(rejected > cases / 2, "{rejected}");
}
