use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_TYPE, HOST, UPGRADE},
};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// What is left of the caller's time, as Envoy and our own clients say it.
static EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// What the headers of a request say to the server itself: the first value of each that does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(super) content_type: Option<&'a HeaderValue>,
    pub(super) host: Option<&'a HeaderValue>,
    /// There is another `Host`, the same or not.
    pub(super) two_hosts: bool,
    pub(super) upgrade: Option<&'a HeaderValue>,
    pub(super) grpc_timeout: Option<&'a HeaderValue>,
    pub(super) expected: Option<&'a HeaderValue>,
}

// === impl Said ===

impl<'a> Said<'a> {
    /// Up to so many headers, one look at all costs less than one for each of these.
    const FEW: usize = 12;

    #[inline]
    pub(crate) fn by(headers: &'a HeaderMap) -> Self {
        if headers.len() > Self::FEW {
            let mut hosts = headers.get_all(HOST).iter();
            return Self {
                content_type: headers.get(CONTENT_TYPE),
                host: hosts.next(),
                two_hosts: hosts.next().is_some(),
                upgrade: headers.get(UPGRADE),
                grpc_timeout: headers.get(&GRPC_TIMEOUT),
                expected: headers.get(&EXPECTED),
            };
        }
        let mut said = Self::default();
        for (name, value) in headers {
            let place = if *name == CONTENT_TYPE {
                &mut said.content_type
            } else if *name == HOST {
                said.two_hosts = said.host.is_some();
                &mut said.host
            } else if *name == UPGRADE {
                &mut said.upgrade
            } else if *name == GRPC_TIMEOUT {
                &mut said.grpc_timeout
            } else if *name == EXPECTED {
                &mut said.expected
            } else {
                continue;
            };
            place.get_or_insert(value);
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_finds_what_many_would() {
        let names = [
            CONTENT_TYPE,
            UPGRADE,
            GRPC_TIMEOUT.clone(),
            EXPECTED.clone(),
            HOST,
        ];
        for others in [0, 3, Said::FEW, 40] {
            for which in 0..32 {
                let mut headers = HeaderMap::new();
                for other in 0..others {
                    let name = HeaderName::try_from(format!("x-{other}")).unwrap();
                    headers.append(name, other.into());
                }
                let value = |at: usize| (which & 1 << at > 0).then(|| HeaderValue::from(at + 100));
                for (at, name) in names.iter().enumerate() {
                    if let Some(value) = value(at) {
                        headers.append(name, value);
                        headers.append(name, HeaderValue::from_static("later"));
                    }
                }
                let [content_type, upgrade, grpc_timeout, expected, host] =
                    [0, 1, 2, 3, 4].map(value);
                let found = Said {
                    content_type: content_type.as_ref(),
                    upgrade: upgrade.as_ref(),
                    grpc_timeout: grpc_timeout.as_ref(),
                    expected: expected.as_ref(),
                    host: host.as_ref(),
                    two_hosts: host.is_some(),
                };
                assert_eq!(Said::by(&headers), found, "{others} {which:b}");
            }
        }
    }
}
