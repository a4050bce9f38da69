//! Revocation lists, read by `x509-parser`; `openssl.rs` has OpenSSL obey one.

use crate::kit::{Domain, NOW, serial};
use spiffe::crl::{self, CrlParams, Revoked};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

#[test]
fn a_list_says_what_it_was_given() {
    let domain = Domain::new("example.org");
    let revoked = [serial(), serial()].map(|serial| Revoked { serial, at: NOW });
    for number in [0, 127, 128, u64::MAX] {
        let params = CrlParams {
            number,
            this_update: NOW,
            next_update: NOW.plus_secs(60),
        };
        let der = crl::build(&domain.issuing, &params, &revoked).unwrap();
        let (rest, list) = CertificateRevocationList::from_der(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(list.crl_number().unwrap().to_string(), number.to_string());
        let serials: Vec<_> = list
            .iter_revoked_certificates()
            .map(|entry| entry.raw_serial().to_vec())
            .collect();
        assert_eq!(
            serials,
            revoked.map(|entry| entry.serial.as_bytes().to_vec())
        );
        let signature = list.signature_value.data.as_ref();
        let signed = list.tbs_cert_list.as_ref();
        let key = domain.issuing.public_key();
        assert!(key.verify(signed, signature).is_ok());
    }
}
