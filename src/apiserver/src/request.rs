//! What a request asks for, read from method, path and query. Called first for every request.
//!
//! Invariant: pure; knows Kubernetes' URL shapes and no kind.

use http::Method;

/// A request, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for plain paths the method in
    /// lower case.
    pub verb: &'static str,
    /// True when the path names a resource of a group and version.
    pub is_resource: bool,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural resource.
    pub resource: String,
    /// Subresource or empty.
    pub subresource: String,
    /// Namespace or empty.
    pub namespace: String,
    /// Object or empty.
    pub name: String,
    /// What follows the subresource (`proxy/<rest>`).
    pub rest: String,
    /// The old `/watch/` path was used.
    pub legacy_watch: bool,
    /// The path as sent.
    pub path: String,
}

fn decode(segment: &str) -> String {
    let mut out = Vec::with_capacity(segment.len());
    let bytes = segment.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| segment.get(at + 1..at + 3)).flatten();
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "",
    }
}

impl RequestInfo {
    /// Reads `method`, `path` and whether the query asks to watch.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { verb: plain_verb(method), path: path.to_owned(), ..Self::default() };
        let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode).collect();
        let mut parts = segments.into_iter();
        match (parts.next().as_deref(), parts.len()) {
            (Some("api"), 2..) => info.version = parts.next().unwrap_or_default(),
            (Some("apis"), 3..) => {
                info.group = parts.next().unwrap_or_default();
                info.version = parts.next().unwrap_or_default();
            }
            _ => return info,
        }
        let mut rest: Vec<String> = parts.collect();
        if matches!(rest.first().map(String::as_str), Some("watch")) && rest.len() > 1 {
            info.legacy_watch = true;
            rest.remove(0);
        }
        info.is_resource = true;
        info.place(rest);
        info.verb = info.resource_verb(method, query);
        info
    }

    fn place(&mut self, rest: Vec<String>) {
        let mut parts = rest.into_iter();
        let first = parts.next().unwrap_or_default();
        if first == "namespaces" && parts.len() >= 1 {
            self.namespace = parts.next().unwrap_or_default();
            let second = parts.next();
            match second {
                Some(second) if !matches!(second.as_str(), "status" | "finalize") => self.resource = second,
                other => {
                    self.resource = "namespaces".into();
                    self.name = self.namespace.clone();
                    self.subresource = other.unwrap_or_default();
                    self.namespace.clear();
                    return;
                }
            }
        } else {
            self.resource = first;
        }
        self.name = parts.next().unwrap_or_default();
        self.subresource = parts.next().unwrap_or_default();
        self.rest = parts.collect::<Vec<_>>().join("/");
    }

    fn resource_verb(&self, method: &Method, query: &Query) -> &'static str {
        let watch = self.legacy_watch || query.is_true("watch");
        match (plain_verb(method), self.name.is_empty()) {
            ("get", _) if self.legacy_watch => "watch",
            ("get", true) if watch => "watch",
            ("get", true) => "list",
            ("get", false) => "get",
            ("post", _) => "create",
            ("put", _) => "update",
            ("patch", _) => "patch",
            ("delete", true) => "deletecollection",
            ("delete", false) => "delete",
            (other, _) => other,
        }
    }

    /// `pods/log` as permissions name it.
    pub fn qualified_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// Query parameters, in order, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Booleans as clients send them: `1`, `true`, `True`, or present without a value.
    pub fn is_true(&self, name: &str) -> bool {
        self.0.iter().any(|(n, v)| n == name && matches!(v.as_str(), "" | "1" | "true" | "True" | "t" | "T" | "TRUE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(method: Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        let pods = check(Method::GET, "/api/v1/namespaces/ns/pods?&watch=True");
        assert_eq!((pods.verb, &*pods.resource, &*pods.namespace), ("watch", "pods", "ns"));
        let log = check(Method::GET, "/api/v1/namespaces/ns/pods/p/log");
        assert_eq!((log.verb, &*log.name, &*log.subresource), ("get", "p", "log"));
        let namespace = check(Method::PUT, "/api/v1/namespaces/ns/finalize");
        assert_eq!((&*namespace.resource, &*namespace.name, &*namespace.subresource), ("namespaces", "ns", "finalize"));
        let old = check(Method::GET, "/api/v1/watch/namespaces/ns/configmaps/a");
        assert_eq!((old.verb, &*old.name), ("watch", "a"));
        let group = check(Method::DELETE, "/apis/apps/v1/namespaces/ns/deployments");
        assert_eq!((group.verb, &*group.group), ("deletecollection", "apps"));
        assert!(!check(Method::GET, "/healthz").is_resource);
        assert!(!check(Method::GET, "/api/v1").is_resource);
    }

    proptest! {
        #[test]
        fn any_path_is_read(path in "/.{0,40}", query in ".{0,40}") {
            let _ = RequestInfo::parse(&Method::GET, &path, &Query::parse(&query));
        }
    }
}
