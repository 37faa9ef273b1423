//! What of the user's own configuration reaches environments and pods: proxies, certificates, package indexes.
//!
//! Read from the platform's environment and from pip's files; called by `images` (pods) and `environments` (builds).

use sandbox::spec::Mount;
use std::path::{Path, PathBuf};

/// Variables about the network that every program understands.
const NETWORK: [&str; 12] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];
/// Variables of pip that say where packages come from.
const PIP: [&str; 7] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_DEFAULT_TIMEOUT",
];
/// Keys of pip's files, and the variable by which uv learns the same.
const PIP_TO_UV: [(&str, &str); 4] = [
    ("index-url", "UV_DEFAULT_INDEX"),
    ("extra-index-url", "UV_INDEX"),
    ("find-links", "UV_FIND_LINKS"),
    ("trusted-host", "UV_INSECURE_HOST"),
];

/// Proxy and certificate settings for pods. Certificates below `/etc/ssl` and `/etc/pki` are visible there.
pub fn network_variables() -> Vec<(String, String)> {
    NETWORK.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// pip's settings for pods; local folders of wheels are not visible there and are left out.
pub fn pip_variables() -> Vec<(String, String)> {
    let set = PIP.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    set.filter(|(name, value)| name != "PIP_FIND_LINKS" || value.starts_with("http")).collect()
}

/// The user's pip file as the pod's global one.
pub fn pip_files() -> Vec<Mount> {
    let newest = pip_paths().into_iter().rev().find(|path| path.is_file());
    newest.map(|path| Mount::read_only(path, "/etc/pip.conf")).into_iter().collect()
}

/// For uv, what pip is told by its files and variables; uv's own variables win.
pub fn uv_variables() -> Vec<(String, String)> {
    let files: Vec<String> = pip_paths().iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let mut variables = Vec::new();
    for (key, uv) in PIP_TO_UV {
        if std::env::var_os(uv).is_some() {
            continue;
        }
        let own = std::env::var(format!("PIP_{}", key.to_uppercase().replace('-', "_"))).ok();
        let value = own.or_else(|| files.iter().rev().find_map(|text| pip_key(text, key)));
        if let Some(value) = value {
            let existing = value
                .split_whitespace()
                .filter(|part| part.contains("://") || Path::new(part).exists() || key == "trusted-host");
            let joined = existing.collect::<Vec<_>>().join(if key == "find-links" { "," } else { " " });
            if !joined.is_empty() {
                variables.push((uv.to_owned(), joined));
            }
        }
    }
    if std::env::var_os("SSL_CERT_FILE").is_none()
        && let Some(certificates) =
            std::env::var("PIP_CERT").ok().or_else(|| files.iter().rev().find_map(|text| pip_key(text, "cert")))
    {
        variables.push(("SSL_CERT_FILE".to_owned(), certificates));
    }
    variables
}

/// pip's files, the more specific ones last.
fn pip_paths() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/etc/pip.conf")];
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        paths.push(home.join(".pip/pip.conf"));
        paths.push(home.join(".config/pip/pip.conf"));
    }
    if let Some(own) = std::env::var_os("PIP_CONFIG_FILE") {
        paths.push(PathBuf::from(own));
    }
    paths
}

/// A key of the sections `[global]` and `[install]`; a value may go on in indented lines.
fn pip_key(text: &str, key: &str) -> Option<String> {
    let mut section = "";
    let mut found: Option<String> = None;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (section, inside) = (if matches!(name, "global" | "install") { "ours" } else { "" }, false);
        } else if inside && line.starts_with([' ', '\t']) && !trimmed.is_empty() {
            if let Some(value) = &mut found {
                value.push(' ');
                value.push_str(trimmed);
            }
        } else if let Some((name, value)) = trimmed.split_once('=') {
            inside = section == "ours" && name.trim().replace('_', "-") == key;
            if inside {
                found = Some(value.trim().to_owned());
            }
        } else {
            inside = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_pip_files() {
        let text = "[global]\nindex-url = https://a/simple\n[freeze]\nindex-url = no\n[install]\nextra_index_url =\n  https://b\n  https://c\n";
        assert_eq!(pip_key(text, "index-url").as_deref(), Some("https://a/simple"));
        assert_eq!(
            pip_key(text, "extra-index-url").map(|value| value.trim().to_owned()).as_deref(),
            Some("https://b https://c")
        );
        assert_eq!(pip_key(text, "cert"), None);
    }
}
