//! The values of headers that routes add: text with operators in it (Envoy, "Custom
//! request/response headers").

use super::{
    Context, FieldError,
    bounds::quote,
    limits::Limit,
    rewrite::{header_name, visible},
};
use crate::config::{FormatOperator, FormatPart, HeaderFormat, TimeFormat};

/// The value of a header that is added.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Known(HeaderFormat),
    /// It is well-formed, and has an operator that is not known or not allowed here, as this says.
    Unknown(String),
}

/// All operators that are known.
static OPERATORS: &[(&str, Operator)] = {
    use FormatOperator as Is;
    use Operator::{Header, Plain, Text, Time};
    &[
        ("REQ", Header(request)),
        ("REQUEST_HEADER", Header(request)),
        ("RESP", Header(response)),
        ("RESPONSE_HEADER", Header(response)),
        ("PROTOCOL", Plain(Is::Protocol)),
        ("RESPONSE_CODE", Plain(Is::ResponseCode)),
        (
            "DOWNSTREAM_REMOTE_ADDRESS",
            Plain(Is::DownstreamRemoteAddress),
        ),
        (
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
            Plain(Is::DownstreamRemoteAddressWithoutPort),
        ),
        (
            "DOWNSTREAM_LOCAL_ADDRESS",
            Plain(Is::DownstreamLocalAddress),
        ),
        (
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
            Plain(Is::DownstreamLocalAddressWithoutPort),
        ),
        ("DOWNSTREAM_PEER_URI_SAN", Plain(Is::DownstreamPeerUriSan)),
        ("DOWNSTREAM_PEER_SUBJECT", Plain(Is::DownstreamPeerSubject)),
        ("UPSTREAM_HOST", Plain(Is::UpstreamHost)),
        ("UPSTREAM_CLUSTER", Plain(Is::UpstreamCluster)),
        ("ROUTE_NAME", Plain(Is::RouteName)),
        ("START_TIME", Time),
        ("DOWNSTREAM_REMOTE_PORT", Plain(Is::DownstreamRemotePort)),
        ("DOWNSTREAM_LOCAL_PORT", Plain(Is::DownstreamLocalPort)),
        // No address is taken from a header, so that these are the same.
        (
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
            Plain(Is::DownstreamRemoteAddress),
        ),
        (
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
            Plain(Is::DownstreamRemoteAddressWithoutPort),
        ),
        ("UPSTREAM_REMOTE_ADDRESS", Plain(Is::UpstreamHost)),
        ("HOSTNAME", Plain(Is::Hostname)),
        ("ENVIRONMENT", Text(Is::Environment)),
    ]
};

/// How an operator is written.
enum Operator {
    /// `%NAME%`.
    Plain(FormatOperator),
    /// `%NAME(variable of the process)%`.
    Text(fn(String) -> FormatOperator),
    /// `%NAME%` or `%NAME(format of time)%`.
    Time,
    /// `%NAME(header?alternative):length%`: all but the first header may be left out.
    Header(fn(String, Option<String>, Option<usize>) -> FormatOperator),
}

/// An operator as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    length: Option<&'a str>,
}

/// Reads the value of a header that is added: `%%` is a percent sign.
pub(super) fn format(text: &str, cx: &mut Context<'_>) -> Result<Value, FieldError> {
    visible(text)?;
    let (mut parts, mut unknown) = (Vec::new(), None);
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let Some((found, after)) = find(after) else {
            let at = text.len() - after.len() - 1;
            return Err(FieldError::new(format!(
                "no operator at byte {at} of {:?}: a percent sign is written %%",
                quote(text)
            )));
        };
        if !plain.is_empty() {
            parts.push(FormatPart::Text(std::mem::take(&mut plain)));
        }
        match operator(found, cx.environment)? {
            Ok(operator) => parts.push(FormatPart::Operator(operator)),
            Err(note) => unknown = unknown.or(Some(note)),
        }
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(FormatPart::Text(plain));
    }
    cx.count(Limit::HeaderMutations, parts.len())?;
    Ok(match unknown {
        None => Value::Known(HeaderFormat(parts.into())),
        Some(note) => Value::Unknown(note),
    })
}

