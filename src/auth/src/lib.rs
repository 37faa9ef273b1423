//! Who are you, and what may you do: identities, tokens, sessions, the local caller, authorization.
