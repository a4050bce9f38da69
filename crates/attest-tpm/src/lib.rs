//! TPM 2.0 verification: EK chains, credential activation, quotes.
