//! Who owns whom, by uid, and what is to be done about it.
//!
//! Invariant: pure; every change puts the nodes it concerns on the list of what to look at, once.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PropagationPolicy;

use super::{FOREGROUND, ORPHAN};

/// An object as the collector knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its uid.
    pub uid: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its resource.
    pub plural: &'static str,
    /// Its namespace, if it lives in one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// It is marked.
    pub deleting: bool,
}

impl Node {
    /// A place to look at, without more.
    pub fn probe(kind: &'static str, plural: &'static str, namespace: Option<String>, name: &str) -> Self {
        Self {
            uid: String::new(),
            kind,
            plural,
            namespace,
            name: name.to_owned(),
            owners: Vec::new(),
            finalizers: Vec::new(),
            deleting: false,
        }
    }

    fn waits_with(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|f| f == finalizer)
    }
}

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Look whether its owners are there.
    CheckOwners(Node),
    /// Delete it.
    Delete(Node, PropagationPolicy),
    /// Make it forget this owner.
    DropOwner(Node, String),
    /// Take this finalizer away.
    RemoveFinalizer(Node, &'static str),
}

/// Kind, resource and whether it is namespaced, of what can own here.
pub fn resource_of(version: &str, kind: &str) -> Option<(&'static str, &'static str, bool)> {
    if version != "v1" {
        return None;
    }
    Some(match kind {
        "Pod" => ("Pod", "pods", true),
        "ConfigMap" => ("ConfigMap", "configmaps", true),
        "Secret" => ("Secret", "secrets", true),
        "ServiceAccount" => ("ServiceAccount", "serviceaccounts", true),
        "Node" => ("Node", "nodes", false),
        "Namespace" => ("Namespace", "namespaces", false),
        _ => return None,
    })
}

/// See the module.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    look: VecDeque<String>,
    listed: HashSet<String>,
    actions: VecDeque<Action>,
}

impl Graph {
    fn look_at(&mut self, uid: &str) {
        if self.listed.insert(uid.to_owned()) {
            self.look.push_back(uid.to_owned());
        }
    }

    fn unlink(&mut self, node: &Node) {
        for owner in &node.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(&node.uid);
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    /// Takes in an object's present state.
    pub fn apply(&mut self, node: Node) {
        if self.nodes.get(&node.uid) == Some(&node) {
            return;
        }
        if let Some(old) = self.nodes.remove(&node.uid) {
            self.unlink(&old);
            old.owners.iter().for_each(|o| self.look_at(&o.uid));
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
            self.look_at(&owner.uid);
        }
        self.look_at(&node.uid);
        self.nodes.insert(node.uid.clone(), node);
    }

    /// An object is gone: its dependents and its owners are looked at.
    pub fn remove(&mut self, uid: &str) {
        if let Some(node) = self.nodes.remove(uid) {
            self.unlink(&node);
            node.owners.iter().for_each(|o| self.look_at(&o.uid));
        }
        for dependent in self.dependents.get(uid).cloned().unwrap_or_default() {
            self.look_at(&dependent);
        }
    }

    /// Forgets objects of a kind that are not among these.
    pub fn keep(&mut self, kind: &str, uids: &HashSet<String>) {
        let gone: Vec<String> =
            self.nodes.values().filter(|n| n.kind == kind && !uids.contains(&n.uid)).map(|n| n.uid.clone()).collect();
        gone.iter().for_each(|uid| self.remove(uid));
    }

    /// Whether the owner is there, in the same namespace or in none.
    pub fn knows_in(&self, uid: &str, namespace: Option<&str>) -> bool {
        self.nodes.get(uid).is_some_and(|o| o.namespace.is_none() || o.namespace.as_deref() == namespace)
    }

    /// Whether the owner is only waiting for its dependents to go.
    pub fn waits_for_dependents(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|o| o.waits_with(FOREGROUND))
    }

