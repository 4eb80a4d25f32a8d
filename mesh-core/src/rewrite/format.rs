use std::{borrow::Cow, io::Write, sync::LazyLock, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

use super::{RequestCx, time};
use crate::config::{Address, FormatOperator, FormatPart, HeaderFormat, TimeFormat};

/// A header's value, compiled. `O` are the operators whose value only a call knows.
#[derive(Debug)]
pub(super) enum Format<O> {
    Constant(HeaderValue),
    Parts(Box<[Part<O>]>),
}

#[derive(Debug)]
pub(super) enum Part<O> {
    Text(String),
    Operator(O),
}

/// What is known when a route is compiled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) cluster: &'a str,
    pub(super) route: &'a str,
}

/// An operator that a request answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RequestOperator {
    Field(Field),
    Protocol,
    RemoteAddress { port: bool },
    LocalAddress { port: bool },
    RemotePort,
    LocalPort,
    PeerUris,
    PeerSubject,
    StartTime(Option<TimeFormat>),
}

/// An operator that a response answers.
#[derive(Debug)]
pub(super) enum ResponseOperator {
    Field(Field),
    Status,
    Endpoint,
    /// What was remembered of the request under this number.
    Remembered(usize),
}

/// A header, or the one in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    name: Option<Name>,
    alternative: Option<Name>,
    max_length: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Name {
    Authority,
    Method,
    Path,
    Scheme,
    Status,
    Header(HeaderName),
}

/// The request that is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) scheme: &'a str,
    pub(super) authority: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) cx: RequestCx<'a>,
}

/// The response that is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) status: StatusCode,
    pub(super) endpoint: Option<&'a Address>,
    pub(super) remembered: &'a [Vec<u8>],
}

// === impl Format ===

impl<O> Format<O> {
    /// Compiles `format`; `operator` says what a call's operators become. One of which it makes
    /// nothing yields nothing.
    pub(super) fn compile(
        format: &HeaderFormat,
        known: &Known<'_>,
        mut operator: impl FnMut(&FormatOperator) -> Option<O>,
    ) -> Self {
        let mut parts = Vec::new();
        for part in &*format.0 {
            let text = match part {
                FormatPart::Text(text) => Cow::Borrowed(&**text),
                FormatPart::Operator(of) => match known.text(of) {
                    Some(text) => text,
                    None => {
                        parts.extend(operator(of).map(Part::Operator));
                        continue;
                    }
                },
            };
            match parts.last_mut() {
                Some(Part::Text(before)) => before.push_str(&text),
                _ => parts.push(Part::Text(text.into_owned())),
            }
        }
        let constant = match &*parts {
            [] => Some(""),
            [Part::Text(text)] => Some(&**text),
            _ => None,
        };
        match constant.map(|text| HeaderValue::from_bytes(text.as_bytes())) {
            Some(Ok(constant)) => Self::Constant(constant),
            _ => Self::Parts(parts.into()),
        }
    }

    /// The value, with what `write` makes of operators. `None`: it cannot stand in a header.
    pub(super) fn value(&self, mut write: impl FnMut(&O, &mut Vec<u8>)) -> Option<HeaderValue> {
        let parts = match self {
            Self::Constant(constant) => return Some(constant.clone()),
            Self::Parts(parts) => parts,
        };
        let mut value = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                Part::Operator(operator) => write(operator, &mut value),
            }
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
    }
}

// === impl Known ===

impl<'a> Known<'a> {
    /// What an operator yields whose value no call changes.
    fn text(&self, operator: &FormatOperator) -> Option<Cow<'a, str>> {
        static HOSTNAME: LazyLock<String> = LazyLock::new(hostname);
        match operator {
            FormatOperator::UpstreamCluster => Some(Cow::Borrowed(self.cluster)),
            FormatOperator::RouteName => Some(Cow::Borrowed(self.route)),
            FormatOperator::Hostname => Some(Cow::Borrowed(&**HOSTNAME)),
            FormatOperator::Environment(name) => {
                Some(Cow::Owned(std::env::var(name).unwrap_or_default()))
            }
            FormatOperator::Request { .. }
            | FormatOperator::Response { .. }
            | FormatOperator::Protocol
            | FormatOperator::ResponseCode
            | FormatOperator::DownstreamRemoteAddress
            | FormatOperator::DownstreamRemoteAddressWithoutPort
            | FormatOperator::DownstreamLocalAddress
            | FormatOperator::DownstreamLocalAddressWithoutPort
            | FormatOperator::DownstreamPeerUriSan
            | FormatOperator::DownstreamPeerSubject
            | FormatOperator::DownstreamRemotePort
            | FormatOperator::DownstreamLocalPort
            | FormatOperator::UpstreamHost
            | FormatOperator::StartTime
            | FormatOperator::StartTimeAs(_) => None,
        }
    }
}

