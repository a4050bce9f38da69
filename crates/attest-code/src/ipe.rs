//! Policies for the kernel's Integrity Policy Enforcement (Linux, Documentation/admin-guide/LSM/ipe.rst), made
//! from the reference values: only approved fs-verity digests execute.
//!
//! The kernel takes a policy signed by a key of its keyrings; with Secure Boot that is any key of the
//! firmware's db. It refuses one of a lower version than the one that it has under the same name.

use crate::certificate::Certificate;
use crate::cms::{self, Placement, SignedData};
use crate::fsverity::FsVerityDigest;
use crate::references::CodeDigest;
use crate::{CodeReferences, pem};
use crypto::Signer;
use facts::{Finding, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Digests in one policy: it is kernel memory.
const MAX_DIGESTS: usize = 16_384;
const MAX_POLICY: usize = 4 * 1024 * 1024;

/// `major.minor.revision`, compared in this order by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyVersion {
    pub major: u16,
    pub minor: u16,
    pub revision: u16,
}

impl std::fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)
    }
}

impl PolicyVersion {
    /// The next higher one; `None` after the highest.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        let Self {
            mut major,
            mut minor,
            mut revision,
        } = self;
        if let Some(next) = revision.checked_add(1) {
            revision = next;
        } else if let Some(next) = minor.checked_add(1) {
            (minor, revision) = (next, 0);
        } else {
            major = major.checked_add(1)?;
            (minor, revision) = (0, 0);
        }
        Some(Self {
            major,
            minor,
            revision,
        })
    }

    /// Reads `1.2.3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        });
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            revision: parts.next()??,
        };
        parts.next().is_none().then_some(version)
    }
}

/// What the kernel can ask about before it lets it happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Execute,
    Firmware,
    KernelModule,
    KexecImage,
    KexecInitramfs,
    Policy,
    X509Certificate,
}

impl Operation {
    const fn keyword(self) -> &'static str {
        match self {
            Self::Execute => "EXECUTE",
            Self::Firmware => "FIRMWARE",
            Self::KernelModule => "KMODULE",
            Self::KexecImage => "KEXEC_IMAGE",
            Self::KexecInitramfs => "KEXEC_INITRAMFS",
            Self::Policy => "POLICY",
            Self::X509Certificate => "X509_CERT",
        }
    }
}

/// What a policy is made of, beside the digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPlan {
    /// Letters, digits, `-`, `_` and `.`; the kernel keeps one policy under each name.
    pub name: String,
    pub version: PolicyVersion,
    /// The version that machines may have already; the new one has to be higher.
    pub after: Option<PolicyVersion>,
    /// What is denied unless a rule allows it. Everything else is allowed.
    pub deny: BTreeSet<Operation>,
    /// Allow what was in the initramfs that the firmware verified. Only until the root is switched: a file
    /// that is copied there later counts as well.
    pub boot_verified: bool,
}

/// A policy for one version of the references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpePolicy {
    plan: PolicyPlan,
    /// With the labels of each.
    digests: BTreeMap<FsVerityDigest, BTreeSet<String>>,
}

