//! Certificates that whoever asks for a pack holds, put beside the issuances that the pack has.

use crate::{Failure, files};
use facts::Finding;
use ledger::pack::{self, Trust};
use spiffe_core::recorded::Certificates;
use spiffe_core::x509::split_certificates;
use std::path::{Path, PathBuf};

/// A chain has some KiB.
const MAX_CHAIN: u64 = 1 << 20;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates in these files, DER.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let bytes = files::read(path, MAX_CHAIN)?.unwrap_or_default();
        let certificates = certificates(&bytes).filter(|certificates| !certificates.is_empty());
        found.extend(certificates.ok_or_else(|| unreadable(path))?);
    }
    Ok(found)
}

fn certificates(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = std::str::from_utf8(bytes).ok();
    let Some(text) = text.filter(|text| text.contains(BEGIN)) else {
        let split = split_certificates(bytes).ok()?;
        return Some(split.into_iter().map(<[u8]>::to_vec).collect());
    };
    let blocks = text.split(BEGIN).skip(1).map(|block| {
        let (base64, _) = block.split_once(END)?;
        let base64: String = base64.split_ascii_whitespace().collect();
        crypto::base64::decode(&base64).ok()
    });
    blocks.collect()
}

fn unreadable(path: &Path) -> Failure {
    Finding::new(
        "CLI-CERTIFICATE",
        format!("{} has no certificates that can be read", path.display()),
    )
    .expected("PEM with blocks `BEGIN CERTIFICATE`, or DER, of at most 1 MiB")
    .next("name the chain of an X.509-SVID, as `trilith files` writes it to svid.pem")
    .into()
}

/// `bytes` with `certificates`, verified by `trust`: a pack is not made that its reader would refuse.
pub(super) fn put_in(
    bytes: &[u8],
    certificates: &[Vec<u8>],
    trust: &Trust,
) -> Result<Vec<u8>, Failure> {
    let made = pack::with_certificates(bytes, certificates);
    let made = made.and_then(|made| {
        pack::verify_with(&made, trust, &Certificates)?;
        Ok(made)
    });
    made.map_err(|failure| {
        Finding::new(
            "CLI-CERTIFICATE",
            format!("the certificates do not go with the answer: {}", failure.message),
        )
        .expected("X.509-SVIDs whose issuances are in the pack, and the authorities above them")
        .observed(failure.section)
        .next(
            "name the whole chain, the SVID and every authority above it but the root, as `trilith files` writes it to svid.pem; where it is whole, ask about the SVID itself (trilith pack --issuance SERIAL --output FILE), or about a session that began with it",
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_as_pem_and_as_der() {
        let der = [&[0x30, 1, 7][..], &[0x30, 2, 8, 9]];
        let pem = |der: &[u8]| format!("text\n{BEGIN}\n{}\n{END}\n", crypto::base64::encode(der));
        let both: String = der.iter().map(|der| pem(der)).collect();
        let expected: Vec<Vec<u8>> = der.iter().map(|der| der.to_vec()).collect();
        assert_eq!(certificates(both.as_bytes()), Some(expected.clone()));
        assert_eq!(certificates(&der.concat()), Some(expected));
        for other in [
            "",
            "x",
            BEGIN,
            "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----",
        ] {
            let read = certificates(other.as_bytes()).filter(|found| !found.is_empty());
            assert_eq!(read, None, "{other}");
        }
    }
}