/// This machine's name; empty if it is not to be had.
fn hostname() -> String {
    // What the kernel says on Linux; elsewhere what a shell or a container runtime says.
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = kernel.or_else(|_| std::env::var("HOSTNAME"));
    name.map_or(String::new(), |name| name.trim().to_owned())
}

// === impl RequestOperator ===

impl RequestOperator {
    /// `None`: a request has no answer to it.
    pub(super) fn compile(operator: &FormatOperator) -> Option<Self> {
        Some(match operator {
            FormatOperator::Request {
                name,
                alternative,
                max_length,
            } => Self::Field(Field::compile(name, alternative.as_deref(), *max_length)),
            FormatOperator::Protocol => Self::Protocol,
            FormatOperator::DownstreamRemoteAddress => Self::RemoteAddress { port: true },
            FormatOperator::DownstreamRemoteAddressWithoutPort => {
                Self::RemoteAddress { port: false }
            }
            FormatOperator::DownstreamLocalAddress => Self::LocalAddress { port: true },
            FormatOperator::DownstreamLocalAddressWithoutPort => Self::LocalAddress { port: false },
            FormatOperator::DownstreamPeerUriSan => Self::PeerUris,
            FormatOperator::DownstreamPeerSubject => Self::PeerSubject,
            FormatOperator::DownstreamRemotePort => Self::RemotePort,
            FormatOperator::DownstreamLocalPort => Self::LocalPort,
            FormatOperator::StartTime => Self::StartTime(None),
            FormatOperator::StartTimeAs(format) => Self::StartTime(Some(format.clone())),
            FormatOperator::Response { .. }
            | FormatOperator::ResponseCode
            | FormatOperator::UpstreamHost
            | FormatOperator::UpstreamCluster
            | FormatOperator::RouteName
            | FormatOperator::Hostname
            | FormatOperator::Environment(_) => return None,
        })
    }
}

// === impl ResponseOperator ===

impl ResponseOperator {
    /// Compiles an operator; what it needs of the request is added to `remember`.
    pub(super) fn compile(
        operator: &FormatOperator,
        remember: &mut Vec<RequestOperator>,
    ) -> Option<Self> {
        Some(match operator {
            FormatOperator::Response {
                name,
                alternative,
                max_length,
            } => Self::Field(Field::compile(name, alternative.as_deref(), *max_length)),
            FormatOperator::ResponseCode => Self::Status,
            FormatOperator::UpstreamHost => Self::Endpoint,
            other => {
                let wanted = RequestOperator::compile(other)?;
                let known = remember.iter().position(|known| *known == wanted);
                Self::Remembered(known.unwrap_or_else(|| {
                    remember.push(wanted);
                    remember.len() - 1
                }))
            }
        })
    }
}

// === impl Field ===

impl Field {
    fn compile(name: &str, alternative: Option<&str>, max_length: Option<usize>) -> Self {
        Self {
            name: Name::read(name),
            alternative: alternative.and_then(Name::read),
            max_length: max_length.unwrap_or(usize::MAX),
        }
    }

    /// `write` says whether there is such a header.
    fn write(&self, out: &mut Vec<u8>, write: impl Fn(&Name, &mut Vec<u8>) -> bool) {
        let start = out.len();
        let mut names = self.name.iter().chain(&self.alternative);
        names.find(|name| write(name, out));
        out.truncate(start.saturating_add(self.max_length));
    }
}

// === impl Name ===

impl Name {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            // Envoy knows the one by the name of the other, too.
            ":authority" | "host" => Self::Authority,
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":scheme" => Self::Scheme,
            ":status" => Self::Status,
            name => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }
}

