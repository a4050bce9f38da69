//! Roots that makers of TPMs publish for the endorsement keys of their chips, as data. Where each comes from
//! is in `data/README.md`.
//!
//! None of them counts by being here: a join is judged by what the estate declares, and nothing else.

use std::fmt;

/// One root, as its maker publishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorRoot {
    /// The maker, as commands and estates name it.
    pub vendor: &'static str,
    pub pem: &'static str,
    /// Of the DER, lower-case hexadecimal.
    pub sha256: &'static str,
    /// Where the maker publishes it.
    pub published: &'static str,
}

/// In alphabetical order of their makers.
pub const VENDOR_ROOTS: [VendorRoot; 4] = [
    VendorRoot {
        vendor: "infineon",
        pem: include_str!("../data/infineon.pem"),
        sha256: "cfeb02fecd55ad7a73c6e1d11985d4c47dee248ab63dcb66091a2489660443c3",
        published: "https://pki.infineon.com/OptigaEccRootCA/OptigaEccRootCA.crt",
    },
    VendorRoot {
        vendor: "intel",
        pem: include_str!("../data/intel.pem"),
        sha256: "2e1b3ba79af56d758be51697621bc4b9e8cee0983db3e749c55eb9b37c6d2ae0",
        published: "https://upgrades.intel.com/content/CRL/ekcert/EKRootPublicKey.cer",
    },
    VendorRoot {
        vendor: "nuvoton",
        pem: include_str!("../data/nuvoton.pem"),
        sha256: "2782e51a95e86d9557fe4204316cf805bd6f5898f81f9732e944d742bcdc5f54",
        published: "https://www.nuvoton.com/security/NTC-TPM-EK-Cert/Nuvoton%20TPM%20Root%20CA%201110.cer",
    },
    VendorRoot {
        vendor: "stmicroelectronics",
        pem: include_str!("../data/stmicroelectronics.pem"),
        sha256: "f27bf02c6e00c73d915eeb6a6a2f5fbf0c31ae0393149e6b5c31e41b113841c3",
        published: "https://secure.globalsign.com/cacert/gstpmroot.crt",
    },
];

/// The entry of an estate that declares this root.
impl fmt::Display for VendorRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vendor,
            pem,
            sha256,
            published,
        } = self;
        writeln!(f, "# SHA-256 {sha256}")?;
        writeln!(f, "# published at {published}")?;
        writeln!(f, "[[tpm_root]]")?;
        writeln!(f, "name = \"{vendor}\"")?;
        write!(f, "pem = \"\"\"\n{pem}\"\"\"\n")
    }
}
