//! The stable code that each of this crate's errors carries. Not an error type itself.

/// An error with a stable code, listed in `docs/reference/findings.md`.
pub trait Code {
    /// Upper-case words joined by `-`: `LEDGER-RECEIPT-PROOF`.
    fn code(&self) -> &'static str;
}
