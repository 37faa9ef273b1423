//! ConfigMaps and Secrets that a pod refers to, read once per use. Called by `variables` and `volumes`.
//!
//! Messages are a kubelet's, word for word: people search for them.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the API may take; it is in this process.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Something that a pod refers to and that is not there.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// No such ConfigMap.
    #[error("configmap {name:?} not found")]
    ConfigMap {
        /// Its name.
        name: String,
    },
    /// No such Secret.
    #[error("secret {name:?} not found")]
    Secret {
        /// Its name.
        name: String,
    },
    /// The object is there, the key is not.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Namespace of the pod.
        namespace: String,
        /// Name of the object.
        name: String,
        /// The key.
        key: String,
    },
    /// A field that the downward API does not show.
    #[error("field {path:?} is not supported")]
    Field {
        /// As written.
        path: String,
    },
    /// The API did not answer.
    #[error("read {what}")]
    Read {
        /// What was to be read.
        what: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Keys and values of a ConfigMap or Secret.
#[derive(Debug, Clone, Default)]
pub struct Data(pub BTreeMap<String, Vec<u8>>);

impl Data {
    /// All values as texts (bytes that are not UTF-8 become replacement characters, as in a kubelet's environment).
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(key, value)| (key.clone(), String::from_utf8_lossy(value).into_owned())).collect()
    }
}

/// Reads the objects of one namespace.
#[derive(Clone)]
pub struct Lookup {
    client: Client,
    namespace: String,
}

impl Lookup {
    /// For pods of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// A ConfigMap's data; none if it is absent and may be.
    pub async fn config_map(&self, name: &str, optional: bool) -> Result<Option<Data>, Missing> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        match read(format!("configmap {name:?}"), api.get_opt(name)).await? {
            Some(map) => {
                let texts = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
                let bytes = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                Ok(Some(Data(texts.chain(bytes).collect())))
            }
            None if optional => Ok(None),
            None => Err(Missing::ConfigMap { name: name.to_owned() }),
        }
    }

    /// A Secret's data; none if it is absent and may be.
    pub async fn secret(&self, name: &str, optional: bool) -> Result<Option<Data>, Missing> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match read(format!("secret {name:?}"), api.get_opt(name)).await? {
            Some(secret) => {
                let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                Ok(Some(Data(data.collect())))
            }
            None if optional => Ok(None),
            None => Err(Missing::Secret { name: name.to_owned() }),
        }
    }

    /// One key as text; none if it is absent and may be.
    pub fn key(
        &self,
        data: Option<&Data>,
        kind: &'static str,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<String>, Missing> {
        match data.and_then(|data| data.0.get(key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional => Ok(None),
            None => {
                let (namespace, name, key) = (self.namespace.clone(), name.to_owned(), key.to_owned());
                Err(Missing::Key { kind, namespace, name, key })
            }
        }
    }
}

async fn read<T>(what: String, answer: impl Future<Output = kube::Result<Option<T>>>) -> Result<Option<T>, Missing> {
    match tokio::time::timeout(READ_LIMIT, answer).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(source)) => Err(Missing::Read { what, source: Box::new(source) }),
        Err(source) => Err(Missing::Read { what, source: Box::new(source) }),
    }
}
