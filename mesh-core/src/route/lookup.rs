use http::{HeaderMap, HeaderName, HeaderValue};

/// The first value of the header called `name`.
///
/// As [`HeaderMap::get`], but for the few headers that most requests have a comparison with each is
/// several times cheaper than hashing the name.
#[inline]
pub fn first_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    const FEW: usize = 8;
    if headers.len() > FEW {
        return headers.get(name);
    }
    headers
        .iter()
        .find_map(|(other, value)| (other == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_the_map_does() {
        let name = |number: usize| HeaderName::try_from(format!("x-{number}")).unwrap();
        for size in 0..20 {
            let mut headers = HeaderMap::new();
            for number in 0..size {
                headers.append(name(number % 7), HeaderValue::from(number));
            }
            for number in 0..8 {
                let name = name(number);
                assert_eq!(first_value(&headers, &name), headers.get(&name));
            }
        }
    }
}
