//! AMD's roots and intermediates: what a report's key has to chain to.

use super::tcb::Generation;
use crate::crl::{Crl, title};
use attest::x509;
use facts::Finding;

/// Root (ARK) and intermediates (ASK for VCEKs, ASVK for VLEKs) of generations. The signatures of the
/// root on the intermediates are checked when it is made, validity and revocation at each use.
#[derive(Debug, Clone, Default)]
pub struct Roots(Vec<Root>);

#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) generation: Generation,
    pub(super) ark: Vec<u8>,
    pub(super) intermediates: Vec<Vec<u8>>,
}

impl Roots {
    /// Those that AMD publishes for Milan, Genoa and Turin; `data/README.md` says where they are from.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`; not for the files that are shipped, which a test reads.
    pub fn amd() -> Result<Self, Finding> {
        let mut roots = Self::default();
        for (generation, pem) in [
            (Generation::Milan, include_str!("../../data/amd/milan.pem")),
            (Generation::Genoa, include_str!("../../data/amd/genoa.pem")),
            (Generation::Turin, include_str!("../../data/amd/turin.pem")),
        ] {
            roots.add(generation, pem)?;
        }
        Ok(roots)
    }

    /// Adds the chain of one generation: PEM of one self-signed root and what it signed, in any order.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`.
    pub fn add(&mut self, generation: Generation, pem: &str) -> Result<(), Finding> {
        let root = read(generation, pem).map_err(|problem| {
            Finding::new(
                "TEE-ROOT-STRUCTURE",
                "a vendor's root is no chain of authorities",
            )
            .expected("PEM of one self-signed authority and of authorities that it signed")
            .observed(problem)
            .next("take the chain as AMD's key server returns it")
        })?;
        self.0.push(root);
        Ok(())
    }

    /// Adds intermediates that a root which is here already signed: PEM, as AMD's key server returns
    /// chains. Where they come from does not matter; a root among them that is not here is not added.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE` for a certificate that no root here signed.
    pub fn extend(&mut self, pem: &str) -> Result<(), Finding> {
        let mut extend = || -> Result<(), &'static str> {
            for der in x509::pem(pem)? {
                if self.0.iter().any(|root| root.ark == der) {
                    continue;
                }
                let certificate = x509::parse(&der)?;
                x509::may_certify(&certificate, None)?;
                let signer = self.0.iter_mut().find(|root| {
                    x509::parse(&root.ark).is_ok_and(|ark| {
                        certificate.issuer().as_raw() == ark.subject().as_raw()
                            && x509::signed_by(&certificate, &ark).is_ok()
                    })
                });
                let root = signer.ok_or("an authority that no root of the references signed")?;
                if !root.intermediates.contains(&der) {
                    root.intermediates.push(der);
                }
            }
            Ok(())
        };
        extend().map_err(|problem| {
            Finding::new(
                "TEE-ROOT-STRUCTURE",
                "a chain does not hang below the roots of the references",
            )
            .expected("PEM of authorities that one of the roots signed")
            .observed(problem)
            .next("take the chain as AMD's key server returns it")
        })
    }

    /// The raw name of a generation's root.
    pub(crate) fn subject(&self, generation: Generation) -> Option<Vec<u8>> {
        let root = self.0.iter().find(|root| root.generation == generation)?;
        let ark = x509::parse(&root.ark).ok()?;
        Some(ark.subject().as_raw().to_vec())
    }

    /// DER of a generation's root.
    pub(crate) fn root(&self, generation: Generation) -> Option<&[u8]> {
        let root = self.0.iter().find(|root| root.generation == generation)?;
        Some(&root.ark)
    }

    /// A revocation list of a generation's root; its time is not looked at.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn list(&self, generation: Generation, der: &[u8]) -> Result<Crl, &'static str> {
        let root = self.root(generation).ok_or("there is no root")?;
        Crl::open(der, &x509::parse(root)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }
}

fn read(generation: Generation, pem: &str) -> Result<Root, String> {
    let mut ark = None;
    let mut intermediates = Vec::new();
    for der in x509::pem(pem)? {
        let certificate = x509::parse(&der)?;
        x509::may_certify(&certificate, None)?;
        if certificate.subject() != certificate.issuer() {
            intermediates.push(der);
        } else if ark.replace(der).is_some() {
            return Err("two roots".to_owned());
        }
    }
    let ark = ark.ok_or("no root")?;
    let root = x509::parse(&ark)?;
    x509::signed_by(&root, &root)?;
    for der in &intermediates {
        let certificate = x509::parse(der)?;
        if certificate.issuer() != root.subject() {
            return Err(format!("{} has another root", title(certificate.subject())));
        }
        x509::signed_by(&certificate, &root)?;
    }
    Ok(Root {
        generation,
        ark,
        intermediates,
    })
}
