//! Browser sessions, one-time sign-in links, and the CSRF token of forms.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundation::clock::Clock;
use foundation::secret::Secret;
use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use records::{Db, Table};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::identity::Identity;
use crate::tokens::hash;

/// The cookie that names a session. No `__Host-` prefix: it demands TLS, and a laptop speaks plain HTTP on loopback.
pub const COOKIE: &str = "kubeflow_session";
/// A session ends after this time without a request …
const IDLE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// … and after this time in any case.
const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A sign-in link that nobody opened is worth nothing after this time.
const LINK_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// The time of last use is written at most this often, so that reading a page is not a write.
const TOUCH_EVERY: SignedDuration = SignedDuration::from_mins(15);

static SESSIONS: Table<Row> = Table::hot(11, "auth.sessions");
static LINKS: Table<LinkRow> = Table::hot(12, "auth.links");

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    identity: Identity,
    created_at: Timestamp,
    used_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LinkRow {
    identity: Identity,
    expires_at: Timestamp,
}

/// Why a session or a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error("the session could not be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sessions and links. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    db: Db,
    clock: Clock,
}

/// A session that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id: safe to log, worth nothing to a thief.
    pub id: String,
    /// Whose it is.
    pub identity: Identity,
}

impl Sessions {
    /// Sessions kept in `db`.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Opens a session; the secret goes into the cookie.
    ///
    /// # Errors
    /// When the store refuses the write.
    pub async fn open(&self, identity: Identity) -> Result<Secret, Error> {
        let secret = Secret::new(foundation::id::token(256));
        let (key, now) = (hash(secret.expose()), self.clock.now());
        let row = Row { identity, created_at: now, used_at: now };
        self.write(move |tx| {
            for (key, row) in SESSIONS.range(tx, "", None, usize::MAX)? {
                if ended(&row, now) {
                    SESSIONS.delete(tx, &key);
                }
            }
            Ok(SESSIONS.put(tx, &key, &row)?)
        })
        .await?;
        Ok(secret)
    }

    /// Whose session this secret opens.
    pub async fn find(&self, secret: &str) -> Option<Found> {
        let (key, now) = (hash(secret), self.clock.now());
        let row = self.db.read(|view| SESSIONS.get(view, &key)).ok().flatten()?;
        if ended(&row, now) {
            return None;
        }
        let found = Found { id: key.clone(), identity: row.identity.clone() };
        if now.duration_since(row.used_at) > TOUCH_EVERY {
            // Best effort: a full disk must not sign anybody out.
            let touched = Row { used_at: now, ..row };
            if let Err(error) = self.write(move |tx| Ok(SESSIONS.put(tx, &key, &touched)?)).await {
                tracing::debug!(error = %foundation::problem::chain(&error), "a session's last use was not noted");
            }
        }
        Some(found)
    }

    /// Whether a session goes on, by its id.
    pub fn is_open(&self, id: &str) -> bool {
        let row = self.db.read(|view| SESSIONS.get(view, id)).ok().flatten();
        row.is_some_and(|row| !ended(&row, self.clock.now()))
    }

    /// Ends a session by its id.
    ///
    /// # Errors
    /// When the store refuses the write.
    pub async fn close(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.write(move |tx| {
            SESSIONS.delete(tx, &id);
            Ok(())
        })
        .await
    }

    /// Makes a link's secret: it signs `identity` in once, within minutes.
    ///
    /// # Errors
    /// When the store refuses the write.
    pub async fn link(&self, identity: Identity) -> Result<Secret, Error> {
        let secret = Secret::new(foundation::id::token(256));
        let (key, now) = (hash(secret.expose()), self.clock.now());
        let row = LinkRow { identity, expires_at: now.saturating_add(LINK_LIFETIME).unwrap_or(Timestamp::MAX) };
        self.write(move |tx| {
            for (key, row) in LINKS.range(tx, "", None, usize::MAX)? {
                if row.expires_at <= now {
                    LINKS.delete(tx, &key);
                }
            }
            Ok(LINKS.put(tx, &key, &row)?)
        })
        .await?;
        Ok(secret)
    }

    /// Uses a link up; `None` for one that is unknown, used or too old.
    ///
    /// # Errors
    /// When the store refuses the write: then the link is still good.
    pub async fn consume(&self, secret: &str) -> Result<Option<Identity>, Error> {
        let (key, now) = (hash(secret), self.clock.now());
        self.write(move |tx| {
            let Some(row) = LINKS.get(tx, &key)? else { return Ok(None) };
            LINKS.delete(tx, &key);
            Ok((row.expires_at > now).then_some(row.identity))
        })
        .await
    }

    /// Whether a link would still work; looking does not use it up.
    pub fn link_is_good(&self, secret: &str) -> bool {
        let row = self.db.read(|view| LINKS.get(view, &hash(secret))).ok().flatten();
        row.is_some_and(|row| row.expires_at > self.clock.now())
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut records::Transaction<'_>) -> Result<T, records::RowError> + Send + 'static,
    ) -> Result<T, Error> {
        self.db.transact(work).await.map(|committed| committed.value).map_err(|error| Error::Store(Box::new(error)))
    }
}

fn ended(row: &Row, now: Timestamp) -> bool {
    now.duration_since(row.used_at) > IDLE || now.duration_since(row.created_at) > LIFETIME
}

/// The token that a session's forms carry: bound to the session, so another site cannot know it.
pub fn csrf_token(session_id: &str) -> String {
    let mac = csrf_mac(session_id).finalize().into_bytes();
    URL_SAFE_NO_PAD.encode(mac)
}

/// Whether a form's token belongs to this session.
pub fn csrf_matches(session_id: &str, token: &str) -> bool {
    csrf_token(session_id).as_bytes().ct_eq(token.as_bytes()).into()
}

/// The session's id is the hash of a secret that only the browser's cookie holds, so it serves as the key.
fn csrf_mac(session_id: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(session_id.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"kubeflow form");
    mac
}

/// How long the cookie may live in the browser.
pub fn cookie_lifetime() -> Duration {
    Duration::try_from(LIFETIME).unwrap_or(Duration::ZERO)
}
