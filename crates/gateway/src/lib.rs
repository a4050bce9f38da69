//! Connection, identity, decision, intent, forward, outcome: the protocol-neutral core.
