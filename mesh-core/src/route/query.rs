use crate::config::QueryMatcher;

/// Whether `query` passes. As in Envoy, a parameter's first value counts, and names and values
/// are compared as written, without percent-decoding.
pub(super) fn is_match(matcher: &QueryMatcher, query: Option<&str>) -> bool {
    let found = query.and_then(|query| first(query, &matcher.name));
    match (found, &matcher.value) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(found), Some(value)) => value.is_match(found.as_bytes()),
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
    fn a_matcher_without_a_value_asks_for_presence() {
        let mut matcher = QueryMatcher {
            name: "a".to_owned(),
            value: None,
        };
        assert!(is_match(&matcher, Some("b=1&a")));
        assert!(!is_match(&matcher, Some("b=1")));
        assert!(!is_match(&matcher, None));
        let prefix = StringMatch::Prefix("X".to_owned());
        matcher.value = Some(StringMatcher::new(prefix, true));
        assert!(is_match(&matcher, Some("a=xY")));
        assert!(!is_match(&matcher, Some("a")));
        assert!(!is_match(&matcher, None));
    }
}
