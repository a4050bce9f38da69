//! What a vendor's service calls a document. Every part that a machine's evidence decides is hexadecimal or
//! decimal of fixed length, made here from numbers: no machine can name another path, host or query.

use attest_tee::Artefact;
use attest_tee::snp::{Generation, Tcb};
use crypto::hex;

/// Below a source's address.
///
/// AMD: "VCEK Certificate and KDS Interface Specification" (57230), section 4.
/// Intel: Provisioning Certification Service, version 4; its root's list as caching services (PCCS) have it.
pub(crate) fn of(artefact: &Artefact) -> String {
    match artefact {
        Artefact::SnpKey {
            generation,
            chip,
            tcb,
        } => {
            let chip = hex::encode(chip);
            // Two digits for each byte.
            let digits = match generation {
                Generation::Milan | Generation::Genoa => 128,
                Generation::Turin => 16,
            };
            let chip = chip.get(..digits).unwrap_or_default();
            let product = generation.name();
            let Tcb {
                fmc,
                bootloader,
                tee,
                snp,
                microcode,
            } = Tcb::read(*tcb, *generation);
            let fmc = match generation {
                Generation::Milan | Generation::Genoa => String::new(),
                Generation::Turin => format!("fmcSPL={fmc:02}&"),
            };
            format!(
                "/vcek/v1/{product}/{chip}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&\
                 snpSPL={snp:02}&ucodeSPL={microcode:02}"
            )
        }
        Artefact::SnpCrl { generation } => format!("/vcek/v1/{}/crl", generation.name()),
        Artefact::TcbInfo { tdx, fmspc } => format!(
            "/{}/certification/v4/tcb?fmspc={}",
            machine(*tdx),
            hex::encode(fmspc)
        ),
        Artefact::QeIdentity { tdx } => {
            format!("/{}/certification/v4/qe/identity", machine(*tdx))
        }
        Artefact::PckCrl { ca } => {
            format!("/sgx/certification/v4/pckcrl?ca={}&encoding=der", ca.word())
        }
        Artefact::IntelRootCrl => "/sgx/certification/v4/rootcacrl".to_owned(),
    }
}

/// The header that carries what signed the document.
pub(crate) const fn chain_headers(artefact: &Artefact) -> &'static [&'static str] {
    match artefact {
        Artefact::TcbInfo { .. } => &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"],
        Artefact::QeIdentity { .. } => &["sgx-enclave-identity-issuer-chain"],
        Artefact::PckCrl { .. } => &["sgx-pck-crl-issuer-chain"],
        Artefact::SnpKey { .. } | Artefact::SnpCrl { .. } | Artefact::IntelRootCrl => &[],
    }
}

/// Bytes that a document may have.
pub(crate) const fn longest(artefact: &Artefact) -> usize {
    match artefact {
        Artefact::SnpKey { .. } => 16 * 1024,
        _ => 1 << 20,
    }
}

const fn machine(tdx: bool) -> &'static str {
    if tdx { "tdx" } else { "sgx" }
}

/// Percent-decoded text (RFC 3986, section 2.1), as Intel's headers carry PEM.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let decoded = hex::decode(str::from_utf8(&digits).ok()?).ok()?;
        bytes.extend(decoded);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_are_asked_as_they_document_it() {
        let chip = "c1".repeat(64);
        for (name, path) in [
            (
                format!("snp-key:milan:{chip}:03010000000018d9"),
                format!("/vcek/v1/Milan/{chip}?blSPL=03&teeSPL=01&snpSPL=24&ucodeSPL=217"),
            ),
            (
                format!("snp-key:turin:{}:0103000400000048", "c1".repeat(8)),
                format!(
                    "/vcek/v1/Turin/{}?fmcSPL=01&blSPL=03&teeSPL=00&snpSPL=04&ucodeSPL=72",
                    "c1".repeat(8)
                ),
            ),
            ("snp-crl:genoa".to_owned(), "/vcek/v1/Genoa/crl".to_owned()),
            (
                "tcb-info:tdx:90c06f000000".to_owned(),
                "/tdx/certification/v4/tcb?fmspc=90c06f000000".to_owned(),
            ),
            (
                "qe-identity:sgx".to_owned(),
                "/sgx/certification/v4/qe/identity".to_owned(),
            ),
            (
                "pck-crl:platform".to_owned(),
                "/sgx/certification/v4/pckcrl?ca=platform&encoding=der".to_owned(),
            ),
        ] {
            assert_eq!(of(&name.parse().unwrap()), path);
        }
    }

    #[test]
    fn percent_signs_mean_bytes_or_nothing() {
        assert_eq!(percent_decoded("a%20b%0A").as_deref(), Some("a b\n"));
        for broken in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }
}