impl IpePolicy {
    /// A policy that lets the fs-verity digests execute that `references` approve at `now`.
    ///
    /// # Errors
    /// `IPE-NAME`, `IPE-VERSION`, `IPE-EMPTY`, `IPE-SIZE`.
    pub fn new(
        plan: PolicyPlan,
        references: &CodeReferences,
        now: Timestamp,
    ) -> Result<Self, Finding> {
        if !is_name(&plan.name) {
            return Err(Finding::new("IPE-NAME", "the policy cannot have this name")
                .expected("1 to 64 letters, digits, `-`, `_`, `.`, the first no `.`")
                .observed(format!("{:?}", plan.name)));
        }
        if let Some(after) = plan.after.filter(|after| plan.version <= *after) {
            return Err(Finding::new(
                "IPE-VERSION",
                "machines would refuse the policy as older than the one that they have",
            )
            .expected(format!("a version above {after}"))
            .observed(plan.version.to_string())
            .next("raise the version"));
        }
        let mut digests: BTreeMap<FsVerityDigest, BTreeSet<String>> = BTreeMap::new();
        for reference in references.digests() {
            if let CodeDigest::FsVerity(digest) = reference.digest
                && reference.window.is_open(now)
            {
                let labels = digests.entry(digest).or_default();
                labels.insert(reference.label.clone());
            }
        }
        if plan.deny.contains(&Operation::Execute) && digests.is_empty() {
            return Err(Finding::new(
                "IPE-EMPTY",
                "no program would run on a machine with this policy",
            )
            .expected("at least one fs-verity digest that the references approve now")
            .observed("none")
            .next("`trilith refs import` the packages that machines run"));
        }
        if digests.len() > MAX_DIGESTS {
            return Err(
                Finding::new("IPE-SIZE", "the policy is larger than a kernel should hold")
                    .expected(format!("at most {MAX_DIGESTS} digests"))
                    .observed(digests.len().to_string())
                    .next("approve by signature, or cut what a machine runs"),
            );
        }
        Ok(Self { plan, digests })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    #[must_use]
    pub const fn version(&self) -> PolicyVersion {
        self.plan.version
    }

    pub fn digests(&self) -> impl Iterator<Item = &FsVerityDigest> {
        self.digests.keys()
    }

    /// The policy in the kernel's language. The same references give the same bytes.
    #[must_use]
    pub fn text(&self) -> String {
        let PolicyPlan {
            name,
            version,
            deny,
            boot_verified,
            ..
        } = &self.plan;
        let mut text = format!("policy_name={name} policy_version={version}\n");
        text.push_str("DEFAULT action=ALLOW\n");
        for operation in deny {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "DEFAULT op={} action=DENY", operation.keyword());
        }
        if *boot_verified {
            for operation in deny {
                let keyword = operation.keyword();
                let _ = writeln!(text, "op={keyword} boot_verified=TRUE action=ALLOW");
            }
        }
        if deny.contains(&Operation::Execute) {
            for (digest, labels) in &self.digests {
                for label in labels {
                    let _ = writeln!(text, "# {}", ascii(label));
                }
                let _ = writeln!(text, "op=EXECUTE fsverity_digest={digest} action=ALLOW");
            }
        }
        text
    }

    /// The policy as the kernel's `new_policy` takes it: PKCS #7 in DER with the text inside, by the holder of
    /// `certificate`, which is DER or PEM. Its key is RSA, P-256 or P-384; what a kernel takes depends on how
    /// it was built, RSA always does.
    ///
    /// # Errors
    /// `IPE-SIGNER`.
    pub fn sign(&self, certificate: &[u8], signer: &dyn Signer) -> Result<SignedPolicy, Finding> {
        let der = self.signed(certificate, signer, Placement::Inside)?;
        Ok(SignedPolicy {
            name: self.plan.name.clone(),
            version: self.plan.version,
            text: self.text(),
            der,
        })
    }

    /// A signature over [`IpePolicy::text`] without the text: for tools that keep the two apart. The kernel
    /// does not take it.
    ///
    /// # Errors
    /// `IPE-SIGNER`.
    pub fn sign_detached(
        &self,
        certificate: &[u8],
        signer: &dyn Signer,
    ) -> Result<Vec<u8>, Finding> {
        self.signed(certificate, signer, Placement::Detached)
    }

    fn signed(
        &self,
        certificate: &[u8],
        signer: &dyn Signer,
        placement: Placement,
    ) -> Result<Vec<u8>, Finding> {
        let der = certificate_der(certificate);
        let certificate = Certificate::parse(&der).map_err(unusable)?;
        let key = certificate.key().map_err(unusable)?;
        if key != *signer.public_key() {
            return Err(unusable("a certificate for another key"));
        }
        cms::sign(self.text().as_bytes(), &certificate, signer, placement)
            .map_err(|error| unusable(&error.to_string()))
    }
}

/// A policy that an owner's key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPolicy {
    name: String,
    version: PolicyVersion,
    text: String,
    der: Vec<u8>,
}

