use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use super::{Bootstrap, ServerConfig, percent};

/// What a client target stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerName {
    /// The name of the listener resource.
    pub resource: Arc<str>,
    /// The data plane's authority: selects the virtual host, and is the `:authority` of calls
    /// unless something replaces it. The target's path without the leading `/`, never the authority
    /// in the target (gRFC A47); what may not stand in `:authority` is percent-encoded.
    pub authority: Arc<str>,
}

/// Why a target cannot be used, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target {target:?}: {problem}")]
pub struct TargetError {
    target: String,
    problem: String,
}

impl Bootstrap {
    /// The listener that a client target names (gRFC A27, A47).
    ///
    /// A target is `xds:///name`, `xds:name` or a plain `name`, all of the default template, or
    /// `xds://authority/name`. The name goes into the template verbatim, its port included; in an
    /// `xdstp:` template it is percent-encoded. The `xds:` forms are URIs, so percent-encoding in
    /// them is undone first.
    ///
    /// # Errors
    /// If the target has no name, another scheme, a query or a fragment, or if the bootstrap lacks
    /// its authority.
    pub fn listener_name(&self, target: &str) -> Result<ListenerName, TargetError> {
        let error = |problem: String| TargetError {
            target: target.to_owned(),
            problem,
        };
        let (authority, name) = split(target).map_err(error)?;
        let template = match authority {
            None => &self.client_listener_template,
            Some(authority) => match self.authorities.get(authority) {
                Some(config) => &config.client_listener_template,
                None => return Err(error(self.unknown_authority(authority))),
            },
        };
        let resource = expand(template, &name);
        if self.servers_for(&resource).is_none() {
            let authority = xdstp_authority(&resource).unwrap_or_default();
            return Err(error(format!(
                "its listener is {resource:?}, but {}",
                self.unknown_authority(authority)
            )));
        }
        Ok(ListenerName {
            resource: resource.into(),
            authority: percent::encode_authority(&name).into(),
        })
    }

    /// The listener of a server that is bound to `address` (gRFC A36): the template with `%s`
    /// replaced by the address, such as `10.0.0.1:80` or `[::]:80`. It goes in verbatim; in an
    /// `xdstp:` template it is percent-encoded. `None`: the bootstrap has no
    /// `server_listener_resource_name_template`.
    pub fn server_listener_name(&self, address: SocketAddr) -> Option<Arc<str>> {
        let template = self.server_listener_template.as_ref()?;
        Some(expand(template, &address.to_string()).into())
    }

    /// The control planes to ask for the resource called `name`, in order of preference: those of
    /// its authority if it is an `xdstp:` name (gRFC A47), otherwise the top-level ones. `None`:
    /// the bootstrap lacks the authority, so nobody may be asked.
    pub fn servers_for(&self, name: &str) -> Option<&[ServerConfig]> {
        if !name.starts_with("xdstp:") {
            return Some(&self.servers);
        }
        let authority = self.authorities.get(xdstp_authority(name)?)?;
        Some(match authority.servers.as_slice() {
            [] => &self.servers,
            own => own,
        })
    }

    /// What is wrong with a name of this authority, which the bootstrap lacks.
    pub(crate) fn unknown_authority(&self, authority: &str) -> String {
        let known: Vec<_> = self.authorities.keys().collect();
        format!(
            "authority {authority:?} is not in the bootstrap's `authorities`, which has {known:?}; \
             add it there, or name a target of the default authority as `xds:///name`"
        )
    }
}

/// The authority of an `xdstp:` name.
pub(crate) fn xdstp_authority(name: &str) -> Option<&str> {
    let (authority, _) = name.strip_prefix("xdstp://")?.split_once('/')?;
    Some(authority)
}

/// Authority, if any, and name of a target.
fn split(target: &str) -> Result<(Option<&str>, Cow<'_, str>), String> {
    let Some(rest) = target.strip_prefix("xds:") else {
        return match target.split_once("://") {
            Some((scheme, _)) => Err(format!(
                "scheme {scheme:?} is not the mesh's; write `xds:///name` or the plain name"
            )),
            None if target.is_empty() => Err("empty; write `xds:///name`".to_owned()),
            None => Ok((None, Cow::Borrowed(target))),
        };
    };
    if rest.contains(['?', '#']) {
        return Err(
            "has a query or fragment, which a target cannot; remove it, or write `%3F` \
                    or `%23` if it is part of the name"
                .to_owned(),
        );
    }
    let (authority, path) = match rest.strip_prefix("//") {
        None => ("", rest.strip_prefix('/').unwrap_or(rest)),
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
    };
    let name = percent::decode(path)
        .ok_or("has a `%` that starts no percent-encoding of UTF-8; write `%25` for it")?;
    match (authority, name) {
        ("", name) if name.is_empty() => Err("names nothing; write `xds:///name`".to_owned()),
        (authority, name) if name.is_empty() => Err(format!(
            "names an authority and nothing in it; write `xds:///{authority}` with three slashes, \
             or `xds://{authority}/name`"
        )),
        ("", name) => Ok((None, name)),
        (authority, name) => Ok((Some(authority), name)),
    }
}

fn expand(template: &str, name: &str) -> String {
    if template.starts_with("xdstp:") {
        template.replace("%s", &percent::encode_path(name))
    } else {
        template.replace("%s", name)
    }
}
