//! Tokens with which a list goes on: the revision of its first page and the key to start after.
//!
//! Invariant: opaque to clients; a token that was tampered with is refused, never guessed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// What a token says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Token {
    /// `meta.k8s.io/v1`
    v: String,
    /// Revision of all pages; 0 when the rest may be newer.
    rv: i64,
    /// First key of the next page, relative to the collection.
    start: String,
}

impl Token {
    /// Goes on after `last` (relative to the collection) at `revision`.
    pub fn after(last: &str, revision: u64) -> Self {
        Self { v: "meta.k8s.io/v1".into(), rv: i64::try_from(revision).unwrap_or_default(), start: format!("{last}\0") }
    }

    /// The same place, but of whatever state is current.
    pub fn inconsistent(&self) -> Self {
        Self { rv: -1, ..self.clone() }
    }

    /// Revision to read at; none means current.
    pub fn revision(&self) -> Option<u64> {
        u64::try_from(self.rv).ok().filter(|r| *r > 0)
    }

    /// The last key of the page before.
    pub fn last(&self) -> &str {
        self.start.trim_end_matches('\0')
    }

    /// Text for the wire.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token; the error is the text Kubernetes answers.
    pub fn decode(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| "continue key is not valid: illegal base64 data at input byte 0".to_owned())?;
        let token: Self = serde_json::from_slice(&bytes)
            .map_err(|_| format!("continue key is not valid: {}", crate::facts::syntax::explain(&bytes)))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(format!(
                "continue key is not valid: server does not recognize this encoded version {:?}",
                token.v
            ));
        }
        if token.start.is_empty() {
            return Err("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)".into());
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_come_back(last in "[a-z/]{1,30}", revision in 1u64..1 << 40) {
            let token = Token::after(&last, revision);
            let back = Token::decode(&token.encode()).unwrap();
            prop_assert_eq!(back.last(), last);
            prop_assert_eq!(back.revision(), Some(revision));
        }

        #[test]
        fn anything_is_decoded_or_refused(text in ".{0,60}") {
            let _ = Token::decode(&text);
        }
    }
}
