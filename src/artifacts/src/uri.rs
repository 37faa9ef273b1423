//! Artifact URIs, and the paths at which a step finds what they name.

use std::fmt;

/// The scheme and bucket of everything that is kept by this platform. Source: KFP's default pipeline root.
pub const DEFAULT_ROOT: &str = "minio://mlpipeline/v2/artifacts";
/// The scheme that this platform stores itself.
pub const SCHEME: &str = "minio";

/// A URI of the store: `minio://<bucket>/<key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    bucket: String,
    key: Vec<String>,
}

/// Why a URI names nothing in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another scheme.
    #[error("{0:?} does not begin with minio://; other stores are not supported yet")]
    Scheme(String),
    /// `..`, an empty part or a NUL, with which it could lead out of the store.
    #[error("{0:?} has a part that is empty or leads out of the store")]
    Part(String),
}

impl Uri {
    /// Reads a URI. A query string is no part of the key; a slash at the end does not count.
    ///
    /// # Errors
    /// When it is of another scheme or has parts that a path must not have.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rest = text.strip_prefix("minio://").ok_or_else(|| Error::Scheme(text.to_owned()))?;
        let rest = rest.split('?').next().unwrap_or_default().trim_end_matches('/');
        let mut parts = rest.split('/').map(str::to_owned);
        let bucket = parts.next().unwrap_or_default();
        let key: Vec<String> = parts.collect();
        let bad = |part: &String| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if bad(&bucket) || key.iter().any(bad) {
            return Err(Error::Part(text.to_owned()));
        }
        Ok(Self { bucket, key })
    }

    /// The parts of the path within the store, the bucket first.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.bucket.as_str()).chain(self.key.iter().map(String::as_str))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}://{}", self.parts().collect::<Vec<_>>().join("/"))
    }
}

/// Where a step finds what a URI names. The SDK computes the same path itself, so it is not ours to choose.
/// Source: KFP SDK `artifact_types.py`.
pub fn local_path(uri: &str) -> String {
    for (scheme, prefix) in [("gs://", "/gcs/"), ("minio://", "/minio/"), ("s3://", "/s3/")] {
        if let Some(rest) = uri.strip_prefix(scheme) {
            return format!("{prefix}{rest}");
        }
    }
    match uri.strip_prefix("oci://") {
        Some(image) => format!("/oci/{}/models", image.replace('/', "_")),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_never_leads_out_of_the_store() {
        for bad in [
            "minio://../x",
            "minio://b/../../etc",
            "minio://b//c",
            "minio://",
            "gs://b/c",
            "/etc/passwd",
            "minio://b/./c",
        ] {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
        let uri = Uri::parse("minio://mlpipeline/v2/a/?region=x").expect("a URI");
        assert_eq!(uri.to_string(), "minio://mlpipeline/v2/a");
    }

    #[test]
    fn steps_find_artifacts_where_the_sdk_looks_for_them() {
        assert_eq!(local_path("minio://b/k"), "/minio/b/k");
        assert_eq!(local_path("gs://b/k"), "/gcs/b/k");
        assert_eq!(local_path("oci://r/i"), "/oci/r_i/models");
        assert_eq!(local_path("/data/x"), "/data/x");
    }
}
