//! The endorsement key and its certificate, where the TCG EK Credential Profile puts them.

use super::command::Hierarchy;
use super::{Error, Tpm, template};
use tpm2_protocol::data::TpmCc;

/// Where makers persist the RSA key (Profile 2.5, section 7.8).
const RSA_KEY: u32 = 0x8101_0001;
/// Certificates in the low range (section 2.2.1.4): RSA 2048 and ECC P-256.
pub(super) const RSA_CERTIFICATE: u32 = 0x01c0_0002;
pub(super) const P256_CERTIFICATE: u32 = 0x01c0_000a;

/// The endorsement key that a join uses.
#[derive(Debug)]
pub struct Endorsement {
    pub(super) handle: u32,
    /// `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// DER; empty when the chip holds none for this key.
    pub certificate: Vec<u8>,
}

impl Endorsement {
    /// Persistent, or a slot that is flushed with its [`Tpm`].
    #[must_use]
    pub const fn handle(&self) -> u32 {
        self.handle
    }
}

impl Tpm {
    /// The RSA key where its maker persisted it; else the key of the default template for which there
    /// is a certificate, RSA before P-256; else the RSA one without a certificate, to be pinned.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn endorsement(&mut self) -> Result<Endorsement, Error> {
        let rsa = self.endorsement_certificate(RSA_CERTIFICATE)?;
        if let Some(public) = self.read_public(RSA_KEY)? {
            return Ok(Endorsement {
                handle: RSA_KEY,
                public,
                certificate: rsa.unwrap_or_default(),
            });
        }
        let (template, certificate) = match rsa {
            Some(certificate) => (template::rsa_endorsement(), certificate),
            None => match self.endorsement_certificate(P256_CERTIFICATE)? {
                Some(certificate) => (template::p256_endorsement(), certificate),
                None => (template::rsa_endorsement(), Vec::new()),
            },
        };
        let template = template.map_err(|source| Error::Command {
            command: TpmCc::CreatePrimary,
            source,
        })?;
        self.create_endorsement(template, certificate)
    }

    /// The endorsement key of a default template, freshly derived.
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection.
    pub fn create_endorsement(
        &mut self,
        template: tpm2_protocol::data::TpmtPublic,
        certificate: Vec<u8>,
    ) -> Result<Endorsement, Error> {
        let key = self.create_primary(Hierarchy::Endorsement, template)?;
        Ok(Endorsement {
            handle: key.handle,
            public: key.public,
            certificate,
        })
    }

    /// The certificate at an NV index, without the padding that some makers write after it: 0x1c00002
    /// (RSA 2048), 0x1c0000a (P-256), 0x1c00016 (P-384).
    ///
    /// # Errors
    /// [`Error`] of the chip or the connection; an index that is not there, not written, or not
    /// readable without a password is no error.
    pub fn endorsement_certificate(&mut self, index: u32) -> Result<Option<Vec<u8>>, Error> {
        let Some(written) = self.nv_written(index)? else {
            return Ok(None);
        };
        Ok(without_padding(self.nv_read(written)?))
    }
}

/// The one DER SEQUENCE at the start of `bytes`, if there is one.
pub(super) fn without_padding(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let length = match *bytes.get(..4)? {
        [0x30, 0x82, high, low] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [0x30, 0x81, length, _] => 3 + usize::from(length),
        _ => return None,
    };
    if length > bytes.len() {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::without_padding;

    #[test]
    fn padding_after_a_certificate_is_cut() {
        let padded = [&[0x30, 0x82, 0, 2, 7, 8][..], &[0xff; 9]].concat();
        assert_eq!(without_padding(padded).unwrap(), [0x30, 0x82, 0, 2, 7, 8]);
        for bytes in [&[][..], &[0; 32], &[0x30, 0x82, 0, 3, 7, 8]] {
            assert_eq!(without_padding(bytes.to_vec()), None);
        }
    }
}
