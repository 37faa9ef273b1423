//! Kubeconfigs: the platform's own, and the context that `up` adds to the user's.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The name of cluster, user and context.
const NAME: &str = "kubeflow";

/// A kubeconfig for the API at `server`.
pub fn render(server: &str, ca_pem: &str, token: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": namespace}}],
        "current-context": NAME,
    })
}

/// A kubeconfig as YAML.
///
/// # Errors
/// When it has no YAML form.
pub fn to_yaml(config: &Value) -> Result<String> {
    serde_saphyr::to_string(config).context("write a kubeconfig")
}

/// Writes a kubeconfig where only the user can read it.
///
/// # Errors
/// When it cannot be written; then what was there before still is.
pub fn write(path: &Path, config: &Value) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    // A link stays a link: what it leads to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = target.as_path();
    let temporary = path.with_extension("kubeflow-tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("write {}", temporary.display()))?;
    file.write_all(to_yaml(config)?.as_bytes()).context("write a kubeconfig")?;
    file.sync_all().context("write a kubeconfig")?;
    fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))
}

/// The user's own kubeconfig: the first of `$KUBECONFIG`, else `~/.kube/config`.
pub fn of_user() -> Option<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    match listed {
        Some(list) => std::env::split_paths(&list).next(),
        None => std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")),
    }
}

/// Adds or renews our context in the user's kubeconfig; everything else, the current context too, stays as it is.
///
/// # Errors
/// When the file cannot be read as a kubeconfig or not be written; then it is left alone.
pub fn merge(path: &Path, own: &Value) -> Result<()> {
    let mut config = match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => {
            serde_saphyr::from_str::<Value>(&text).with_context(|| format!("read {}", path.display()))?
        }
        _ => json!({"apiVersion": "v1", "kind": "Config", "current-context": NAME}),
    };
    let before = config.clone();
    for list in ["clusters", "users", "contexts"] {
        let mut entries = config[list].as_array().cloned().unwrap_or_default();
        entries.retain(|entry| entry["name"] != NAME);
        entries.extend(own[list].as_array().cloned().unwrap_or_default());
        config[list] = Value::Array(entries);
    }
    if config == before { Ok(()) } else { write(path, &config) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_other_contexts_and_choice_stay() {
        let folder = std::env::temp_dir().join(format!("kubeflow-kubeconfig-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("config");
        fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: work\ncontexts:\n- name: work\n  context: {cluster: c}\n",
        )
        .expect("a file");
        let own = render("https://127.0.0.1:6443", "pem", "secret", "kubeflow");
        merge(&path, &own).expect("merged");
        merge(&path, &own).expect("merged again");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600, "a token stands in it");
        let link = folder.join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        merge(&link, &render("https://127.0.0.1:6444", "pem", "secret", "kubeflow")).expect("merged through a link");
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        let text = fs::read_to_string(&path).expect("a file");
        assert!(text.contains("6444"));
        let config: Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(config["current-context"], json!("work"));
        assert_eq!(config["contexts"].as_array().map(Vec::len), Some(2));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
