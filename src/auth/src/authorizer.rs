//! What may they do: one decision for REST, pages, proxy and the Kubernetes API.
//!
//! Until RBAC objects exist there is one rule: members of `system:masters` may do everything, everybody else nothing.

use crate::identity::{Identity, MASTERS};

/// What somebody wants to do, in the words of a SubjectAccessReview.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a capability's own.
    pub verb: &'a str,
    /// API group; empty for core.
    pub group: &'a str,
    /// Plural name of the resource; empty for a plain path.
    pub resource: &'a str,
    /// `status`, `log` …; empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty where no single object is meant.
    pub name: &'a str,
    /// The path of a request that is about no resource.
    pub path: &'a str,
}

/// The answer to an [`Attributes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Not allowed; the reason is for the log, not for the caller.
    Deny(String),
}

/// Decides. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Authorizer {}

impl Authorizer {
    /// May this identity do this?
    pub fn decide(&self, identity: &Identity, wanted: &Attributes<'_>) -> Decision {
        if identity.is_in(MASTERS) {
            return Decision::Allow;
        }
        Decision::Deny(format!("no rule allows {} {}", wanted.verb, wanted.resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_masters_may_do_anything() {
        let authorizer = Authorizer::default();
        let wanted = Attributes { verb: "get", resource: "pods", ..Attributes::default() };
        assert_eq!(authorizer.decide(&Identity::admin("ada"), &wanted), Decision::Allow);
        let account = Identity::new("system:serviceaccount:kubeflow:default", []);
        assert!(matches!(authorizer.decide(&account, &wanted), Decision::Deny(_)));
        assert!(matches!(authorizer.decide(&Identity::anonymous(), &wanted), Decision::Deny(_)));
    }
}