/// The first header of this name.
fn header(headers: &HeaderMap, name: &HeaderName, out: &mut Vec<u8>) -> bool {
    let Some(value) = headers.get(name) else {
        return false;
    };
    out.extend_from_slice(value.as_bytes());
    true
}

// === impl Asked ===

impl Asked<'_> {
    pub(super) fn write(&self, operator: &RequestOperator, headers: &HeaderMap, out: &mut Vec<u8>) {
        let peer = self.cx.peer;
        let certificate = || peer?.tls.as_ref()?.certificate.as_ref();
        match operator {
            RequestOperator::Field(field) => {
                field.write(out, |name, out| self.field(name, headers, out));
            }
            RequestOperator::Protocol => {
                let protocol = match self.cx.version {
                    Version::HTTP_10 => "HTTP/1.0",
                    Version::HTTP_11 => "HTTP/1.1",
                    Version::HTTP_2 => "HTTP/2",
                    Version::HTTP_3 => "HTTP/3",
                    _ => "",
                };
                out.extend_from_slice(protocol.as_bytes());
            }
            RequestOperator::RemoteAddress { port } => {
                write_address(peer.and_then(|peer| peer.address), *port, out);
            }
            RequestOperator::LocalAddress { port } => {
                write_address(peer.and_then(|peer| peer.local), *port, out);
            }
            RequestOperator::PeerUris => {
                let uris = certificate().map_or(&[][..], |certificate| &certificate.uris);
                for (index, uri) in uris.iter().enumerate() {
                    out.extend((index > 0).then_some(b','));
                    out.extend_from_slice(uri.as_bytes());
                }
            }
            RequestOperator::PeerSubject => {
                let subject = certificate().map_or("", |certificate| &certificate.subject);
                out.extend_from_slice(subject.as_bytes());
            }
            RequestOperator::RemotePort => {
                write_port(peer.and_then(|peer| peer.address), out);
            }
            RequestOperator::LocalPort => write_port(peer.and_then(|peer| peer.local), out),
            RequestOperator::StartTime(format) => {
                let now = SystemTime::now();
                let text = match format {
                    None => time::format(now),
                    Some(format) => time::format_as(now, format),
                };
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn field(&self, name: &Name, headers: &HeaderMap, out: &mut Vec<u8>) -> bool {
        let text = match name {
            Name::Authority => self.authority,
            Name::Method => self.method.as_str(),
            Name::Scheme => self.scheme,
            Name::Path => self.path,
            Name::Status => return false,
            Name::Header(name) => return header(headers, name, out),
        };
        out.extend_from_slice(text.as_bytes());
        if *name == Name::Path
            && let Some(query) = self.query
        {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        true
    }
}

fn write_address(address: Option<std::net::SocketAddr>, port: bool, out: &mut Vec<u8>) {
    let Some(address) = address else { return };
    match port {
        true => put(out, format_args!("{address}")),
        false => put(out, format_args!("{}", address.ip())),
    }
}

fn write_port(address: Option<std::net::SocketAddr>, out: &mut Vec<u8>) {
    if let Some(address) = address {
        put(out, format_args!("{}", address.port()));
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes all that is written.
    drop(out.write_fmt(text));
}

// === impl Answered ===

impl Answered<'_> {
    pub(super) fn write(
        &self,
        operator: &ResponseOperator,
        headers: &HeaderMap,
        out: &mut Vec<u8>,
    ) {
        match operator {
            ResponseOperator::Field(field) => field.write(out, |name, out| match name {
                Name::Status => {
                    out.extend_from_slice(self.status.as_str().as_bytes());
                    true
                }
                Name::Header(name) => header(headers, name, out),
                Name::Authority | Name::Method | Name::Path | Name::Scheme => false,
            }),
            ResponseOperator::Status => out.extend_from_slice(self.status.as_str().as_bytes()),
            ResponseOperator::Endpoint => {
                if let Some(endpoint) = self.endpoint {
                    put(out, format_args!("{endpoint}"));
                }
            }
            ResponseOperator::Remembered(number) => {
                if let Some(value) = self.remembered.get(*number) {
                    out.extend_from_slice(value);
                }
            }
        }
    }
}
