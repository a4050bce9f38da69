//! Proof Key for Code Exchange (RFC 7636), by SHA-256 alone.

/// A fresh verifier, 43 characters as section 4.1 asks for.
#[must_use]
pub fn verifier() -> String {
    crypto::base64::encode_url(&crypto::random::<32>())
}

/// Section 4.2: `BASE64URL-ENCODE(SHA256(ASCII(code_verifier)))`.
#[must_use]
pub fn challenge(verifier: &str) -> String {
    crypto::base64::encode_url(&crypto::sha256(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn matches_rfc_7636() {
        // Appendix B.
        let challenge = super::challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_eq!(super::verifier().len(), 43);
    }
}
