//! The store of artifacts: today a folder of this machine.
//!
//! Invariant: what a step wrote is not trusted. No link inside the store is followed, neither when the platform reads nor
//! when a path is handed out to be mounted, so a step cannot make the platform open a file of the host.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::durable;
use crate::uri::{self, Uri};

/// How a step reaches what a URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Bound into the step from this path of the host.
    Mount {
        /// On the host.
        host: PathBuf,
        /// Whether it is a folder.
        is_dir: bool,
    },
    /// Nothing is there, or the store does not know the scheme; the step sees the URI only.
    Absent,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URI names nothing in this store.
    #[error(transparent)]
    Uri(#[from] uri::Error),
    /// Nothing is there.
    #[error("there is nothing at {uri}")]
    NotFound {
        /// The URI.
        uri: String,
    },
    /// More than the caller wants to hold.
    #[error("{uri} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The URI.
        uri: String,
        /// The caller's limit.
        limit_bytes: u64,
    },
    /// The disk said no.
    #[error("{uri} could not be {act}")]
    Disk {
        /// The URI.
        uri: String,
        /// `read`, `written`, `deleted`.
        act: &'static str,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

/// The store. Cheap to clone. Calls block: they belong on a thread that may.
#[derive(Debug, Clone)]
pub struct Store {
    root: Arc<PathBuf>,
}

impl Store {
    /// A store in a folder of this machine.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn local(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root: Arc::new(root.canonicalize()?) })
    }

    /// How a step reads what `uri` names.
    pub fn access(&self, uri: &str) -> Access {
        let Ok(parsed) = Uri::parse(uri) else { return Access::Absent };
        let host = self.path(&parsed);
        // A path with a link in it is another path once resolved.
        match host.canonicalize() {
            Ok(real) if real == host => Access::Mount { is_dir: real.is_dir(), host },
            _ => Access::Absent,
        }
    }

    /// Makes the folder of a prefix that a step may write below, and says where it is on the host.
    ///
    /// # Errors
    /// When the URI is not of this store or the folder cannot be made.
    pub fn prepare(&self, uri: &str) -> Result<PathBuf, Error> {
        let path = self.path(&Uri::parse(uri)?);
        let disk = |source| Error::Disk { uri: uri.to_owned(), act: "written", source };
        fs::create_dir_all(&path).map_err(disk)?;
        match path.canonicalize().map_err(disk)? {
            real if real == path => Ok(path),
            _ => Err(Error::Uri(uri::Error::Part(uri.to_owned()))),
        }
    }

    /// Writes an object; it is on disk when this returns.
    ///
    /// # Errors
    /// When the URI is not of this store or the disk refuses.
    pub fn put(&self, uri: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(&Uri::parse(uri)?);
        durable::write_file(&path, bytes).map_err(|source| Error::Disk { uri: uri.to_owned(), act: "written", source })
    }

    /// Reads an object of at most `limit_bytes`.
    ///
    /// # Errors
    /// When it is not there, is larger, or cannot be read.
    pub fn get(&self, uri: &str, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let file = self.open(uri)?;
        let mut bytes = Vec::new();
        let disk = |source| Error::Disk { uri: uri.to_owned(), act: "read", source };
        file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(disk)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(Error::TooLarge { uri: uri.to_owned(), limit_bytes });
        }
        Ok(bytes)
    }

    /// Opens an object for reading.
    ///
    /// # Errors
    /// When it is not there or cannot be read; a link counts as not there.
    pub fn open(&self, uri: &str) -> Result<File, Error> {
        let parsed = Uri::parse(uri)?;
        let disk = |source| Error::Disk { uri: uri.to_owned(), act: "read", source };
        let root = File::open(self.root.as_path()).map_err(disk)?;
        let relative: PathBuf = parsed.parts().collect();
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat2(&root, &relative, flags, Mode::empty(), beneath) {
            Ok(file) => Ok(File::from(file)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                Err(Error::NotFound { uri: uri.to_owned() })
            }
            Err(error) => Err(disk(error.into())),
        }
    }

    /// Removes an object or everything below a prefix. What is not there is fine.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete(&self, uri: &str) -> Result<(), Error> {
        let path = self.path(&Uri::parse(uri)?);
        let result = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Disk { uri: uri.to_owned(), act: "deleted", source: error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, uri: &Uri) -> PathBuf {
        let mut path = self.root.as_ref().clone();
        path.extend(uri.parts());
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_back_and_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::local(folder.path()).expect("a store");
        store.put("minio://b/a/x", b"hello").expect("written");
        assert_eq!(store.get("minio://b/a/x", 5).expect("read"), b"hello");
        assert!(matches!(store.get("minio://b/a/x", 4), Err(Error::TooLarge { .. })));
        assert!(matches!(store.get("minio://b/a/y", 4), Err(Error::NotFound { .. })));
        store.delete("minio://b/a").expect("deleted");
        assert!(matches!(store.get("minio://b/a/x", 5), Err(Error::NotFound { .. })));
    }

    #[test]
    fn a_link_that_a_step_left_behind_is_never_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::local(folder.path().join("store")).expect("a store");
        let prefix = store.prepare("minio://b/task").expect("a prefix");
        let secret = folder.path().join("secret");
        fs::write(&secret, "secret").expect("written");
        std::os::unix::fs::symlink(&secret, prefix.join("out")).expect("a link");
        std::os::unix::fs::symlink(folder.path(), prefix.join("dir")).expect("a link");
        assert!(matches!(store.open("minio://b/task/out"), Err(Error::NotFound { .. })));
        assert!(store.open("minio://b/task/dir/secret").is_err());
        assert_eq!(store.access("minio://b/task/out"), Access::Absent);
        assert_eq!(store.access("minio://b/task/dir/secret"), Access::Absent);
    }
}
