//! The verifier trait and composition of verdicts.
