//! Who makes a request, as Kubernetes describes a user (`authentication.k8s.io/v1` `UserInfo`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The group whose members may do everything. Source: Kubernetes' built-in `cluster-admin` binding.
pub const MASTERS: &str = "system:masters";
/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The name of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";

/// A user, a service account or a part of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Unique name: `admin`, `alice@example.com`, `system:serviceaccount:ns:name`.
    pub user: String,
    /// Groups, in no order.
    #[serde(default)]
    pub groups: Vec<String>,
    /// A name that is never given to another user of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What the provider says besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user of this name in these groups (and in `system:authenticated`).
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { user: user.into(), groups, uid: None, extra: BTreeMap::new() }
    }

    /// A user who may do everything.
    pub fn admin(user: impl Into<String>) -> Self {
        Self::new(user, [MASTERS.to_owned()])
    }

    /// A part of the platform that acts on its own behalf; its name appears as the manager of what it writes.
    pub fn service(name: &str) -> Self {
        Self::admin(format!("system:kubeflow:{name}"))
    }

    /// A request without credentials.
    pub fn anonymous() -> Self {
        Self {
            user: ANONYMOUS.to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            uid: None,
            extra: BTreeMap::new(),
        }
    }

    /// Whether the identity is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
