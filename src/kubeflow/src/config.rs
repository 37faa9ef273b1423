//! Every setting once: its name, default, variable and what it is for; and where each effective value came from.
//!
//! Precedence: flags, environment (`KUBEFLOW_*`), `config.yaml`, defaults. `config/defaults.yaml` lists the same settings
//! (a test compares).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in `config.yaml`.
    pub name: &'static str,
    /// Its default, as text.
    pub default: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

/// All settings. The data folder is none of them: it says where `config.yaml` is.
pub const SETTINGS: [Setting; 11] = [
    Setting { name: "listen", default: "127.0.0.1:8080", doc: "Address of the dashboard and the APIs" },
    Setting { name: "kubeListen", default: "127.0.0.1:6443", doc: "Address of the Kubernetes API" },
    Setting { name: "localCaller", default: "true", doc: "Whether your own programs may use the APIs without a token" },
    Setting { name: "clientConfig", default: "true", doc: "Whether to add the context kubeflow to your kubeconfig" },
    Setting { name: "log", default: "info", doc: "What to log: a level, or target=level pairs" },
    Setting { name: "logFormat", default: "text", doc: "How to log: text or json" },
    Setting {
        name: "images.standIn",
        default: "always",
        doc: "Whether another Python minor may stand in: always or never",
    },
    Setting { name: "runtime", default: "best", doc: "How pods run: best (what this host allows) or process" },
    Setting { name: "logs.keepDays", default: "30", doc: "Days after a run's end when its logs go; 0: never" },
    Setting { name: "logs.keepGiB", default: "10", doc: "GiB of logs beyond which the oldest go; 0: any number" },
    Setting { name: "uv", default: "", doc: "The uv to build environments with; empty: look for one, else fetch it" },
];

/// No number of days or GiB that makes sense is larger.
const NUMBER_MAX: u32 = 1_000_000;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable.
    Environment,
    /// `config.yaml`.
    File,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "config.yaml",
            Self::Default => "default",
        })
    }
}

/// The effective settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data_dir: PathBuf,
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Config {
    /// Works out the effective values. `flags` are those of the command line, by setting.
    ///
    /// # Errors
    /// When `config.yaml` cannot be read, holds something that is no setting, or a value that does not fit.
    pub fn load(
        data_dir: Option<PathBuf>,
        file: Option<&Path>,
        flags: &[(&'static str, Option<String>)],
    ) -> Result<Self> {
        let data_dir = data_dir.map_or_else(default_data_dir, Ok)?;
        let data_dir = std::path::absolute(&data_dir).context("find the data folder")?;
        let from_file = read_file(file.unwrap_or(&data_dir.join("config.yaml")), file.is_some())?;
        let mut values = BTreeMap::new();
        for setting in &SETTINGS {
            let flag = flags.iter().find(|(name, _)| *name == setting.name).and_then(|(_, value)| value.clone());
            let found = flag
                .map(|value| (value, Origin::Flag))
                .or_else(|| std::env::var(variable(setting.name)).ok().map(|value| (value, Origin::Environment)))
                .or_else(|| from_file.get(setting.name).cloned().map(|value| (value, Origin::File)))
                .unwrap_or_else(|| (setting.default.to_owned(), Origin::Default));
            values.insert(setting.name, found);
        }
        let config = Self { data_dir, values };
        config.check()?;
        Ok(config)
    }

    /// A value as text.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(value, _)| value.as_str())
    }

    /// Where a value came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.values.get(name).map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// An address.
    ///
    /// # Errors
    /// When it is none.
    pub fn address(&self, name: &str) -> Result<SocketAddr> {
        let text = self.text(name);
        text.parse().with_context(|| format!("read the setting {name}: {text:?} is not an address like 127.0.0.1:8080"))
    }

    /// True or false.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.text(name) {
            "true" => Ok(true),
            "false" => Ok(false),
            other => bail!("read the setting {name}: {other:?} is neither true nor false"),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none, or larger than anybody means.
    pub fn number(&self, name: &str) -> Result<u32> {
        let text = self.text(name);
        let number: u32 =
            text.parse().with_context(|| format!("read the setting {name}: {text:?} is no whole number"))?;
        if number > NUMBER_MAX {
            bail!("read the setting {name}: {number} is more than {NUMBER_MAX}");
        }
        Ok(number)
    }

    /// One of a few words.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn choice(&self, name: &str, words: &[&'static str]) -> Result<&'static str> {
        let text = self.text(name);
        let found = words.iter().find(|word| **word == text);
        found.copied().with_context(|| format!("read the setting {name}: {text:?} is none of {}", words.join(", ")))
    }

    /// Every setting with its value and origin.
    pub fn all(&self) -> impl Iterator<Item = (&'static Setting, &str, &Origin)> {
        SETTINGS.iter().map(|setting| (setting, self.text(setting.name), self.origin(setting.name)))
    }

    fn check(&self) -> Result<()> {
        for name in ["listen", "kubeListen"] {
            self.address(name)?;
        }
        for name in ["localCaller", "clientConfig"] {
            self.flag(name)?;
        }
        for name in ["logs.keepDays", "logs.keepGiB"] {
            self.number(name)?;
        }
        self.choice("logFormat", &["text", "json"])?;
        self.choice("images.standIn", &["always", "never"])?;
        self.choice("runtime", &["best", "process"])?;
        Ok(())
    }
}

