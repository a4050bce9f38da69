//! The outcome vector: what a verdict says of a machine in terms that every relying party knows
//! (draft-ietf-rats-ar4si, section 2.3.4, "Specific Claims").
//!
//! It is a summary for those who do not know our facts. Policies here rest on facts. What no fact speaks
//! of is no claim; storage and sourced data are not looked at.

use facts::{FactSet, Finding, Outcome, Source, Value, Verdict, names};

/// The PCR of what was started, as facts name it.
const IMAGES: &str = "4";

/// How far a claim is to be trusted (section 2.3.2). Ordered from best to worst; no claim is not bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    None,
    Affirming,
    Warning,
    Contraindicated,
}

impl Tier {
    /// As attestation results spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }
}

/// One claim: a number whose meaning depends on what it is of, in tiers that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Claim(i8);

impl Claim {
    /// Nothing is said.
    pub const NONE: Self = Self(0);
    /// Recognised, approved, genuine: the best of each claim.
    pub const GOOD: Self = Self(2);
    /// Executables: those that were loaded during the boot are approved.
    pub const APPROVED_BOOT: Self = Self(3);
    /// Genuine hardware, or a known configuration, with known weaknesses.
    pub const KNOWN_WEAK: Self = Self(32);
    /// Executables that are not recognised.
    pub const UNRECOGNISED_CODE: Self = Self(33);
    /// Recognised, and not to be trusted.
    pub const BAD: Self = Self(96);
    /// Hardware or instance that should be recognised and is not.
    pub const UNRECOGNISED: Self = Self(97);
    /// The evidence does not verify.
    pub const UNVERIFIED: Self = Self(99);

    #[must_use]
    pub const fn value(self) -> i8 {
        self.0
    }

    /// Section 2.3.2.
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self.0 {
            -1..=1 => Tier::None,
            2..=31 | -32..=-2 => Tier::Affirming,
            32..=95 | -96..=-33 => Tier::Warning,
            96..=127 | -128..=-97 => Tier::Contraindicated,
        }
    }

    /// The worse of two claims about one thing (section 2.3.3: the worst that applies is assigned).
    const fn and(self, other: Self) -> Self {
        let worse = other.tier() as u8 > self.tier() as u8
            || other.tier() as u8 == self.tier() as u8 && other.0 > self.0;
        if worse { other } else { self }
    }
}

/// The claims about one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vector {
    pub instance_identity: Claim,
    pub configuration: Claim,
    pub executables: Claim,
    pub file_system: Claim,
    pub hardware: Claim,
    pub runtime_opaque: Claim,
}

