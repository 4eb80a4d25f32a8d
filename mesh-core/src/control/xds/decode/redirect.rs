//! Routes that answer with a redirect, under HTTP semantics (Envoy).

use envoy_types::pb::envoy::config::route::v3::{
    RedirectAction as Wire,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode as Code, SchemeRewriteSpecifier},
};
use http::{StatusCode, uri::Scheme};

use super::{
    Context, FieldError, ResultExt,
    bounds::quote,
    fields::{Field, Message},
    rewrite::{self, REGEX_REWRITE},
};
use crate::config::{PathRedirect, PathRewrite, Redirect, RouteAction, Treatment};

/// A redirect. What is empty or zero stays as it was requested.
pub(super) fn redirect(wire: Wire, cx: &mut Context<'_>) -> Result<RouteAction, FieldError> {
    let Wire {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = wire;
    let scheme = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => {
            Some(self::scheme(&scheme).field("scheme_redirect")?)
        }
        Some(_) | None => None,
    };
    let host = match host_redirect.is_empty() {
        true => None,
        false => {
            rewrite::authority(&host_redirect).field("host_redirect")?;
            Some(host_redirect)
        }
    };
    let port = match u16::try_from(port_redirect) {
        Ok(port) => Some(port).filter(|&port| port != 0),
        Err(_) => {
            let problem = format!("must be at most 65535, not {port_redirect}");
            return Err(FieldError::new(problem).field("port_redirect"));
        }
    };
    let status = match Code::try_from(response_code) {
        Ok(Code::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(Code::Found) => StatusCode::FOUND,
        Ok(Code::SeeOther) => StatusCode::SEE_OTHER,
        Ok(Code::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(Code::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => {
            let problem = format!("unknown code {response_code}");
            return Err(FieldError::new(problem).field("response_code"));
        }
    };
    let path = match path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) if !path.is_empty() => {
            rewrite::visible(&path).field("path_redirect")?;
            Some(PathRedirect::Full(path))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) if !prefix.is_empty() => {
            rewrite::visible(&prefix).field("prefix_rewrite")?;
            Some(PathRedirect::Rewrite(PathRewrite::Prefix(prefix)))
        }
        Some(PathRewriteSpecifier::RegexRewrite(wire)) => {
            let rewrite = cx.field("regex_rewrite", |cx| rewrite::regex(wire, cx))?;
            Some(PathRedirect::Rewrite(PathRewrite::Regex(rewrite)))
        }
        // Another path than the one that was meant would send the caller astray.
        Some(PathRewriteSpecifier::PathRewrite(path)) if !path.is_empty() => {
            let note = "paths with operators are not supported: requests that match fail";
            cx.report("path_rewrite", Treatment::Approximated, note);
            return Ok(RouteAction::Unsupported("redirect with path_rewrite"));
        }
        Some(_) | None => None,
    };
    Ok(RouteAction::Redirect(Redirect {
        scheme,
        host,
        port,
        path,
        status,
        strip_query,
    }))
}

fn scheme(text: &str) -> Result<String, FieldError> {
    match Scheme::try_from(text) {
        // As it is written: Envoy does not change it either.
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(FieldError::new(format!(
            "{:?} is not a scheme",
            quote(text)
        ))),
    }
}

pub(super) static REDIRECT: Message = Message {
    name: "envoy.config.route.v3.RedirectAction",
    fields: &[
        Field::enforced(1, "host_redirect"),
        Field::enforced(2, "path_redirect"),
        Field::enforced(3, "response_code"),
        Field::enforced(4, "https_redirect"),
        Field::enforced(5, "prefix_rewrite"),
        Field::enforced(6, "strip_query"),
        Field::enforced(7, "scheme_redirect"),
        Field::enforced(8, "port_redirect"),
        Field::message(9, "regex_rewrite", &REGEX_REWRITE),
        Field::enforced(10, "path_rewrite"),
    ],
};

#[cfg(test)]
mod tests;
