//! A pipeline package as people upload it: YAML or JSON, alone or in an archive, with an optional platform document.

use std::io::Read;

use foundation::problem::{Kind, Problem};
use serde_json::{Value, json};

use super::PipelineSpec;
use super::validate::{self, Invalid};

/// The largest package, packed or unpacked. Source: KFP `MaxFileLength`.
pub const PACKAGE_MAX_BYTES: u64 = 32 << 20;

/// A package that parsed and is valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// The first document, as it was sent.
    pub spec: Value,
    /// The second document (`platforms: kubernetes: …`), if there is one.
    pub platform: Option<Value>,
    /// The first document, typed.
    pub ir: PipelineSpec,
}

/// Why a package is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not YAML, or not what we expect in it.
    #[error("the package is not valid YAML: {0}")]
    Yaml(String),
    /// The file of KFP's first version.
    #[error("the package is an Argo Workflow, as KFP 1 compiled it; compile it again with kfp 2")]
    FirstVersion,
    /// It reads well but is no pipeline.
    #[error("the pipeline spec is not valid: {0}")]
    Shape(String),
    /// It is a pipeline that cannot run.
    #[error("the pipeline spec is not valid: {0}")]
    Spec(#[from] Invalid),
    /// The archive is broken or holds no package.
    #[error("the archive cannot be read: {0}")]
    Archive(String),
    /// Over the limit.
    #[error("the package is larger than {} MiB", PACKAGE_MAX_BYTES >> 20)]
    TooLarge,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let kind = if matches!(error, Error::TooLarge) { Kind::TooLarge } else { Kind::Invalid };
        Problem::new(kind, format!("Invalid input error: {error}"))
    }
}

impl Package {
    /// Reads an uploaded file; the name tells an archive from a document where the bytes do not.
    ///
    /// # Errors
    /// When it is no package, or one that cannot run.
    pub fn from_file(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() as u64 > PACKAGE_MAX_BYTES {
            return Err(Error::TooLarge);
        }
        let text = match (bytes, name) {
            ([0x1f, 0x8b, ..], _) => from_tar(bytes)?,
            ([b'P', b'K', 3, 4, ..], _) => from_zip(bytes)?,
            _ => bytes.to_vec(),
        };
        let text = String::from_utf8(text).map_err(|_| Error::Yaml("it is not UTF-8 text".to_owned()))?;
        Self::from_yaml(&text)
    }

    /// Reads YAML (and so JSON) of one or two documents.
    ///
    /// # Errors
    /// When it is no package, or one that cannot run.
    pub fn from_yaml(text: &str) -> Result<Self, Error> {
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, yaml_options())
            .map_err(|error| Error::Yaml(first_line(&error.to_string())))?;
        let mut documents = documents.into_iter().filter(|document| !document.is_null());
        let first = documents.next().ok_or_else(|| Error::Yaml("it is empty".to_owned()))?;
        let second = documents.next();
        if documents.next().is_some() {
            return Err(Error::Yaml("it has more than two documents".to_owned()));
        }
        Self::from_documents(first, second)
    }

    /// Reads what clients send as `pipeline_spec`: the document itself or, with a platform document beside it, a wrapper
    /// of both.
    ///
    /// # Errors
    /// When it is no package, or one that cannot run.
    pub fn from_json(value: Value) -> Result<Self, Error> {
        match value {
            Value::Object(mut map) if map.contains_key("pipeline_spec") || map.contains_key("pipelineSpec") => {
                let spec = map.remove("pipeline_spec").or_else(|| map.remove("pipelineSpec")).unwrap_or_default();
                let platform = map.remove("platform_spec").or_else(|| map.remove("platformSpec"));
                Self::from_documents(spec, platform)
            }
            other => Self::from_documents(other, None),
        }
    }

    /// What clients get back: the document, or the wrapper of both.
    pub fn document(&self) -> Value {
        match &self.platform {
            Some(platform) => json!({"pipeline_spec": self.spec, "platform_spec": platform}),
            None => self.spec.clone(),
        }
    }

    fn from_documents(spec: Value, platform: Option<Value>) -> Result<Self, Error> {
        let api_version = spec.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if api_version.starts_with("argoproj.io/") {
            return Err(Error::FirstVersion);
        }
        let spec = super::whole_numbers(spec);
        let ir: PipelineSpec = serde_json::from_value(spec.clone()).map_err(|error| Error::Shape(error.to_string()))?;
        let platform = platform.filter(|platform| platform.as_object().is_some_and(|map| !map.is_empty()));
        validate::check(&ir)?;
        Ok(Self { spec, platform, ir })
    }
}

/// PyYAML, which the SDK writes with, leaves the texts `y` and `n` unquoted: only `true` and `false` are booleans.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true, with_snippet: false }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn from_tar(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes).take(PACKAGE_MAX_BYTES + 1));
    let broken = |error: std::io::Error| Error::Archive(error.to_string());
    let mut only: Option<Vec<u8>> = None;
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        if !is_yaml(&name) {
            continue;
        }
        let content = read_bounded(entry)?;
        if base(&name) == "pipeline.yaml" {
            return Ok(content);
        }
        if only.replace(content).is_some() {
            return Err(Error::Archive("it holds several YAML files and none is pipeline.yaml".to_owned()));
        }
    }
    only.ok_or_else(|| Error::Archive("it holds no YAML file".to_owned()))
}

fn from_zip(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive =
        zip::ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|error| Error::Archive(error.to_string()))?;
    let mut names = Vec::new();
    for name in archive.file_names() {
        let name = name.map_err(|error| Error::Archive(error.to_string()))?;
        if is_yaml(&name) {
            names.push(name.into_owned());
        }
    }
    let name = match names.as_slice() {
        [] => return Err(Error::Archive("it holds no YAML file".to_owned())),
        [one] => one,
        many => many
            .iter()
            .find(|name| base(name) == "pipeline.yaml")
            .ok_or_else(|| Error::Archive("it holds several YAML files and none is pipeline.yaml".to_owned()))?,
    };
    read_bounded(archive.by_name(name).map_err(|error| Error::Archive(error.to_string()))?)
}

fn read_bounded(reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    reader.take(PACKAGE_MAX_BYTES + 1).read_to_end(&mut content).map_err(|error| Error::Archive(error.to_string()))?;
    if content.len() as u64 > PACKAGE_MAX_BYTES { Err(Error::TooLarge) } else { Ok(content) }
}

fn is_yaml(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json")
}

fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests;
