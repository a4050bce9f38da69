//! What a trust domain (TDX) booted: the event log that its firmware's CCEL table points at, read by the registers
//! of its quote.
//!
//! A register holds several PCRs, and nothing in the log that is proven says which of them an event belongs to. So
//! less follows than from a TPM's log:
//! - Secure Boot is read: its variables are proven by their digests, and stand before firmware hands over.
//! - The authorities by which images started are not: among firmware's tables, whose contents are not logged, a use
//!   of `db` can be passed off as one.
//! - What boot loaders measured is shown, and is worth what they are worth: something, where the owner lists the
//!   registers that they and their words are in ([`Pinned`]).

use super::judge::judge_domain;
use super::layout::DOMAIN;
use super::references::References;
use super::verify::{Boot, read};
use super::{Loader, Measurement, SecureBoot, Unknown, sbat};
use crate::efi::Signature;
use crate::eventlog::{Event, Log, Said};
use crate::pcr::QuotedPcrs;
use crypto::{Hash, hex};
use facts::{FactSet, Finding, Outcome, Source, Timestamp, Value, Verdict, names};
use std::collections::BTreeMap;

const RTMR: [&str; 4] = [
    names::MACHINE_TEE_RTMR0,
    names::MACHINE_TEE_RTMR1,
    names::MACHINE_TEE_RTMR2,
    names::MACHINE_TEE_RTMR3,
];

/// RTMR 0 to 3 of a trust domain that a verifier affirmed. Nothing but such a verdict makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    values: QuotedPcrs<48>,
    source: Source,
}

impl Registers {
    /// Those that `verdict` states; absent unless it is affirmed, and about a trust domain itself: the registers
    /// that a paravisor's quote has are the paravisor's.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        let kind = verdict.facts.text(names::MACHINE_TEE_KIND);
        if verdict.outcome() != Outcome::Affirmed || kind != Some("tdx") {
            return None;
        }
        let mut source = Source::Hardware;
        let mut values = BTreeMap::new();
        for (register, name) in (1..).zip(RTMR) {
            let fact = verdict.facts.fact(name)?;
            let Value::Text(text) = &fact.value else {
                return None;
            };
            source = source.min(fact.source);
            values.insert(register, *hex::decode(text).ok()?.as_array::<48>()?);
        }
        Some(Self {
            values: QuotedPcrs::claimed(values),
            source,
        })
    }
}

/// Whether the owner lists the registers of what was started (RTMR 1) and of what that measured (RTMR 2): then the
/// words of boot loader and stub are those of programs that he knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    Both,
    No,
}

/// What a trust domain booted: a log that its quote stands behind. Only [`DomainBoot::verify`] makes it.
#[derive(Debug, Clone)]
pub struct DomainBoot {
    boot: Boot<48>,
    source: Source,
}

impl DomainBoot {
    /// Verifies that `log` is the log of the boot whose registers were quoted.
    ///
    /// # Errors
    /// What [`Log::parse`] finds; `EVENTLOG-BANK` for a log without SHA-384; `EVENTLOG-DATA` for each event whose
    /// data is not what its type says was measured; `EVENTLOG-REPLAY` for each register that the log does not
    /// amount to. A PCR in them is a register of the log: 1 is RTMR 0.
    pub fn verify(log: &[u8], registers: &Registers) -> Result<Self, Vec<Finding>> {
        let log = Log::parse(log).map_err(|finding| vec![of_the_domain(finding)])?;
        let boot = read(&log, &registers.values, DOMAIN)
            .map_err(|found| found.into_iter().map(of_the_domain).collect::<Vec<_>>())?;
        let tables = log.measured().filter(|event| is_partition_table(event));
        Ok(Self {
            boot: Boot {
                tables: tables.map(|event| event.index).collect(),
                ..boot
            },
            source: registers.source,
        })
    }

    /// What was extended into the registers, in the order of the log.
    #[must_use]
    pub fn measurements(&self) -> &[Measurement<48>] {
        self.boot.measurements()
    }

    /// # Errors
    /// Why it is not known.
    pub const fn secure_boot(&self) -> Result<&SecureBoot, &Unknown> {
        self.boot.secure_boot()
    }

    #[must_use]
    pub fn loader(&self) -> Loader {
        self.boot.loader()
    }

    /// The command line, if the log has exactly one in plain text.
    #[must_use]
    pub fn command_line(&self) -> Option<String> {
        self.boot.command_line()
    }

    /// What of it `references` do not allow, as far as they can be compared: Secure Boot, dbx, shim's revocation
    /// level, and each command line that the log shows.
    #[must_use]
    pub fn faults(&self, references: &References, now: Timestamp) -> Vec<Finding> {
        let found = judge_domain(&self.boot, references, now);
        found.into_iter().map(of_the_domain).collect()
    }