/// `images.standIn` → `KUBEFLOW_IMAGES_STAND_IN`.
pub fn variable(name: &str) -> String {
    let mut text = "KUBEFLOW_".to_owned();
    for c in name.chars() {
        match c {
            '.' => text.push('_'),
            c if c.is_ascii_uppercase() => {
                text.push('_');
                text.push(c);
            }
            c => text.push(c.to_ascii_uppercase()),
        }
    }
    text
}

/// `$KUBEFLOW_DATA_DIR`, else where the desktop's rules say: `$XDG_DATA_HOME/kubeflow`, `~/.local/share/kubeflow`.
fn default_data_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("KUBEFLOW_DATA_DIR") {
        return Ok(folder.into());
    }
    if let Some(folder) = std::env::var_os("XDG_DATA_HOME").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("kubeflow"));
    }
    let home = std::env::var_os("HOME").context("find the data folder: HOME is not set; pass --data-dir")?;
    Ok(PathBuf::from(home).join(".local/share/kubeflow"))
}

fn read_file(path: &Path, must_exist: bool) -> Result<BTreeMap<String, String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let value: serde_json::Value = serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    let mut found = BTreeMap::new();
    flatten("", &value, &mut found);
    if let Some(unknown) = found.keys().find(|name| !SETTINGS.iter().any(|setting| setting.name == **name)) {
        bail!("read {}: {unknown:?} is no setting; `kubeflow config` lists them", path.display());
    }
    Ok(found)
}

fn flatten(prefix: &str, value: &serde_json::Value, into: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, into);
            }
        }
        serde_json::Value::Null => {}
        serde_json::Value::String(text) => {
            into.insert(prefix.to_owned(), text.clone());
        }
        other => {
            into.insert(prefix.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_defaults_lists_every_setting_with_its_default() {
        let text = include_str!("../../../config/defaults.yaml");
        let uncommented: String =
            text.lines().filter_map(|line| line.strip_prefix("#: ")).map(|line| format!("{line}\n")).collect();
        let value: serde_json::Value = serde_saphyr::from_str(&uncommented).expect("YAML");
        let mut found = BTreeMap::new();
        flatten("", &value, &mut found);
        let expected: BTreeMap<String, String> =
            SETTINGS.iter().map(|setting| (setting.name.to_owned(), setting.default.to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn variables_are_named_after_their_settings() {
        assert_eq!(variable("images.standIn"), "KUBEFLOW_IMAGES_STAND_IN");
        assert_eq!(variable("listen"), "KUBEFLOW_LISTEN");
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let folder = std::env::temp_dir().join(format!("kubeflow-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("config.yaml"), "listen: 127.0.0.1:9000\nimages: {standIn: never}\n")
            .expect("a file");
        let flags = [("listen", Some("127.0.0.1:9001".to_owned()))];
        let config = Config::load(Some(folder.clone()), None, &flags).expect("settings");
        assert_eq!((config.text("listen"), config.origin("listen")), ("127.0.0.1:9001", &Origin::Flag));
        assert_eq!((config.text("images.standIn"), config.origin("images.standIn")), ("never", &Origin::File));
        assert_eq!(config.origin("log"), &Origin::Default);
        std::fs::write(folder.join("config.yaml"), "lisen: x\n").expect("a file");
        assert!(Config::load(Some(folder.clone()), None, &[]).expect_err("unknown").to_string().contains("lisen"));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
