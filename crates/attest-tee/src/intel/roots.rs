//! Intel's root of PCK certificates and collateral.

use attest::x509;
use facts::Finding;

/// One self-signed root: its signature on itself is checked when it is made, its validity at each use.
/// The default has none and accepts nothing.
#[derive(Debug, Clone, Default)]
pub struct Roots(Option<Vec<u8>>);

impl Roots {
    /// The one that Intel publishes; `data/README.md` says where it is from.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`; not for the file that is shipped, which a test reads.
    pub fn intel() -> Result<Self, Finding> {
        Self::from_pem(include_str!("../../data/intel/sgx-root.pem"))
    }

    /// A PEM text with one self-signed authority.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`.
    pub fn from_pem(pem: &str) -> Result<Self, Finding> {
        read(pem).map(|der| Self(Some(der))).map_err(|problem| {
            Finding::new(
                "TEE-ROOT-STRUCTURE",
                "a vendor's root is no self-signed authority",
            )
            .expected("PEM of one self-signed authority")
            .observed(problem)
            .next("take the root as its vendor publishes it")
        })
    }

    /// DER, empty without a root.
    pub(crate) fn der(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Also AWS's root is read like this.
pub(crate) fn read(pem: &str) -> Result<Vec<u8>, &'static str> {
    let mut blocks = x509::pem(pem)?;
    let der = blocks.pop().ok_or("no certificate")?;
    if !blocks.is_empty() {
        return Err("more than one certificate");
    }
    let root = x509::parse(&der)?;
    x509::may_certify(&root, None)?;
    if root.subject() != root.issuer() {
        return Err("a certificate that another authority issued");
    }
    x509::signed_by(&root, &root)?;
    Ok(der)
}
