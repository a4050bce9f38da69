//! PCR 7: the policy of firmware, the authorities that were used, shim's revocation level.

use super::Judge;
use super::miss::Miss;
use crate::boot::references::SecureBootRule;
use crate::boot::secure_boot::{Authority, Permission, SecureBoot};
use crate::boot::{Meaning, sbat};
use crate::bytes::shown;
use crate::efi::Content;
use crypto::hex;
use facts::Finding;
use std::collections::BTreeSet;

const PCR: u32 = 7;

impl Judge<'_> {
    pub(super) fn secure_boot(&mut self) {
        if !self.is_open(PCR) || self.boot.pcrs.value(PCR).is_none() {
            return;
        }
        if !self.references.authorities.is_empty() {
            self.readable();
            let boot = self.boot;
            for authority in &boot.authorities {
                self.authority(authority);
            }
        }
        self.enabled();
        self.sbat();
    }

    /// A measurement in PCR 7 that is neither a sentence nor a variable could hide an authority.
    fn readable(&mut self) {
        let boot = self.boot;
        for one in boot.of(PCR) {
            if !self.boot.is_routine(one) && !matches!(one.meaning, Meaning::Variable { .. }) {
                self.unreadable(one);
            }
        }
    }

    pub(super) fn unreadable(&mut self, one: &crate::boot::Measurement) {
        self.misses.push(
            Finding::new(
                "BOOT-EVENT",
                format!("{} cannot be read{}", one.title(), one.note()),
            )
            .expected("a measurement whose meaning its digest proves")
            .observed(hex::encode(&one.digest))
            .next("give the whole PCR values of its own, if what measures this is known"),
        );
    }

    fn authority(&mut self, authority: &Authority) {
        let (digest, what) = match &authority.permission {
            Permission::Signature { content, .. } => (content.digest(), describe(content)),
            Permission::Other(sha256) => (sha256, "a value of its own".to_owned()),
            Permission::Sbat(_) | Permission::MokListTrusted => return,
        };
        let miss = Miss {
            code: "BOOT-AUTHORITY",
            message: format!(
                "event {} (PCR {PCR}): {} allowed an image by {what}, which is not among the \
                 reference values",
                authority.event,
                shown(&authority.variable),
            ),
            observed: hex::encode(digest),
            next: "if images of this authority may start, run trilith refs import with its certificate",
        };
        self.require(
            &self.references.authorities,
            |one| one == digest,
            |one| hex::encode(one),
            miss,
        );
    }
}

impl<const N: usize> Judge<'_, N> {
    /// What PCR 7 says beside authorities, wherever it is measured.
    pub(super) fn policy(&mut self) {
        if self.is_open(PCR) {
            self.enabled();
            self.sbat();
        }
    }

    fn enabled(&mut self) {
        let forbidden = !self.references.forbidden.is_empty();
        let asked = self.references.secure_boot == SecureBootRule::On;
        if !asked && !forbidden {
            return;
        }
        match &self.boot.secure_boot {
            Err(unknown) => self.misses.push(
                Finding::new("BOOT-SECURE-BOOT", "whether Secure Boot is on is unknown")
                    .expected("on")
                    .observed(unknown.to_string())
                    .next("start the machine again, and look at the firmware's set-up"),
            ),
            Ok(policy) => {
                if asked && !policy.enabled {
                    self.misses.push(
                        Finding::new("BOOT-SECURE-BOOT", "Secure Boot is off")
                            .expected("on")
                            .observed("off")
                            .next("turn it on in the firmware's set-up"),
                    );
                }
                self.forbidden(policy);
            }
        }
    }

    /// Everything that has to be forbidden by now is.
    fn forbidden(&mut self, policy: &SecureBoot) {
        let held: BTreeSet<&[u8; 32]> = policy
            .forbidden
            .iter()
            .map(|one| one.content.digest())
            .collect();
        let due = self.references.forbidden.iter();
        let missing: Vec<_> = due
            .filter(|value| value.window.holds(self.now) && !held.contains(&value.value))
            .collect();
        let Some(first) = missing.first() else {
            return;
        };
        self.misses.push(
            Finding::new(
                "BOOT-DBX",
                format!(
                    "dbx, of {} entries in {}, lacks {} that it has to hold",
                    held.len(),
                    self.boot.layout.policy_name(),
                    missing.len()
                ),
            )
            .expected(format!(
                "{} of {} ({})",
                hex::encode(&first.value),
                first.label,
                first.source
            ))
            .observed(format!(
                "dbx of SHA-256 {}",
                hex::encode(&policy.forbidden_sha256)
            ))
            .next("update dbx: fwupdmgr update, or the vendor's firmware"),
        );
    }

    /// The lowest level that shim measured is high enough: whoever runs later can only add one.
    fn sbat(&mut self) {
        for floor in &self.references.sbat {
            if !floor.window.holds(self.now) {
                continue;
            }
            let component = floor.value.component.as_str();
            let levels: Vec<Option<u64>> = self
                .boot
                .sbat_levels()
                .map(|text| sbat::level(text, component))
                .collect();
            let lowest = levels.iter().copied().min().flatten();
            if lowest.is_some_and(|level| level >= floor.value.at_least) {
                self.misses.matched(floor);
                continue;
            }
            self.misses.push(
                Finding::new(
                    "BOOT-SBAT",
                    format!(
                        "shim's revocation level ({}) of {} is too low",
                        self.boot.layout.policy_name(),
                        shown(component)
                    ),
                )
                .expected(format!(
                    "{} or higher, of {}",
                    floor.value.at_least, floor.label
                ))
                .observed(lowest.map_or_else(|| "none".to_owned(), |level| level.to_string()))
                .next("update shim and its revocations: apt-get upgrade shim-signed"),
            );
        }
    }
}

fn describe(content: &Content) -> String {
    match content {
        Content::Certificate {
            subject: Some(subject),
            ..
        } => format!("the certificate {}", shown(subject)),
        Content::Certificate { .. } => "a certificate that cannot be read".to_owned(),
        Content::Image(_) => "the digest of an image".to_owned(),
        Content::Other { kind, .. } => format!("an entry of type {kind}"),
    }
}
