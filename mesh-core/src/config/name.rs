//! Names of resources.

use std::borrow::Cow;

/// The canonical form of a resource's name: an `xdstp:` name has its context parameters sorted by
/// key and no directives, so that two names are of one resource if and only if they are equal
/// (gRFC A47, xRFC TP1). Any other name is as it is.
pub(crate) fn canonical_name(name: &str) -> Cow<'_, str> {
    if !name.starts_with("xdstp:") {
        return Cow::Borrowed(name);
    }
    let (name_and_query, directives) = match name.split_once('#') {
        Some((rest, _)) => (rest, true),
        None => (name, false),
    };
    let Some((path, query)) = name_and_query.split_once('?') else {
        return match directives {
            true => Cow::Owned(name_and_query.to_owned()),
            false => Cow::Borrowed(name),
        };
    };
    let mut parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
        .collect();
    // Stable: of a key that is repeated, the last one counts, as in any map that is filled in order.
    parameters.sort_by_key(|(key, _)| *key);
    let mut canonical = path.to_owned();
    let mut separator = '?';
    for (index, (key, value)) in parameters.iter().enumerate() {
        if parameters
            .get(index + 1)
            .is_some_and(|(next, _)| next == key)
        {
            continue;
        }
        canonical.push(separator);
        canonical.push_str(key);
        canonical.push('=');
        canonical.push_str(value);
        separator = '&';
    }
    if canonical == name {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(canonical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(&*canonical_name(name), expected);
        assert_eq!(&*canonical_name(expected), expected, "not canonical");
    }

    #[test]
    fn names_of_one_resource_become_equal() {
        let name = "xdstp://a/envoy.config.cluster.v3.Cluster/c";
        check(name, name);
        check(&format!("{name}?"), name);
        check(&format!("{name}#entry=x"), name);
        check(&format!("{name}?z=1&a=2"), &format!("{name}?a=2&z=1"));
        check(&format!("{name}?b=1&a=2&b=3"), &format!("{name}?a=2&b=3"));
        check(&format!("{name}?b&a=2"), &format!("{name}?a=2&b="));
        check(&format!("{name}?b=1&&a=2#d"), &format!("{name}?a=2&b=1"));
    }

    #[test]
    fn plain_names_are_as_they_are() {
        for name in [
            "",
            "a:80",
            "a?b=1&a=2",
            "outbound|80||a",
            "http://x?z=1&a=2#f",
        ] {
            check(name, name);
        }
    }
}
