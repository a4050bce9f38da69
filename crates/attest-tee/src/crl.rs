//! Certificate revocation lists of hardware vendors: signature by the issuer, window, serial numbers.

use attest::x509;
use facts::Timestamp;
use std::collections::BTreeSet;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Name;

/// Whether a revocation list has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Revocation {
    /// Without a list that is current, nothing is believed.
    #[default]
    Required,
    /// A list that is there counts, and has to be good and current; none is stated as `unchecked`.
    IfPresent,
}

/// A list whose signature was checked. Its time is checked at each use.
#[derive(Debug, Clone)]
pub(crate) struct Crl {
    issuer: Vec<u8>,
    /// SHA-256 of the issuer's key.
    key: [u8; 32],
    this_update: i64,
    next_update: i64,
    revoked: BTreeSet<Vec<u8>>,
}

impl Crl {
    /// Reads a DER list and checks that `issuer` signed it and may.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn open(der: &[u8], issuer: &X509Certificate<'_>) -> Result<Self, &'static str> {
        let list = x509::parse_list(der)?;
        if list.issuer().as_raw() != issuer.subject().as_raw() {
            return Err("issued by another authority");
        }
        match issuer.key_usage() {
            Ok(Some(usage)) if !usage.value.crl_sign() => {
                return Err("its issuer's key may not sign revocation lists");
            }
            Ok(_) => {}
            Err(_) => return Err("unreadable key usage of its issuer"),
        }
        x509::verify(
            issuer.public_key(),
            &list.signature_algorithm,
            list.tbs_cert_list.as_ref(),
            &list.signature_value.data,
        )?;
        let next_update = list.next_update().ok_or("no time of its next update")?;
        Ok(Self {
            issuer: issuer.subject().as_raw().to_vec(),
            key: crypto::sha256(issuer.public_key().raw),
            this_update: list.last_update().timestamp(),
            next_update: next_update.timestamp(),
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| entry.raw_serial().to_vec())
                .collect(),
        })
    }

    /// Whether `authority` issued it: the same name and the same key.
    pub(crate) fn is_of(&self, authority: &X509Certificate<'_>) -> bool {
        self.issuer == authority.subject().as_raw()
            && self.key == crypto::sha256(authority.public_key().raw)
    }

    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        x509::asn1_time(now)
            .is_some_and(|now| (self.this_update..=self.next_update).contains(&now.timestamp()))
    }

    pub(crate) fn revokes(&self, certificate: &X509Certificate<'_>) -> bool {
        self.revoked.contains(certificate.raw_serial())
    }

    /// From when to when, in seconds since the Unix epoch.
    pub(crate) const fn span(&self) -> (i64, i64) {
        (self.this_update, self.next_update)
    }

    /// From when to when, in seconds since the Unix epoch, for people.
    pub(crate) fn window(&self) -> String {
        let show = |seconds: i64| {
            u64::try_from(seconds).map_or_else(
                |_| "before 1970".to_owned(),
                |seconds| Timestamp::from_secs(seconds).to_string(),
            )
        };
        format!("{} to {}", show(self.this_update), show(self.next_update))
    }
}

/// The name for people.
pub(crate) fn title(name: &X509Name<'_>) -> String {
    name.iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .map_or_else(|| name.to_string(), str::to_owned)
}
