//! The one rustls crypto provider of the project, and the client of web servers that is made of it.

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// aws-lc behind rustls, X25519MLKEM768 preferred (rustls feature `prefer-post-quantum`).
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Where systems keep the authorities of the web, the first that is there.
const SYSTEM_AUTHORITIES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];
/// A list of authorities is a few hundred KiB.
const LONGEST: u64 = 16 << 20;

/// The authorities that a client was to believe cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{observed}")]
pub struct NoAuthorities {
    /// What was looked for, and where: the rest of a sentence that begins "expected".
    pub expected: String,
    pub observed: String,
}

/// A TLS client that believes the authorities in the PEM file `named`, of which each has to be usable, or those of the
/// system, which has some that nobody can use any more. It shows nothing of itself, and resumes nothing. Blocks on the
/// disk.
///
/// # Errors
/// [`NoAuthorities`].
pub fn client_trusting(named: Option<&Path>) -> Result<ClientConfig, NoAuthorities> {
    let (place, pem) = match named {
        Some(file) => (file.display().to_string(), read(file)),
        None => {
            let found = SYSTEM_AUTHORITIES
                .iter()
                .find_map(|file| read(Path::new(file)).ok());
            let found = found.ok_or_else(|| "no file that can be read".to_owned());
            (SYSTEM_AUTHORITIES.join(" or "), found)
        }
    };
    let config = pem.and_then(|pem| believing(&pem, named.is_some()));
    config.map_err(|observed| NoAuthorities {
        expected: format!("PEM certificates in {place}"),
        observed,
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut pem));
    match opened {
        Ok(_) if pem.len() as u64 > LONGEST => Err(format!("more than {LONGEST} bytes")),
        Ok(_) => Ok(pem),
        Err(error) => Err(error.to_string()),
    }
}

/// `every`: each certificate has to be usable.
fn believing(pem: &[u8], every: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let added = roots.add(certificate);
        if every {
            added.map_err(|error| error.to_string())?;
        }
    }
    if roots.is_empty() {
        return Err("no certificate".to_owned());
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_has_to_be_whole_and_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let observed = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let error = client_trusting(Some(&file)).unwrap_err();
            assert!(error.expected.contains("ca.pem"), "{error:?}");
            error.observed
        };
        assert_eq!(observed(""), "no certificate");
        let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(!observed(none).is_empty());
        assert_eq!(
            believing(none.as_bytes(), false).unwrap_err(),
            "no certificate"
        );
        let long = "#".repeat(usize::try_from(LONGEST).unwrap() + 1);
        assert!(observed(&long).starts_with("more than"));
        let missing = client_trusting(Some(&folder.path().join("none"))).unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
    }

    #[test]
    fn the_hybrid_key_exchange_is_preferred() {
        let first = provider().kx_groups.first().map(|group| group.name());
        assert_eq!(first, Some(rustls::NamedGroup::X25519MLKEM768));
    }
}