impl Vector {
    /// What `verdict` amounts to. Of a refused one at least one claim is not affirming, each finding
    /// having spoiled what it is about.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Self {
        if verdict.outcome() == Outcome::Affirmed {
            return Self::affirmed(&verdict.facts);
        }
        let mut vector = Self::default();
        for finding in &verdict.findings {
            vector.spoil(finding);
        }
        if vector.worst() < Tier::Warning {
            vector.instance_identity = Claim::UNRECOGNISED;
        }
        vector
    }

    /// What the facts of a machine amount to that a verdict affirmed.
    #[must_use]
    pub fn affirmed(facts: &FactSet) -> Self {
        let mut vector = Self::default();
        if let Some(kind) = facts.text(names::MACHINE_TEE_KIND) {
            vector.tee(facts, kind);
        } else {
            vector.tpm(facts);
        }
        vector.loaded(facts);
        vector.files(facts);
        match facts.value(names::MACHINE_BOOT_SECURE_BOOT) {
            Some(Value::Bool(true)) => {
                vector.configuration = vector.configuration.and(Claim::GOOD);
            }
            Some(Value::Bool(false)) => {
                vector.configuration = vector.configuration.and(Claim::KNOWN_WEAK);
            }
            _ => {}
        }
        let known = facts.fact(names::MACHINE_TPM_EK).is_some()
            || facts.fact(names::MACHINE_TPM_AK).is_some()
            || facts.fact(names::MACHINE_TEE_PLATFORM).is_some();
        if known {
            vector.instance_identity = Claim::GOOD;
        }
        vector
    }

    fn tee(&mut self, facts: &FactSet, kind: &str) {
        let status = facts.text(names::MACHINE_TEE_TCB_STATUS);
        // AMD and AWS give no status: the owner's floors were checked.
        // Under a root that is no vendor's, it is whoever's the estate says, and no hardware that is known.
        let known = facts
            .fact(names::MACHINE_TEE_KIND)
            .is_some_and(|fact| fact.source == Source::Hardware);
        self.hardware = match status {
            _ if !known => Claim::UNRECOGNISED,
            None | Some("UpToDate") => Claim::GOOD,
            Some(_) => Claim::KNOWN_WEAK,
        };
        self.configuration = match status {
            Some(status) if status.contains("Configuration") => Claim::KNOWN_WEAK,
            _ => Claim::GOOD,
        };
        self.executables = match facts.text(names::MACHINE_TEE_IMAGE) {
            Some(_) => Claim::APPROVED_BOOT,
            None => Claim::UNRECOGNISED_CODE,
        };
        // AWS's documents do not say how memory is kept from the operator.
        if known && matches!(kind, "sev-snp" | "tdx" | "sgx" | "azure-snp" | "azure-tdx") {
            self.runtime_opaque = Claim::GOOD;
        }
    }

    fn tpm(&mut self, facts: &FactSet) {
        let keys = [names::MACHINE_TPM_EK, names::MACHINE_TPM_AK];
        let chip = keys.into_iter().find_map(|name| facts.fact(name));
        self.hardware = match (facts.text(names::MACHINE_TPM_KIND), chip) {
            (Some("emulated"), _) => Claim::UNRECOGNISED,
            (_, Some(chip)) if chip.source == Source::Hardware => Claim::GOOD,
            _ => Claim::NONE,
        };
    }

    /// What reference values say of the boot, and of what ran since.
    fn loaded(&mut self, facts: &FactSet) {
        let approved = |name| facts.text(name) == Some("approved");
        // Of a boot whose images nobody judged, nothing that was loaded is known.
        let images = facts.value(names::MACHINE_BOOT_JUDGED).is_some_and(
            |judged| matches!(judged, Value::List(pcrs) if pcrs.iter().any(|pcr| pcr == IMAGES)),
        );
        if !approved(names::MACHINE_BOOT_STATE) || !images {
            return;
        }
        let loaded = if approved(names::MACHINE_IMA_STATE) {
            Claim::GOOD
        } else {
            Claim::APPROVED_BOOT
        };
        self.executables = match self.executables {
            // A firmware image that was recognised, or nothing said, and everything that it loaded.
            Claim::NONE | Claim::APPROVED_BOOT => loaded,
            other => other,
        };
    }

    /// "Only a recognized set of approved files are found" (2) is of directories whose every byte is known. That
    /// is so of a file system under dm-verity, if its root hash stands in the command line of an approved boot:
    /// what is not of that hash is not read. What a kernel lets run (IPE) or has run (IMA) says nothing of what
    /// lies there beside it, and is no such claim.
    fn files(&mut self, facts: &FactSet) {
        let approved = facts.text(names::MACHINE_BOOT_STATE) == Some("approved");
        let line = facts
            .fact(names::MACHINE_BOOT_CMDLINE)
            .filter(|line| approved && line.source > Source::Asserted);
        if let Some(Value::Text(line)) = line.map(|line| &line.value)
            && is_under_verity(line)
        {
            self.file_system = Claim::GOOD;
        }
    }

    /// Which claim a finding is about, by the last words of its code.
    fn spoil(&mut self, finding: &Finding) {
        let ends = |words: &[&str]| words.iter().any(|word| finding.code.ends_with(word));
        let (claim, value) = if ends(&["-IMAGE", "-CCEL"]) {
            (&mut self.executables, Claim::UNRECOGNISED_CODE)
        } else if ends(&["-DEBUG"]) {
            self.runtime_opaque = Claim::BAD;
            (&mut self.configuration, Claim::BAD)
        } else if ends(&["-POLICY", "-ATTRIBUTES", "-SERVICE", "-VMPL", "-PLATFORM"]) {
            (&mut self.configuration, Claim::BAD)
        } else if ends(&["-TCB", "-EVALUATION", "-REVOKED", "-QE-IDENTITY", "-MODULE"]) {
            (&mut self.hardware, Claim::BAD)
        } else if ends(&["-GENERATION", "-CHIP", "-EK-CHAIN"]) {
            (&mut self.hardware, Claim::UNRECOGNISED)
        } else if ends(&[
            "-STRUCTURE",
            "-VERSION",
            "-SIGNATURE",
            "-SIGNING-KEY",
            "-CHAIN",
            "-VALIDITY",
            "-CRL",
            "-COLLATERAL",
            "-COLLATERAL-TIME",
            "-QE-BINDING",
        ]) {
            (&mut self.hardware, Claim::UNVERIFIED)
        } else {
            // Who answers is not who was asked, or nobody whom we know.
            (&mut self.instance_identity, Claim::UNRECOGNISED)
        };
        *claim = claim.and(value);
    }

    /// Names, as attestation results spell them, and claims; what nothing is said of is left out.
    pub fn claims(&self) -> impl Iterator<Item = (&'static str, Claim)> {
        [
            ("instance-identity", self.instance_identity),
            ("configuration", self.configuration),
            ("executables", self.executables),
            ("file-system", self.file_system),
            ("hardware", self.hardware),
            ("runtime-opaque", self.runtime_opaque),
        ]
        .into_iter()
        .filter(|(_, claim)| *claim != Claim::NONE)
    }

    /// The claims in a few bytes, for records: `hw2 ex3 cf2 id2 ro2`. `None` where nothing is claimed.
    #[must_use]
    pub fn short(&self) -> Option<String> {
        let claims = [
            ("hw", self.hardware),
            ("ex", self.executables),
            ("cf", self.configuration),
            ("fs", self.file_system),
            ("id", self.instance_identity),
            ("ro", self.runtime_opaque),
        ];
        let claimed = claims.iter().filter(|(_, claim)| *claim != Claim::NONE);
        let words: Vec<_> = claimed
            .map(|(name, claim)| format!("{name}{}", claim.value()))
            .collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// The tier of the worst claim.
    #[must_use]
    pub fn worst(&self) -> Tier {
        self.claims()
            .map(|(_, claim)| claim.tier())
            .max()
            .unwrap_or(Tier::None)
    }
}

