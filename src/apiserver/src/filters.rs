//! Who may pass: authentication, impersonation, authorization. Called by `server` before any handler.
//!
//! Invariant: every request but the open paths is authorized; a check that fails closes the door.

use auth::authenticator::Authenticator;
use auth::authorizer::{Attributes, Authorizer, Decision};
use auth::identity::{ANONYMOUS, Identity};
use http::HeaderMap;
use http::request::Parts;

use crate::request::RequestInfo;
use crate::status::ApiError;

/// Paths that Kubernetes leaves open.
fn open(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    matches!(path, "/version" | "/healthz" | "/livez" | "/readyz")
        || path.starts_with("/livez/")
        || path.starts_with("/readyz/")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// Who is asking, after impersonation.
pub async fn identify(
    authenticator: &Authenticator,
    authorizer: &Authorizer,
    parts: &Parts,
) -> Result<Identity, ApiError> {
    let found = authenticator.authenticate(parts).await.map_err(|_| ApiError::unauthorized())?;
    let own = found.unwrap_or_else(Identity::anonymous);
    let groups: Vec<String> =
        parts.headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok().map(str::to_owned)).collect();
    let Some(user) = header(&parts.headers, "impersonate-user") else {
        if groups.is_empty() {
            return Ok(own);
        }
        let list: Vec<String> = groups.iter().map(|g| format!("{g:?}")).collect();
        return Err(ApiError::bad_request(format!(
            "requested &user.DefaultInfo{{Name:\"\", UID:\"\", Groups:[]string{{{}}}, Extra:map[string][]string(nil)}} \
             without impersonating a user name",
            list.join(", ")
        )));
    };
    let wanted = Attributes { verb: "impersonate", resource: "users", name: user, ..Attributes::default() };
    if authorizer.decide(&own, &wanted) != Decision::Allow {
        let text =
            format!("User {:?} cannot impersonate resource \"users\" in API group \"\" at the cluster scope", own.user);
        return Err(ApiError::forbidden("users", user, &text));
    }
    if user == ANONYMOUS {
        return Ok(Identity::anonymous());
    }
    Ok(Identity::new(user, groups))
}

/// May this identity do this?
pub fn authorize(authorizer: &Authorizer, identity: &Identity, info: &RequestInfo) -> Result<(), ApiError> {
    if !info.is_resource && open(&info.path) {
        return Ok(());
    }
    let wanted = Attributes {
        verb: info.verb,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: if info.is_resource { "" } else { &info.path },
    };
    if authorizer.decide(identity, &wanted) == Decision::Allow {
        return Ok(());
    }
    if !info.is_resource {
        return Err(ApiError::forbidden_path(&identity.user, info.verb, &info.path));
    }
    let scope = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", info.namespace)
    };
    let text = format!(
        "User {:?} cannot {} resource {:?} in API group {:?} {scope}",
        identity.user,
        info.verb,
        info.qualified_resource(),
        info.group
    );
    let name = if info.verb == "create" && info.subresource.is_empty() { "" } else { &info.name };
    Err(ApiError::forbidden(&info.resource, name, &text))
}
