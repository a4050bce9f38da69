//! Builds certificates that an honest authority would not, from raw DER, independently of the code
//! under test.

use crate::kit::{Domain, NOW, serial};
use crypto::Signer;
use facts::Timestamp;
use std::sync::Arc;

pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match length {
        0..0x80 => bytes.push(u8::try_from(length).unwrap()),
        _ => {
            bytes.push(0x82);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            if length < 0x100 {
                bytes.truncate(1);
                bytes.extend([0x81, u8::try_from(length).unwrap()]);
            }
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

/// `id-ce` with this last arc.
pub(crate) fn extension(arc: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let mut content = vec![0x06, 0x03, 0x55, 0x1d, arc];
    if critical {
        content.extend([0x01, 0x01, 0xff]);
    }
    content.extend(der(0x04, value));
    der(0x30, &content)
}

/// Every part of a leaf, each replaceable.
pub(crate) struct Forged {
    pub(crate) version: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) key_usage: Option<Vec<u8>>,
    pub(crate) extended_key_usage: Option<Vec<u8>>,
    pub(crate) basic_constraints: Option<Vec<u8>>,
    pub(crate) uris: Vec<String>,
    pub(crate) san_critical: bool,
    pub(crate) more: Vec<Vec<u8>>,
    /// DER name and key; the issuing CA of the domain if there is none.
    pub(crate) issuer: Option<(Vec<u8>, Arc<dyn Signer>)>,
}

impl Default for Forged {
    /// Nothing is wrong with it.
    fn default() -> Self {
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            subject: vec![0x30, 0],
            not_before: NOW.minus_secs(60),
            not_after: NOW.plus_secs(3600),
            key_usage: Some(extension(0x0f, true, &[0x03, 0x02, 0x07, 0x80])),
            extended_key_usage: Some(extension(0x25, false, &usages(&[1, 2]))),
            basic_constraints: Some(extension(0x13, true, &[0x30, 0])),
            uris: vec!["spiffe://example.org/payments/api".to_owned()],
            san_critical: true,
            more: Vec::new(),
            issuer: None,
        }
    }
}

/// Extended key usages `id-kp` with these last arcs.
pub(crate) fn usages(arcs: &[u8]) -> Vec<u8> {
    let usages: Vec<u8> = arcs
        .iter()
        .flat_map(|arc| der(0x06, &[0x2b, 6, 1, 5, 5, 7, 3, *arc]))
        .collect();
    der(0x30, &usages)
}

impl Forged {
    /// The certificate, and that of the issuing CA of `domain`.
    pub(crate) fn chain(&self, domain: &Domain, key: &dyn Signer) -> Vec<Vec<u8>> {
        let of_domain = || {
            let name = subject(domain.issuing.certificate());
            (name, domain.issuing.signer().clone())
        };
        let (issuer, signer) = self.issuer.clone().unwrap_or_else(of_domain);
        let names: Vec<u8> = self
            .uris
            .iter()
            .flat_map(|uri| der(0x86, uri.as_bytes()))
            .collect();
        let mut extensions = Vec::new();
        for part in [
            &self.key_usage,
            &self.extended_key_usage,
            &self.basic_constraints,
        ] {
            extensions.extend(part.iter().flatten());
        }
        extensions.extend(extension(0x11, self.san_critical, &der(0x30, &names)));
        extensions.extend(self.more.concat());
        let algorithm = [
            0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
        ];
        let tbs = [
            self.version.clone(),
            der(0x02, serial().as_bytes()),
            algorithm.to_vec(),
            issuer.clone(),
            der(
                0x30,
                &[generalized(self.not_before), generalized(self.not_after)].concat(),
            ),
            self.subject.clone(),
            key.public_key().spki_der().to_vec(),
            der(0xa3, &der(0x30, &extensions)),
        ];
        let tbs = der(0x30, &tbs.concat());
        let signature = signer.sign(&tbs).unwrap();
        let bits = der(0x03, &[&[0], signature.as_slice()].concat());
        let leaf = der(0x30, &[tbs.as_slice(), &algorithm, &bits].concat());
        vec![leaf, domain.issuing.certificate().to_vec()]
    }
}

/// The DER name in a certificate.
pub(crate) fn subject(certificate: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate).unwrap();
    certificate.subject().as_raw().to_vec()
}

/// GeneralizedTime for every year: not what RFC 5280 wants before 2050, but read by everybody.
fn generalized(time: Timestamp) -> Vec<u8> {
    let text = time.to_string();
    let seconds = text.split('.').next().unwrap();
    let digits: Vec<u8> = seconds.bytes().filter(u8::is_ascii_digit).collect();
    der(0x18, &[digits.as_slice(), b"Z"].concat())
}
