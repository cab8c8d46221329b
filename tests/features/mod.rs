//! What the gateway does, by behaviour.
