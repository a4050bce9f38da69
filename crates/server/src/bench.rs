//! Entry points of the issuance benchmark.
