use std::fmt;

use crate::config::{Fraction, HeaderMatcher, QueryMatch, QueryMatcher, Regex};

/// Told why candidates were passed over.
///
/// `()` is told nothing and costs nothing; [`Explain`] keeps it all.
pub trait Trace {
    /// Route number `route` was looked at and does not take the request: `why` is the first of
    /// its tests that failed. Routes that the path alone rules out by index are not looked at.
    fn rejected(&mut self, route: usize, why: Mismatch<'_>) {
        let _ = (route, why);
    }
}

/// The test that a request failed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Mismatch<'a> {
    /// The draw went against the request.
    Fraction(Fraction),
    /// A header.
    Header(&'a HeaderMatcher),
    /// The path does not match an expression.
    Path(&'a Regex),
    /// A query parameter.
    Query(&'a QueryMatcher),
    /// The route asks for query parameters, which gRPC has not (gRFC A28).
    QueryUnderGrpc,
}

/// Keeps every rejection, for people and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explain {
    /// In the order in which the routes were looked at.
    pub rejections: Vec<Rejection>,
}

/// Why one route did not take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The route's number.
    pub route: usize,
    /// The test that failed, in words.
    pub reason: String,
}

impl Trace for () {}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Fraction(fraction) => {
                write!(f, "the draw for {} per million lost", fraction.parts())
            }
            Mismatch::Header(header) => {
                let not = if header.invert { "not " } else { "" };
                write!(f, "header {} is not {not}{:?}", header.name, header.test)
            }
            Mismatch::Path(regex) => write!(f, "the path does not match {}", regex.as_str()),
            Mismatch::Query(QueryMatcher { name, test }) => match test {
                QueryMatch::Value(value) => write!(f, "query parameter {name} is not {value:?}"),
                QueryMatch::Present(true) => write!(f, "query parameter {name} is absent"),
                QueryMatch::Present(false) => write!(f, "query parameter {name} is there"),
            },
            Mismatch::QueryUnderGrpc => {
                f.write_str("it asks for query parameters, which gRPC calls do not have")
            }
        }
    }
}

impl Trace for Explain {
    fn rejected(&mut self, route: usize, why: Mismatch<'_>) {
        self.rejections.push(Rejection {
            route,
            reason: why.to_string(),
        });
    }
}
