//! Identifiers and random names.

use std::fmt;
use std::sync::Arc;

use rand::Rng;

/// The letters that Kubernetes draws generated names from: no vowels (no words), no characters that look alike.
/// Source: `k8s.io/apimachinery` `rand.String`.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const URL_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A random (version 4) UUID in its usual form.
pub fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// `len` random characters that may end a Kubernetes name.
pub fn random_suffix(len: usize) -> String {
    draw(NAME_ALPHABET, len)
}

/// A secret of `bits` bits at least, in characters that need no escaping in a URL or a header.
pub fn token(bits: usize) -> String {
    draw(URL_ALPHABET, bits.div_ceil(6))
}

/// Names one request in logs, answers and pages: 32 hexadecimal digits, as W3C trace contexts have it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceId(Arc<str>);

impl TraceId {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "two of them are never equal")]
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string().into())
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn draw(alphabet: &[u8], len: usize) -> String {
    let mut rng = rand::rng();
    (0..len).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_the_bits_they_promise_and_never_repeat() {
        let (one, two) = (token(256), token(256));
        assert_eq!(one.len(), 43);
        assert_ne!(one, two);
    }

    #[test]
    fn a_suffix_is_valid_at_the_end_of_a_kubernetes_name() {
        assert!(random_suffix(200).bytes().all(|b| NAME_ALPHABET.contains(&b)));
    }
}