/// Whether a kernel that is given `line` finds its root, or `/usr`, under dm-verity, as systemd reads it
/// (systemd-veritysetup-generator): by a root hash, unless something turns that off. Whatever the initrd makes
/// of it is part of what was approved.
fn is_under_verity(line: &str) -> bool {
    let set = |name: &str| {
        let of = line.split_whitespace();
        let mut of = of.filter_map(|word| word.split_once('=').filter(|(key, _)| *key == name));
        // The last one counts.
        of.next_back().map(|(_, value)| value)
    };
    let is_hash = |value: &str| value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit());
    let is_off =
        |name: &str| set(name).is_some_and(|value| !matches!(value, "1" | "yes" | "true" | "on"));
    let hashed = set("roothash")
        .or_else(|| set("usrhash"))
        .is_some_and(is_hash);
    hashed && !is_off("systemd.verity") && !is_off("rd.systemd.verity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::{Timestamp, Warrant};

    fn affirmed(facts: &[(&str, &str, Source)]) -> Vector {
        of(facts, FactSet::new())
    }

    /// The PCRs `judged` were.
    fn booted(facts: &[(&str, &str, Source)], judged: &[&str]) -> Vector {
        let mut set = FactSet::new();
        let judged: Vec<String> = judged.iter().map(|pcr| (*pcr).to_owned()).collect();
        let (name, source) = (names::MACHINE_BOOT_JUDGED, Source::Verified);
        set.state(name, judged, source, Timestamp::EPOCH);
        of(facts, set)
    }

    fn of(facts: &[(&str, &str, Source)], mut set: FactSet) -> Vector {
        for (name, value, source) in facts {
            set.state(name, *value, *source, Timestamp::EPOCH);
        }
        let every = Warrant::of(Source::Hardware, &[""]);
        Vector::of(&Verdict::affirmed(&every, set, Vec::new()))
    }

    fn shown(vector: &Vector) -> String {
        let claims: Vec<_> = vector
            .claims()
            .map(|(name, claim)| format!("{name} {}", claim.value()))
            .collect();
        format!("{}: {}", vector.worst().name(), claims.join(", "))
    }

    const TDX: (&str, &str, Source) = (names::MACHINE_TEE_KIND, "tdx", Source::Hardware);
    const CHIP: (&str, &str, Source) = (names::MACHINE_TEE_PLATFORM, "00", Source::Hardware);

    #[test]
    fn a_recognised_machine_is_affirmed_in_all_that_was_looked_at() {
        let image = (names::MACHINE_TEE_IMAGE, "prod", Source::Hardware);
        let status = (names::MACHINE_TEE_TCB_STATUS, "UpToDate", Source::Hardware);
        assert_eq!(
            shown(&affirmed(&[TDX, CHIP, image, status])),
            "affirming: instance-identity 2, configuration 2, executables 3, hardware 2, \
             runtime-opaque 2"
        );
    }

    #[test]
    fn weaknesses_that_the_owner_accepts_stay_visible() {
        let status = (
            names::MACHINE_TEE_TCB_STATUS,
            "ConfigurationNeeded",
            Source::Hardware,
        );
        assert_eq!(
            shown(&affirmed(&[TDX, CHIP, status])),
            "warning: instance-identity 2, configuration 32, executables 33, hardware 32, \
             runtime-opaque 2"
        );
    }

    #[test]
    fn hardware_is_affirmed_only_by_hardware() {
        for (kind, source, hardware) in [
            ("unknown", Source::Hardware, 2),
            ("unknown", Source::Verified, 0),
            ("emulated", Source::Hardware, 97),
            ("emulated", Source::Verified, 97),
        ] {
            let vector = affirmed(&[
                (names::MACHINE_TPM_KIND, kind, Source::Verified),
                (names::MACHINE_TPM_EK, "00", source),
            ]);
            assert_eq!(vector.hardware.value(), hardware, "{kind} {source}");
        }
    }

    #[test]
    fn hardware_under_a_root_that_is_no_vendors_is_not_recognised() {
        let kind = (names::MACHINE_TEE_KIND, "sev-snp", Source::Verified);
        let image = (names::MACHINE_TEE_IMAGE, "prod", Source::Verified);
        let vector = affirmed(&[kind, image]);
        assert_eq!(vector.hardware, Claim::UNRECOGNISED);
        assert_eq!(vector.runtime_opaque, Claim::NONE);
    }

    #[test]
    fn what_was_loaded_is_approved_by_reference_values_alone() {
        let boot = (names::MACHINE_BOOT_STATE, "approved", Source::Verified);
        let list = (names::MACHINE_IMA_STATE, "approved", Source::Verified);
        let measured = (names::MACHINE_BOOT_STATE, "measured", Source::Verified);
        for (facts, executables) in [
            (&[boot][..], 3),
            (&[boot, list], 2),
            (&[list], 0),
            (&[measured, list], 0),
            (&[TDX, boot, list], 33),
        ] {
            assert_eq!(
                booted(facts, &["4", "7"]).executables.value(),
                executables,
                "{facts:?}"
            );
        }
    }

    /// Secure Boot's variables were as predicted, and nobody had looked at what they let start.
    #[test]
    fn what_was_loaded_is_not_approved_where_no_image_was_judged() {
        let boot = (names::MACHINE_BOOT_STATE, "approved", Source::Verified);
        let list = (names::MACHINE_IMA_STATE, "approved", Source::Verified);
        for judged in [&[][..], &["7"], &["14"]] {
            assert_eq!(booted(&[boot, list], judged).executables, Claim::NONE);
        }
        assert_eq!(affirmed(&[boot, list]).executables, Claim::NONE);
        let partial = (names::MACHINE_BOOT_STATE, "partial", Source::Verified);
        assert_eq!(booted(&[partial], &["4", "7"]).executables, Claim::NONE);
    }

    fn files(line: &str, source: Source, more: &[(&str, &str, Source)]) -> i8 {
        let line = (names::MACHINE_BOOT_CMDLINE, line, source);
        let facts = [&[line], more].concat();
        booted(&facts, &["4", "11"]).file_system.value()
    }

    #[test]
    fn files_are_approved_where_an_approved_boot_reads_them_by_their_hash() {
        let boot = (names::MACHINE_BOOT_STATE, "approved", Source::Verified);
        let hash = "5f".repeat(32);
        for line in [
            format!("root=/dev/mapper/root roothash={hash} ro"),
            format!("usrhash={hash}"),
            format!("roothash={hash} systemd.verity=yes"),
        ] {
            assert_eq!(files(&line, Source::Hardware, &[boot]), 2, "{line}");
            assert_eq!(files(&line, Source::Verified, &[boot]), 2, "{line}");
        }
    }

    #[test]
    fn files_are_not_approved_by_less_than_that() {
        let boot = (names::MACHINE_BOOT_STATE, "approved", Source::Verified);
        let hash = "5f".repeat(32);
        let good = format!("roothash={hash}");
        // Nobody approved the boot, or proved the line.
        let measured = (names::MACHINE_BOOT_STATE, "measured", Source::Verified);
        let partial = (names::MACHINE_BOOT_STATE, "partial", Source::Verified);
        for boot in [&[][..], &[measured], &[partial]] {
            assert_eq!(files(&good, Source::Hardware, boot), 0, "{boot:?}");
        }
        assert_eq!(files(&good, Source::Asserted, &[boot]), 0);
        for line in [
            "root=/dev/sda1 ro".to_owned(),
            "roothash=".to_owned(),
            format!("roothash={}", hash.strip_prefix('5').unwrap()),
            format!("xroothash={hash}"),
            format!("{good} systemd.verity=no"),
            format!("{good} rd.systemd.verity=0"),
            format!("{good} roothash=none"),
        ] {
            assert_eq!(files(&line, Source::Hardware, &[boot]), 0, "{line}");
        }
        // What may run, and what has run, is not what lies there.
        let ipe = [
            boot,
            (names::MACHINE_IMA_STATE, "approved", Source::Verified),
            (names::MACHINE_ENFORCEMENT, "enforced", Source::Verified),
            (names::CODE_ENFORCEMENT, "enforced", Source::Verified),
        ];
        assert_eq!(files("ro", Source::Hardware, &ipe), 0);
    }

    #[test]
    fn a_record_holds_it_in_a_few_bytes() {
        let image = (names::MACHINE_TEE_IMAGE, "prod", Source::Hardware);
        let vector = affirmed(&[TDX, CHIP, image]);
        assert_eq!(vector.short().unwrap(), "hw2 ex3 cf2 id2 ro2");
        assert_eq!(Vector::default().short(), None);
    }

    #[test]
    fn a_refusal_affirms_nothing() {
        for code in [
            "TEE-SNP-SIGNATURE",
            "TEE-SNP-TCB",
            "TEE-TDX-DEBUG",
            "TEE-TDX-IMAGE",
            "TEE-NITRO-NONCE",
            "TPM-QUOTE-SIGNATURE",
            "JOIN-TOKEN",
            "ATTEST-CONFLICT",
        ] {
            let finding = Finding::new("X-Y", "no");
            let finding = Finding {
                code: code.into(),
                ..finding
            };
            let vector = Vector::of(&Verdict::refused(vec![finding], Vec::new()));
            assert!(vector.worst() >= Tier::Warning, "{code}");
            assert!(
                vector
                    .claims()
                    .all(|(_, claim)| claim.tier() != Tier::Affirming),
                "{code}"
            );
        }
        assert_eq!(
            shown(&Vector::of(&Verdict::default())),
            "contraindicated: instance-identity 97"
        );
    }

    #[test]
    fn tiers_are_those_of_the_draft() {
        for (value, tier) in [
            (0, Tier::None),
            (1, Tier::None),
            (-1, Tier::None),
            (2, Tier::Affirming),
            (31, Tier::Affirming),
            (-2, Tier::Affirming),
            (-32, Tier::Affirming),
            (32, Tier::Warning),
            (95, Tier::Warning),
            (-33, Tier::Warning),
            (-96, Tier::Warning),
            (96, Tier::Contraindicated),
            (127, Tier::Contraindicated),
            (-97, Tier::Contraindicated),
            (-128, Tier::Contraindicated),
        ] {
            assert_eq!(Claim(value).tier(), tier, "{value}");
        }
    }
}