    /// Why this and what the machine's TPM says of its boot cannot be of one boot. A TPM that the host gave may say
    /// what the host likes; the domain's log is its own.
    #[must_use]
    pub fn contradictions(&self, chip: &Boot) -> Vec<Finding> {
        let (Ok(domain), Ok(chip_policy)) = (self.secure_boot(), chip.secure_boot()) else {
            return Vec::new();
        };
        let lists = |policy: &SecureBoot| {
            [
                ("PK", told(&policy.platform_keys)),
                ("KEK", told(&policy.exchange_keys)),
                ("db", told(&policy.allowed)),
                ("dbx", hex::encode(&policy.forbidden_sha256)),
                ("Secure Boot", on_or_off(policy.enabled).to_owned()),
            ]
        };
        let differing = lists(domain).into_iter().zip(lists(chip_policy));
        differing
            .filter(|((_, of_domain), (_, of_chip))| of_domain != of_chip)
            .map(|((what, of_domain), (_, of_chip))| {
                Finding::new(
                    "TEE-TDX-BOOT",
                    format!("the TPM says another {what} of the boot than the trust domain"),
                )
                .expected(format!("{of_domain}, as RTMR 0 has it"))
                .observed(of_chip)
                .next("treat whoever gave the machine its TPM as lying about the boot")
            })
            .collect()
    }

    /// What is known of the boot, as facts `machine.tee.boot.…`; what is not known is absent.
    ///
    /// Firmware's own statements have the source of the registers. What boot loaders say is asserted unless the
    /// registers are `pinned`.
    #[must_use]
    pub fn facts(&self, pinned: Pinned, now: Timestamp) -> FactSet {
        let mut facts = FactSet::new();
        let firmware = self.source;
        let (state, loaders) = match pinned {
            Pinned::Both => ("approved", self.source),
            Pinned::No => ("measured", Source::Asserted),
        };
        let mut state_fact = |name: &str, value: Option<Value>, source: Source| {
            if let Some(value) = value {
                facts.state(name, value, source, now);
            }
        };
        state_fact(names::MACHINE_TEE_BOOT_STATE, Some(state.into()), firmware);
        if let Ok(policy) = self.secure_boot() {
            for (name, value) in [
                (
                    names::MACHINE_TEE_BOOT_SECURE_BOOT,
                    Value::from(policy.enabled),
                ),
                (
                    names::MACHINE_TEE_BOOT_PK,
                    digests(&policy.platform_keys).into(),
                ),
                (
                    names::MACHINE_TEE_BOOT_KEK,
                    digests(&policy.exchange_keys).into(),
                ),
                (names::MACHINE_TEE_BOOT_DB, digests(&policy.allowed).into()),
                (
                    names::MACHINE_TEE_BOOT_DBX_SHA256,
                    hex::encode(&policy.forbidden_sha256).into(),
                ),
            ] {
                state_fact(name, Some(value), firmware);
            }
        }
        let images = self.boot.images().map(|image| hex::encode(&image.digest));
        let images: Vec<String> = images.collect();
        state_fact(
            names::MACHINE_TEE_BOOT_IMAGES,
            Some(images.into()),
            firmware,
        );
        let sbat = self.boot.sbat().and_then(sbat::date);
        for (name, value) in [
            (
                names::MACHINE_TEE_BOOT_SBAT,
                sbat.map(|date| Value::from(date.to_string())),
            ),
            (
                names::MACHINE_TEE_BOOT_LOADER,
                Some(self.loader().name().into()),
            ),
            (
                names::MACHINE_TEE_BOOT_KERNEL,
                (self.boot.kernel()).map(|kernel| hex::encode(&kernel.digest).into()),
            ),
            (
                names::MACHINE_TEE_BOOT_CMDLINE,
                self.command_line().map(Value::from),
            ),
        ] {
            state_fact(name, value, loaders);
        }
        facts
    }
}

/// A partition table, as firmware measures it beside images (`UEFI_GPT_DATA`), whose contents are in the log. No
/// program begins with its mark: one begins with `MZ`, and so does what its digest is of.
fn is_partition_table(event: &Event<'_>) -> bool {
    event.said(Hash::Sha384) == Said::Data && event.data.starts_with(b"EFI PART")
}

/// The log's own numbers stand in findings about it.
fn of_the_domain(mut finding: Finding) -> Finding {
    let message = &finding.message;
    finding.message = format!("trust domain, PCR n being RTMR n - 1: {message}");
    finding
}

fn digests(signatures: &[Signature]) -> Vec<String> {
    let digests = signatures.iter().map(|one| one.content.digest());
    digests.map(|digest| hex::encode(digest)).collect()
}

/// A list in short.
fn told(signatures: &[Signature]) -> String {
    match signatures {
        [] => "nothing".to_owned(),
        [one] => hex::encode(one.content.digest()),
        more => {
            let all = digests(more).concat();
            let sha256 = hex::encode(&crypto::sha256(all.as_bytes()));
            format!("{} entries, {sha256} together", more.len())
        }
    }
}

const fn on_or_off(enabled: bool) -> &'static str {
    if enabled { "on" } else { "off" }
}
