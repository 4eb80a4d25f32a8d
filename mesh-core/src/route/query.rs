use crate::config::{QueryMatch, QueryMatcher};

/// Whether `query` passes. As in Envoy, a parameter's first value counts, and names and values
/// are compared as written, without percent-decoding.
pub(super) fn is_match(matcher: &QueryMatcher, query: Option<&str>) -> bool {
    let found = query.and_then(|query| first(query, &matcher.name));
    match (found, &matcher.test) {
        (found, QueryMatch::Present(wanted)) => found.is_some() == *wanted,
        (None, QueryMatch::Value(_)) => false,
        (Some(found), QueryMatch::Value(value)) => value.is_match(found.as_bytes()),
    }
}

/// The first value of the parameter `name`; empty if it has no `=`.
fn first<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{StringMatch, StringMatcher};

    #[test]
    fn the_first_value_counts_as_written() {
        for (query, name, value) in [
            ("a=1&a=2", "a", Some("1")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("b=a&a=b=c", "a", Some("b=c")),
            ("A=1", "a", None),
            ("aa=1&ba=2", "a", None),
            ("%61=1", "a", None),
            ("a=%31", "a", Some("%31")),
            ("&&a=1&", "a", Some("1")),
            ("", "a", None),
        ] {
            assert_eq!(first(query, name), value, "{query}");
        }
    }

    #[test]
    fn a_parameter_is_asked_to_be_there_or_not_or_to_have_a_value() {
        let mut matcher = QueryMatcher {
            name: "a".to_owned(),
            test: QueryMatch::Present(true),
        };
        let queries = [Some("b=1&a"), Some("a="), Some("b=1"), Some(""), None];
        let matched = |matcher: &QueryMatcher| queries.map(|query| is_match(matcher, query));
        assert_eq!(matched(&matcher), [true, true, false, false, false]);
        matcher.test = QueryMatch::Present(false);
        assert_eq!(matched(&matcher), [false, false, true, true, true]);
        let prefix = StringMatch::Prefix("X".to_owned());
        matcher.test = QueryMatch::Value(StringMatcher::new(prefix, true));
        assert!(is_match(&matcher, Some("a=xY")));
        assert!(!is_match(&matcher, Some("a")));
        assert!(!is_match(&matcher, None));
    }
}
