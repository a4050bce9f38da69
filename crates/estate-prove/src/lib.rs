//! Invariants to SMT, solver processes.