impl SignedPolicy {
    /// Reads a signed policy. One of `certificates` (DER or PEM) has to be its signer's.
    ///
    /// # Errors
    /// `IPE-STRUCTURE`, `IPE-SIGNER`, `IPE-SIGNATURE`.
    pub fn verify(der: &[u8], certificates: &[&[u8]]) -> Result<Self, Finding> {
        let message = message(der)?;
        let trusted: Vec<Vec<u8>> = certificates
            .iter()
            .map(|one| certificate_der(one))
            .collect();
        let signer = trusted
            .iter()
            .filter_map(|one| Certificate::parse(one).ok())
            .find(|one| message.names(one))
            .ok_or_else(|| unusable("a signer whose certificate is not among the owner's"))?;
        message.signed_by(&signer).ok_or_else(|| {
            Finding::new("IPE-SIGNATURE", "the policy's signature does not verify")
                .expected(format!("a signature by {}", signer.title()))
        })?;
        Self::of(&message, der)
    }

    /// Reads a signed policy whose signature somebody else checks: a kernel takes none that no key of its
    /// keyrings signed.
    ///
    /// # Errors
    /// `IPE-STRUCTURE`.
    pub fn read(der: &[u8]) -> Result<Self, Finding> {
        Self::of(&message(der)?, der)
    }

    fn of(message: &SignedData<'_>, der: &[u8]) -> Result<Self, Finding> {
        let text = str::from_utf8(message.content).map_err(|_| malformed("no text"))?;
        let (name, version) = header(text).ok_or_else(|| malformed("no policy header"))?;
        if !is_name(name) {
            return Err(malformed("a name that is none"));
        }
        Ok(Self {
            name: name.to_owned(),
            version,
            text: text.to_owned(),
            der: der.to_vec(),
        })
    }

    /// What it lets execute; `None` if that is more than listed digests and the initramfs that the firmware
    /// verified, or a rule says something that is not understood here.
    #[must_use]
    pub fn execution(&self) -> Option<Execution> {
        Execution::read(&self.text)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn version(&self) -> PolicyVersion {
        self.version
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is written to `/sys/kernel/security/ipe/new_policy`.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What the kernel's audit records call `policy_digest`.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&self.der)
    }
}

/// What a policy lets execute, where it denies the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    pub digests: BTreeSet<FsVerityDigest>,
    /// Files of the initramfs that the firmware verified.
    pub boot_verified: bool,
}

impl Execution {
    /// The first rule that fits decides, else the default of the operation, else that of the policy
    /// (ipe.rst, "Policy"). Only rules that allow are understood: then their order does not matter.
    fn read(text: &str) -> Option<Self> {
        let lines = text.lines().map(|line| {
            let (line, _comment) = line.split_once('#').unwrap_or((line, ""));
            line.split_whitespace().collect::<Vec<_>>()
        });
        let mut lines = lines.filter(|words| !words.is_empty());
        lines.next()?;
        let (mut whole, mut own) = (None, None);
        let mut execution = Self {
            digests: BTreeSet::new(),
            boot_verified: false,
        };
        for words in lines {
            match words.as_slice() {
                ["DEFAULT", action] => whole = Some(*action == "action=DENY"),
                ["DEFAULT", "op=EXECUTE", action] => own = Some(*action == "action=DENY"),
                ["op=EXECUTE", "boot_verified=TRUE", "action=ALLOW"] => {
                    execution.boot_verified = true;
                }
                ["op=EXECUTE", property, "action=ALLOW"] => {
                    let digest = property.strip_prefix("fsverity_digest=")?;
                    let digest = FsVerityDigest::parse(digest).ok()?;
                    execution.digests.insert(digest);
                }
                ["op=EXECUTE", ..] => return None,
                ["DEFAULT", ..] => {}
                [operation, ..] if operation.starts_with("op=") => {}
                _ => return None,
            }
        }
        own.or(whole)?.then_some(execution)
    }
}

fn malformed(observed: &str) -> Finding {
    Finding::new("IPE-STRUCTURE", "the signed policy cannot be read")
        .expected("PKCS #7 in DER around a policy, with one signer")
        .observed(observed)
}

fn message(der: &[u8]) -> Result<SignedData<'_>, Finding> {
    if der.len() > MAX_POLICY {
        return Err(malformed("more than 4 MiB"));
    }
    SignedData::parse(der)
        .filter(|message| message.content_type == cms::DATA.as_bytes())
        .ok_or_else(|| malformed("another message"))
}

/// A name that is one folder of the kernel's.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().all(plain) && (1..=64).contains(&name.len()) && !name.starts_with('.')
}