/// The operator whose percent sign `text` follows, and what comes after it.
fn find(text: &str) -> Option<(Found<'_>, &str)> {
    let is_name = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    let end = text.bytes().position(|byte| !is_name(&byte))?;
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    let found = |argument, length| Found {
        name,
        argument,
        length,
    };
    let Some(inside) = rest.strip_prefix('(') else {
        let (length, rest) = close(rest)?;
        return Some((found(None, length), rest));
    };
    // As Envoy: the first parenthesis that can end it does.
    inside.match_indices(')').find_map(|(at, _)| {
        let (length, rest) = close(&inside[at + 1..])?;
        Some((found(Some(&inside[..at]), length), rest))
    })
}

/// The end of an operator: a length at will, and the percent sign.
fn close(text: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = text.strip_prefix('%') {
        return Some((None, rest));
    }
    let text = text.strip_prefix(':')?;
    let end = text.bytes().position(|byte| !byte.is_ascii_digit())?;
    let (length, rest) = text.split_at(end);
    let rest = rest.strip_prefix('%').filter(|_| !length.is_empty())?;
    Some((Some(length), rest))
}

/// The operator; `Ok(Err)` says which is not known, or not allowed. Of the variables of this process
/// those of `environment` may be read: what is sent to a peer is not the control plane's to choose.
fn operator(
    found: Found<'_>,
    environment: &[String],
) -> Result<Result<FormatOperator, String>, FieldError> {
    let Found {
        name,
        argument,
        length,
    } = found;
    let problem = |problem: &str| Err(FieldError::new(format!("%{}%: {problem}", quote(name))));
    let Some((_, operator)) = OPERATORS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = OPERATORS.iter().map(|&(name, _)| name).collect();
        return Ok(Err(format!(
            "%{}%: this operator is not known here; those are: {}",
            quote(name),
            known.join(", ")
        )));
    };
    match (operator, argument) {
        (Operator::Plain(operator), None) if length.is_none() => Ok(Ok(operator.clone())),
        (Operator::Plain(_), _) => problem("it takes neither an argument nor a length here"),
        (Operator::Time, _) if length.is_some() => problem("it takes no length here"),
        (Operator::Time, None | Some("")) => Ok(Ok(FormatOperator::StartTime)),
        (Operator::Time, Some(text)) => Ok(match TimeFormat::parse(text) {
            Some(format) => Ok(FormatOperator::StartTimeAs(format)),
            None => Err(format!(
                "%{}%: the format {:?} has a specifier that is not known here",
                quote(name),
                quote(text)
            )),
        }),
        (Operator::Text(_) | Operator::Header(_), None | Some("")) => {
            problem("it needs an argument in parentheses")
        }
        (Operator::Text(_), Some(_)) if length.is_some() => problem("it takes no length here"),
        (Operator::Text(make), Some(text)) => Ok(match environment.iter().any(|it| it == text) {
            true => Ok(make(text.to_owned())),
            false => Err(format!(
                "%{}({})%: this variable of the process is not one of Options::environment",
                quote(name),
                quote(text)
            )),
        }),
        (Operator::Header(make), Some(argument)) => {
            let (name, alternative) = match argument.split_once('?') {
                Some((name, alternative)) => (name, Some(alternative)),
                None => (argument, None),
            };
            let alternative = alternative.filter(|name| !name.is_empty());
            let length = match length.map(str::parse).transpose() {
                Ok(length) => length,
                Err(_) => return problem("its length is too large"),
            };
            Ok(Ok(make(
                readable(name)?,
                alternative.map(readable).transpose()?,
                length,
            )))
        }
    }
}

/// The name of a header that is read, in lower case: pseudo-headers count.
fn readable(name: &str) -> Result<String, FieldError> {
    header_name(name.strip_prefix(':').unwrap_or(name))?;
    Ok(name.to_ascii_lowercase())
}

fn request(name: String, alternative: Option<String>, max_length: Option<usize>) -> FormatOperator {
    FormatOperator::Request {
        name,
        alternative,
        max_length,
    }
}

fn response(
    name: String,
    alternative: Option<String>,
    max_length: Option<usize>,
) -> FormatOperator {
    FormatOperator::Response {
        name,
        alternative,
        max_length,
    }
}

#[cfg(test)]
mod tests;
