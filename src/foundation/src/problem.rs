//! What went wrong, in the four parts that a person needs: what failed, why, what it is about, what to do.
//!
//! Each protocol maps a [`Problem`] to its own shape in exactly one place (a Status object, a KFP error body, a page);
//! no handler picks a status code.

use std::error::Error as StdError;
use std::fmt;

/// The class of a problem; each protocol maps it to its code once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller sent something that can never work.
    Invalid,
    /// The state of the object forbids this act now.
    FailedPrecondition,
    /// No credentials, or none that we know.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// It does not exist, or the caller may not know that it does.
    NotFound,
    /// Something of this name is there already.
    AlreadyExists,
    /// Somebody else changed it in between.
    Conflict,
    /// The body or a part of it is over its limit.
    TooLarge,
    /// No room on the disk.
    Full,
    /// Not now; the same request may work later.
    Unavailable,
    /// A feature that does not exist here.
    Unimplemented,
    /// Our own fault.
    Internal,
}

/// A problem for a client.
#[derive(Debug)]
pub struct Problem {
    /// Its class.
    pub kind: Kind,
    /// What failed, with the name of the thing: a whole sentence.
    pub what: String,
    /// Why, where the reason is not the sentence itself; verbatim where it came from a process.
    pub cause: Option<String>,
    /// What to do about it: a command or an act.
    pub remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Problem {
    /// A problem of this kind; `what` names the thing that failed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), cause: None, remedy: None, source: None }
    }

    /// The caller sent something that can never work.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// It does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// Our own fault; `source` goes to the log, never to the client.
    pub fn internal(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(Kind::Internal, what) }
    }

    /// Says why.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Keeps the error underneath for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// All parts in one line, for protocols that have one field.
    pub fn sentence(&self) -> String {
        let mut text = self.what.clone();
        if let Some(cause) = &self.cause {
            text.push_str(": ");
            text.push_str(cause);
        }
        if let Some(remedy) = &self.remedy {
            if !text.ends_with(['.', '!', '?']) {
                text.push('.');
            }
            text.push(' ');
            text.push_str(remedy);
        }
        text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// An error and everything under it, joined by `: `, for a log line.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut under = error.source();
    while let Some(source) = under {
        text.push_str(": ");
        text.push_str(&source.to_string());
        under = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_one_sentence_and_keeps_its_source_for_the_log() {
        let problem = Problem::new(Kind::Full, "Run digits was not stored")
            .because("4 MiB are free in /data")
            .remedy("Free 60 MiB.")
            .caused_by(std::io::Error::other("no space"));
        assert_eq!(problem.to_string(), "Run digits was not stored: 4 MiB are free in /data. Free 60 MiB.");
        assert!(chain(&problem).ends_with("no space"));
    }
}