    /// The next thing to do.
    pub fn next(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            let uid = self.look.pop_front()?;
            self.listed.remove(&uid);
            if let Some(node) = self.nodes.get(&uid).cloned() {
                self.plan(&node);
            }
        }
    }

    fn plan(&mut self, node: &Node) {
        let dependents: Vec<Node> = self
            .dependents
            .get(&node.uid)
            .into_iter()
            .flatten()
            .filter_map(|uid| self.nodes.get(uid).cloned())
            .filter(|d| node.namespace.is_none() || d.namespace == node.namespace)
            .collect();
        if node.waits_with(ORPHAN) {
            for dependent in &dependents {
                self.actions.push_back(Action::DropOwner(dependent.clone(), node.uid.clone()));
            }
            if dependents.is_empty() {
                self.actions.push_back(Action::RemoveFinalizer(node.clone(), ORPHAN));
            }
        }
        if node.waits_with(FOREGROUND) {
            let mut blocked = false;
            for dependent in dependents {
                let blocking =
                    dependent.owners.iter().any(|o| o.uid == node.uid && o.block_owner_deletion == Some(true));
                blocked |= blocking;
                if !dependent.deleting && self.only_owner_waits(&dependent) {
                    let policy = PropagationPolicy::Foreground;
                    self.actions.push_back(Action::Delete(dependent, policy));
                }
            }
            if !blocked {
                self.actions.push_back(Action::RemoveFinalizer(node.clone(), FOREGROUND));
            }
        }
        let unknown = node.owners.iter().any(|o| !self.knows_in(&o.uid, node.namespace.as_deref()));
        if unknown && !node.deleting {
            self.actions.push_back(Action::CheckOwners(node.clone()));
        }
    }

    /// Whether every owner of a dependent is going with its dependents.
    fn only_owner_waits(&self, dependent: &Node) -> bool {
        dependent.owners.iter().all(|o| self.waits_for_dependents(&o.uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uid: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> Node {
        let owner = |uid: &&str| OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: (*uid).into(),
            uid: (*uid).into(),
            block_owner_deletion: Some(true),
            controller: None,
        };
        Node {
            uid: uid.into(),
            owners: owners.iter().map(owner).collect(),
            finalizers: finalizers.iter().map(|f| (*f).into()).collect(),
            deleting,
            ..Node::probe("ConfigMap", "configmaps", Some("ns".into()), uid)
        }
    }

    fn actions(graph: &mut Graph) -> Vec<String> {
        std::iter::from_fn(|| graph.next())
            .map(|a| match a {
                Action::CheckOwners(n) => format!("check {}", n.uid),
                Action::Delete(n, _) => format!("delete {}", n.uid),
                Action::DropOwner(n, o) => format!("drop {o} of {}", n.uid),
                Action::RemoveFinalizer(n, f) => format!("free {} of {f}", n.uid),
            })
            .collect()
    }

    #[test]
    fn dependents_of_a_deleted_owner_are_checked() {
        let mut graph = Graph::default();
        graph.apply(node("owner", &[], &[], false));
        graph.apply(node("child", &["owner"], &[], false));
        assert!(actions(&mut graph).is_empty());
        graph.remove("owner");
        assert_eq!(actions(&mut graph), ["check child"]);
    }

    #[test]
    fn foreground_deletes_dependents_first_and_then_frees_the_owner() {
        let mut graph = Graph::default();
        graph.apply(node("owner", &[], &[FOREGROUND], true));
        graph.apply(node("child", &["owner"], &[], false));
        assert_eq!(actions(&mut graph), ["delete child"]);
        graph.remove("child");
        assert_eq!(actions(&mut graph), ["free owner of foregroundDeletion"]);
    }

    #[test]
    fn orphaning_takes_the_reference_away_before_the_finalizer() {
        let mut graph = Graph::default();
        graph.apply(node("owner", &[], &[ORPHAN], true));
        graph.apply(node("child", &["owner"], &[], false));
        assert_eq!(actions(&mut graph), ["drop owner of child"]);
        graph.apply(node("child", &[], &[], false));
        assert_eq!(actions(&mut graph), ["free owner of orphan"]);
    }
}
