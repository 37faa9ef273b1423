//! Artifacts of runs: what they are and what they hold.

use std::io::Read;

use auth::caller::Caller;
use axum::body::Body;
use foundation::problem::{Kind, Problem};

use super::Operations;
use crate::types::artifact::Artifact;

/// Read and sent in pieces of this size.
const CHUNK: usize = 256 << 10;

/// The one mapping of the store's errors.
fn problem(error: ::artifacts::store::Error) -> Problem {
    use ::artifacts::store::Error;
    let text = error.to_string();
    match error {
        Error::Uri(_) => {
            Problem::new(Kind::Unimplemented, "Only artifacts that this platform keeps can be read").because(text)
        }
        Error::NotFound { .. } => Problem::not_found(text),
        Error::TooLarge { .. } => Problem::new(Kind::TooLarge, text),
        Error::Disk { source, .. } => Problem::internal(text, source),
    }
}

impl Operations {
    /// An artifact that a task made.
    ///
    /// # Errors
    /// When there is none, or the caller may not.
    pub async fn artifact(
        &self,
        caller: &Caller,
        run_id: &str,
        task: &str,
        output: &str,
        index: usize,
    ) -> Result<Artifact, Problem> {
        let task = self.find_task(caller, run_id, task).await?;
        let found = task.outputs.artifacts.get(output).and_then(|list| list.get(index)).cloned();
        found.ok_or_else(|| Problem::not_found(format!("Task {} has no artifact {output:?}", task.path)))
    }

    /// The first bytes of an artifact that is a file.
    ///
    /// # Errors
    /// When it is not kept here or cannot be read.
    pub async fn artifact_head(&self, artifact: &Artifact, limit_bytes: u64) -> Result<Vec<u8>, Problem> {
        let (store, uri) = (self.artifacts.clone(), artifact.uri.clone());
        let read = move || -> Result<Vec<u8>, Problem> {
            let mut bytes = Vec::new();
            let file = store.open(&uri).map_err(problem)?;
            let read = file.take(limit_bytes).read_to_end(&mut bytes);
            read.map_err(|error| Problem::internal(format!("{uri} could not be read"), error))?;
            Ok(bytes)
        };
        let lost = |lost| Problem::internal("The artifact was not read", lost);
        foundation::tasks::blocking("read an artifact", read).await.map_err(lost)?
    }

    /// The whole content of an artifact that is a file, piece by piece.
    ///
    /// # Errors
    /// When it is not kept here or cannot be opened.
    pub async fn artifact_content(&self, artifact: &Artifact) -> Result<Body, Problem> {
        let (store, uri) = (self.artifacts.clone(), artifact.uri.clone());
        let opened = foundation::tasks::blocking("open an artifact", move || store.open(&uri)).await;
        let opened = opened.map_err(|lost| Problem::internal("The artifact was not opened", lost))?;
        let file = opened.map_err(problem)?;
        let pieces = futures::stream::unfold(Some(file), |file| async move {
            let mut file = file?;
            let read = move || {
                let mut piece = vec![0; CHUNK];
                file.read(&mut piece).map(|len| {
                    piece.truncate(len);
                    (piece, file)
                })
            };
            match foundation::tasks::blocking("read an artifact", read).await {
                Ok(Ok((piece, _))) if piece.is_empty() => None,
                Ok(Ok((piece, file))) => Some((Ok(bytes::Bytes::from(piece)), Some(file))),
                Ok(Err(error)) => Some((Err(error), None)),
                Err(lost) => Some((Err(std::io::Error::other(lost)), None)),
            }
        });
        Ok(Body::from_stream(pieces))
    }
}
