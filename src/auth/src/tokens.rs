//! Bearer tokens: random secrets of which only the hash is kept.

use std::time::Duration;

use foundation::clock::Clock;
use foundation::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use records::{Db, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::identity::Identity;

/// Starts every token of ours, so that scanners for leaked secrets can find them.
const PREFIX: &str = "kubeflow_";
/// More tokens than a person keeps; the oldest of the same name goes first.
const TOKENS_MAX: usize = 1000;

static TOKENS: Table<Row> = Table::hot(10, "auth.tokens");

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    name: String,
    identity: Identity,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// Why a token could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error("the token could not be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes and recognises tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
    clock: Clock,
}

impl Tokens {
    /// Tokens kept in `db`.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Makes a token called `name`; it is shown this once. Without `lifetime` it lives until it is revoked.
    ///
    /// # Errors
    /// When the store refuses the write; then there is no token.
    pub async fn mint(&self, name: &str, identity: Identity, lifetime: Option<Duration>) -> Result<Secret, Error> {
        let token = Secret::new(format!("{PREFIX}{}", foundation::id::token(256)));
        let key = hash(token.expose());
        let now = self.clock.now();
        let expires_at = lifetime.map(|lifetime| {
            let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
            now.saturating_add(lifetime).unwrap_or(Timestamp::MAX)
        });
        let row = Row { name: name.to_owned(), identity, created_at: now, expires_at };
        self.db
            .transact(move |tx| {
                let mut rows = TOKENS.range(tx, "", None, usize::MAX)?;
                rows.sort_by_key(|(_, row)| row.created_at);
                let live = rows.len();
                for (index, (key, row)) in rows.into_iter().enumerate() {
                    let expired = row.expires_at.is_some_and(|at| at <= now);
                    if expired || index + TOKENS_MAX <= live {
                        TOKENS.delete(tx, &key);
                    }
                }
                TOKENS.put(tx, &key, &row)?;
                Ok::<_, records::RowError>(())
            })
            .await
            .map_err(|error| Error::Store(Box::new(error)))?;
        Ok(token)
    }

    /// Whose token this is; `None` for one that we do not know or that has expired.
    pub fn find(&self, token: &str) -> Option<Identity> {
        if !token.starts_with(PREFIX) {
            return None;
        }
        // Looking up the hash leaks nothing about the token by its timing.
        let row = self.db.read(|view| TOKENS.get(view, &hash(token))).ok().flatten()?;
        match row.expires_at {
            Some(at) if at <= self.clock.now() => None,
            _ => Some(row.identity),
        }
    }
}

/// The name under which a secret is kept.
pub(crate) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