/// `policy_name=NAME policy_version=1.2.3`, the first line that is not empty or a comment.
fn header(text: &str) -> Option<(&str, PolicyVersion)> {
    let line = text.lines().find_map(|line| {
        let (line, _comment) = line.split_once('#').unwrap_or((line, ""));
        Some(line.trim()).filter(|line| !line.is_empty())
    })?;
    let (name, version) = line.split_once(' ')?;
    let name = name.strip_prefix("policy_name=")?;
    let version = version.trim_start().strip_prefix("policy_version=")?;
    Some((name, PolicyVersion::parse(version)?))
}

/// DER, or the first certificate of a PEM file.
fn certificate_der(bytes: &[u8]) -> Vec<u8> {
    str::from_utf8(bytes)
        .ok()
        .and_then(|text| pem::decode("CERTIFICATE", text))
        .unwrap_or_else(|| bytes.to_vec())
}

fn unusable(observed: &str) -> Finding {
    Finding::new(
        "IPE-SIGNER",
        "the policy cannot be signed, or not be believed",
    )
    .expected("a certificate of the owner, with the key that signs")
    .observed(observed)
}

fn ascii(label: &str) -> String {
    let shown = |letter: char| {
        if letter.is_ascii_graphic() || letter == ' ' {
            letter
        } else {
            '?'
        }
    };
    label.chars().map(shown).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers_of_sixteen_bits() {
        let version = PolicyVersion::parse("1.2.65535").unwrap();
        assert_eq!(
            (version.major, version.minor, version.revision),
            (1, 2, 65_535)
        );
        assert!(version > PolicyVersion::parse("1.2.9").unwrap());
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.65536",
            "1.2.-3",
            "1..3",
            "1.2.+3",
        ] {
            assert_eq!(PolicyVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_next_version_is_higher_until_there_is_none() {
        let of = |text| PolicyVersion::parse(text).unwrap();
        assert_eq!(of("1.2.3").next(), Some(of("1.2.4")));
        assert_eq!(of("1.2.65535").next(), Some(of("1.3.0")));
        assert_eq!(of("1.65535.65535").next(), Some(of("2.0.0")));
        assert_eq!(of("65535.65535.65535").next(), None);
    }

    #[test]
    fn a_policy_restricts_execution_only_if_every_rule_is_understood() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let listed = format!("op=EXECUTE fsverity_digest={digest} action=ALLOW");
        let of =
            |rules: &str| Execution::read(&format!("policy_name=a policy_version=0.0.1\n{rules}"));
        let read = of(&format!(
            "DEFAULT action=ALLOW\nDEFAULT op=EXECUTE action=DENY # x\n\n# y\n{listed}\nop=KMODULE boot_verified=TRUE action=ALLOW"
        ));
        let read = read.unwrap();
        assert_eq!(read.digests.len(), 1);
        assert!(!read.boot_verified);
        let read = of("DEFAULT action=DENY\nop=EXECUTE boot_verified=TRUE action=ALLOW").unwrap();
        assert!(read.boot_verified && read.digests.is_empty());
        for more in [
            "DEFAULT action=ALLOW",
            "DEFAULT action=DENY\nDEFAULT op=EXECUTE action=ALLOW",
            "DEFAULT action=DENY\nop=EXECUTE action=ALLOW",
            "DEFAULT action=DENY\nop=EXECUTE fsverity_signature=TRUE action=ALLOW",
            "DEFAULT action=DENY\nop=EXECUTE fsverity_digest=sha256:00 action=ALLOW",
            "DEFAULT action=DENY\nop=EXECUTE boot_verified=FALSE action=ALLOW",
            "DEFAULT action=DENY\nop=EXECUTE boot_verified=TRUE action=DENY",
            "DEFAULT action=DENY\nsomething else",
            "",
        ] {
            assert_eq!(of(more), None, "{more}");
        }
    }

    #[test]
    fn a_header_stands_before_any_rule() {
        assert_eq!(
            header("# x\n\npolicy_name=a policy_version=0.0.1 # y\n")
                .unwrap()
                .0,
            "a"
        );
        for text in [
            "",
            "DEFAULT action=ALLOW\npolicy_name=a policy_version=0.0.1",
            "policy_name=a",
        ] {
            assert_eq!(header(text), None, "{text}");
        }
    }
}
