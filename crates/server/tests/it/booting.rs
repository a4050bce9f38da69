//! Machines that say what they booted, judged by the estate's reference values: the chip holds what a real
//! machine measured, and its log comes along.

use crate::acknowledging;
use crate::harness::{Fixture, estate, finding};
use crate::tpm::{evidence, pin};
use attest_tpm::eventlog::Log;
use crypto::{Algorithm, Hash, KeyPair};
use estate::EstateFiles;
use proto::v1;
use proto::v1::join_client::JoinClient;
use references::{Artefact, ArtefactKind, Digest, PcrEvent, PcrValue, ReferenceFile, Withdrawal};
use std::sync::Arc;
use testkit::pinned;
use testkit::swtpm::Swtpm;
use tonic::Status;

mod rules;

const RECORDED: &str = "eventlog/rhel8-uefi.bin";
const LOGGED: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14];

struct Machine {
    chip: Swtpm,
    log: Vec<u8>,
    fixture: Fixture,
}

impl Machine {
    async fn boot(test: &str, more: &str) -> Option<Self> {
        Self::boot_as(RECORDED, test, more).await
    }

    /// As the machine did whose log was recorded.
    async fn boot_as(recorded: &str, test: &str, more: &str) -> Option<Self> {
        let log = testkit::evidence().and_then(|all| std::fs::read(all.join(recorded)).ok());
        let Some(log) = log else {
            testkit::skip(test, &format!("no evidence {recorded}"));
            return None;
        };
        let chip = Swtpm::for_test(test)?;
        measure(&chip, &log, |pcr| LOGGED.contains(&pcr));
        Some(Self {
            fixture: Fixture::configured(more).await,
            chip,
            log,
        })
    }

    fn predicted(&self, pcr: u32, change: impl FnOnce(&mut Vec<PcrEvent>)) -> PcrValue {
        predicted(&self.log, pcr, change)
    }

    /// An estate where machines are good that have these values, in every pool.
    fn estate(&self, pcrs: Vec<PcrValue>, withdrawn: bool) -> EstateFiles {
        self.estate_of(&generation(pcrs, withdrawn))
    }

    /// An estate with these references.
    fn estate_of(&self, references: &ReferenceFile) -> EstateFiles {
        let pem = [self.chip.root_pem(), self.chip.issuer_pem()];
        let pem = pem.map(|path| std::fs::read_to_string(path).unwrap());
        let mut files = estate();
        files.insert(
            "references/tpm.toml",
            format!(
                "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n",
                pem.concat()
            ),
        );
        files.insert("references/boot.json", references.to_json());
        files
    }

    async fn dry_run(&self, files: &EstateFiles) -> Vec<serde_json::Value> {
        let request = v1::DryRunRequest {
            files: files.to_blob(),
            ..v1::DryRunRequest::default()
        };
        let mut admin = self.fixture.admin().await;
        let mut documents = admin.attest_dry_run(request).await.unwrap().into_inner();
        let mut told = Vec::new();
        while let Some(document) = documents.message().await.unwrap() {
            told.push(serde_json::from_str(&document.json).unwrap());
        }
        told
    }

    async fn plan(&self, files: &EstateFiles) -> serde_json::Value {
        let request = v1::EstateRequest {
            files: files.to_blob(),
            ..v1::EstateRequest::default()
        };
        let mut admin = self.fixture.admin().await;
        let plan = admin.estate_plan(request).await.unwrap().into_inner();
        serde_json::from_str(&plan.json).unwrap()
    }

    async fn explain(&self, index: u64) -> serde_json::Value {
        let question = v1::AttestQuestion {
            index,
            ..v1::AttestQuestion::default()
        };
        let mut admin = self.fixture.admin().await;
        let mut chunks = admin.attest_explain(question).await.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            bytes.extend(chunk.data);
        }
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn join(&self, log: Option<&[u8]>) -> Result<facts::FactSet, Status> {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        assert!(!pin(&self.fixture).await.is_empty());
        let (link, mut finish) = evidence(&self.fixture, &self.chip, &key).await;
        finish.event_log = log.unwrap_or_default().to_vec();
        let joined: v1::Joined = JoinClient::new(link.channel)
            .tpm_finish(finish)
            .await?
            .into_inner();
        let verdict: facts::Stated = serde_json::from_slice(&joined.verdict).unwrap();
        Ok(verdict.facts)
    }
}

fn generation(pcrs: Vec<PcrValue>, withdrawn: bool) -> ReferenceFile {
    let artefact = Artefact {
        pcrs,
        ..pinned::artefact(ArtefactKind::BootChain, "recorded-boot")
    };
    let generation = pinned::generation("boot-1", &[references::ALL_RINGS], artefact);
    let withdrawal = withdrawn.then(|| withdrawal("recorded-boot"));
    ReferenceFile {
        withdrawn: withdrawal.into_iter().collect(),
        ..pinned::only(generation)
    }
}

/// Every version of the artefact, since long ago.
pub(crate) fn withdrawal(name: &str) -> Withdrawal {
    Withdrawal {
        name: name.to_owned(),
        version: None,
        at: facts::Timestamp::from_secs(1_700_000_000),
        reason: "CVE-2026-1234".to_owned(),
    }
}

/// Extends what `log` says of these PCRs, as the machine did.
pub(crate) fn measure(chip: &Swtpm, log: &[u8], of: impl Fn(u32) -> bool) {
    let log = Log::parse(log).unwrap();
    let events = log.measured().filter(|event| of(event.pcr));
    let digests = events.map(|event| {
        let digest = event.digest(Hash::Sha256).unwrap();
        (event.pcr, digest.try_into().unwrap())
    });
    let digests: Vec<(u32, [u8; 32])> = digests.collect();
    chip.extend(&digests).unwrap();
}

/// What `log` gives for `pcr`, `change` having been at the events.
pub(crate) fn predicted(log: &[u8], pcr: u32, change: impl FnOnce(&mut Vec<PcrEvent>)) -> PcrValue {
    let log = Log::parse(log).unwrap();
    let mut events = log
        .measured()
        .filter(|event| event.pcr == pcr)
        .map(|event| PcrEvent {
            what: event.title(),
            sha256: Digest(event.digest(Hash::Sha256).unwrap().try_into().unwrap()),
        })
        .collect();
    change(&mut events);
    PcrValue {
        index: u8::try_from(pcr).unwrap(),
        sha256: references::pcr::replay(&events),
        events,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_is_as_predicted_is_approved_and_any_other_refused() {
    let Some(machine) = Machine::boot("server.booting", "").await else {
        return;
    };
    // Nothing says how it should be: what it was stands there.
    let predictions = |withdrawn| {
        let pcrs = [4, 7].map(|pcr| machine.predicted(pcr, |_| {}));
        machine.estate(pcrs.to_vec(), withdrawn)
    };
    machine
        .fixture
        .apply(&machine.estate(Vec::new(), false))
        .await
        .unwrap();
    let facts = machine.join(Some(&machine.log)).await.unwrap();
    assert_eq!(facts.text("machine.boot.state"), Some("measured"));
    let facts = machine.join(None).await.unwrap();
    assert_eq!(facts.text("machine.boot.state"), Some("unknown"));

    machine.fixture.apply(&predictions(false)).await.unwrap();
    let facts = machine.join(Some(&machine.log)).await.unwrap();
    // What GRUB read and ran is not predicted.
    assert_eq!(facts.text("machine.boot.state"), Some("partial"));
    let list = |name: &str| facts.value(name).unwrap().to_string();
    assert_eq!(list("machine.boot.judged"), "[4, 7]");
    assert_eq!(list("machine.boot.labels"), "[recorded-boot 1]");

    // Whoever keeps quiet is no better off.
    let refused = finding(&machine.join(None).await.unwrap_err());
    assert_eq!(refused.code, "BOOT-LOG-MISSING");

    // Another boot loader would have been good.
    let other = machine.predicted(4, |events| events[3].sha256 = Digest([9; 32]));
    let said = events(&other);
    machine
        .fixture
        .apply(&machine.estate(vec![other], false))
        .await
        .unwrap();
    let refused = finding(&machine.join(Some(&machine.log)).await.unwrap_err());
    assert_eq!(refused.code, "REF-PCR-UNKNOWN");
    let expected = refused.expected.unwrap();
    assert!(
        expected.contains(&format!("event 3: {}", said[3])),
        "{expected}"
    );

    // What was good and is withdrawn is refused by that name.
    machine.fixture.apply(&predictions(true)).await.unwrap();
    let refused = finding(&machine.join(Some(&machine.log)).await.unwrap_err());
    assert_eq!(refused.code, "REF-WITHDRAWN");
    assert!(refused.message.contains("CVE-2026-1234"), "{refused}");
}

/// Secure Boot's variables were as predicted, and everything that they let start counted as known.
#[tokio::test(flavor = "multi_thread")]
async fn where_variables_alone_are_predicted_programs_speak_for_themselves() {
    let Some(machine) = Machine::boot("server.booting", "").await else {
        return;
    };
    let seven = machine.predicted(7, |_| {});
    let files = machine.estate(vec![seven], false);
    machine.fixture.apply(&files).await.unwrap();
    let facts = machine.join(Some(&machine.log)).await.unwrap();
    assert_eq!(facts.text("machine.boot.state"), Some("partial"));
    for name in ["loader", "shim", "cmdline", "kernel", "initrd", "mok"] {
        let fact = facts.fact(&format!("machine.boot.{name}")).unwrap();
        assert_eq!(fact.source, facts::Source::Asserted, "{fact:?}");
    }
    let secure_boot = facts.fact("machine.boot.secure_boot").unwrap();
    assert!(secure_boot.source > facts::Source::Asserted);
    let vector = attest::ar4si::Vector::affirmed(&facts);
    assert_eq!(vector.executables, attest::ar4si::Claim::NONE);
    assert_eq!(vector.configuration, attest::ar4si::Claim::GOOD);
}

/// The boot loader of one version with the certificates of another is neither.
#[tokio::test(flavor = "multi_thread")]
async fn pcrs_of_two_boots_are_none() {
    let Some(machine) = Machine::boot("server.booting", "").await else {
        return;
    };
    let other = |pcr| machine.predicted(pcr, |events| events[3].sha256 = Digest([9; 32]));
    let own = |pcr| machine.predicted(pcr, |_| {});
    let estate = |boots: Vec<Vec<PcrValue>>| {
        let mut file = generation(Vec::new(), false);
        let artefacts = &mut file.generations[0].artefacts;
        let first = artefacts.pop().unwrap();
        artefacts.extend(boots.into_iter().zip(1..).map(|(pcrs, number)| Artefact {
            version: number.to_string(),
            sha256: Digest([number; 32]),
            pcrs,
            ..first.clone()
        }));
        machine.estate_of(&file)
    };
    let mixed = estate(vec![vec![own(4), other(7)], vec![other(4), own(7)]]);
    machine.fixture.apply(&mixed).await.unwrap();
    let refused = finding(&machine.join(Some(&machine.log)).await.unwrap_err());
    assert_eq!(refused.code, "REF-BOOT-MIXED");
    assert!(
        refused
            .observed
            .unwrap()
            .contains("PCR 4 of recorded-boot 1")
    );
    // Those that speak of different PCRs go together.
    let apart = estate(vec![vec![own(4)], vec![own(7)], vec![other(4), other(7)]]);
    machine.fixture.apply(&apart).await.unwrap();
    machine.join(Some(&machine.log)).await.unwrap();
    // What becomes mixed by a change of the estate evicts.
    let tried = machine.dry_run(&mixed).await;
    assert_eq!(tried[0]["outcome"], "evicted", "{tried:?}");
    let refusal = &tried[0]["refusals"][0];
    assert_eq!(refusal["finding"]["code"], "REF-BOOT-MIXED", "{refusal}");
    let plan = machine.plan(&mixed).await;
    let evicted = &plan["machines"]["evicted"][0];
    assert_eq!(evicted["finding"]["code"], "REF-BOOT-MIXED", "{plan}");
}

fn events(pcr: &PcrValue) -> Vec<String> {
    pcr.events.iter().map(|event| event.what.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_is_withdrawn_evicts_its_machine_without_asking_it() {
    let Some(machine) = Machine::boot("server.booting", "").await else {
        return;
    };
    let predictions = |withdrawn| {
        let pcrs = [4, 7].map(|pcr| machine.predicted(pcr, |_| {}));
        machine.estate(pcrs.to_vec(), withdrawn)
    };
    machine.fixture.apply(&predictions(false)).await.unwrap();
    machine.join(Some(&machine.log)).await.unwrap();
    // Who asks before is told the same, and nothing happens.
    let tried = machine.dry_run(&predictions(true)).await;
    assert_eq!(tried[0]["outcome"], "evicted", "{tried:?}");
    let refusal = &tried[0]["refusals"][0];
    assert_eq!(refusal["finding"]["code"], "REF-WITHDRAWN", "{refusal}");
    assert_eq!(refusal["subject"]["pcr"]["index"], 4, "{refusal}");
    assert_eq!(refusal["would_match"]["name"], "recorded-boot", "{refusal}");
    assert_eq!(refusal["allow"], serde_json::json!([]), "{refusal}");
    assert_eq!(tried[1]["counts"]["evicted"], 1, "{tried:?}");
    let tried = machine.dry_run(&predictions(false)).await;
    assert_eq!(tried[0]["outcome"], "kept", "{tried:?}");
    let plan = machine.plan(&predictions(true)).await;
    assert_eq!(plan["machines"]["count"], 1, "{plan}");
    let evicted = &plan["machines"]["evicted"][0];
    assert_eq!(evicted["finding"]["code"], "REF-WITHDRAWN", "{plan}");
    assert_eq!(plan["machines"]["judged"], 1, "{plan}");
    assert_eq!(plan["acknowledge"]["evict"], 1, "{plan}");
    // Nor may it be applied by whoever has not seen that.
    let version = machine.fixture.status().await["estate"]["version"].clone();
    let unseen = acknowledging::apply(&machine.fixture, &predictions(true), (0, 9)).await;
    assert_eq!(unseen["finding"]["code"], "ESTATE-EVICTS", "{unseen}");
    let next = unseen["finding"]["next"].as_str().unwrap();
    assert!(next.contains("--evict 1"), "{next}");
    assert!(unseen["index"].is_null(), "{unseen}");
    let after = machine.fixture.status().await["estate"]["version"].clone();
    assert_eq!(version, after);
    let verdicts = machine.fixture.records(&["verdict"]).await;
    assert_eq!(verdicts.len(), 1, "nothing was decided");
    // Chips that the estate trusts no longer would not come in, whatever they booted.
    let mut untrusted = predictions(false);
    untrusted.0.remove("references/tpm.toml");
    let tried = machine.dry_run(&untrusted).await;
    let code = &tried[0]["findings"][0]["code"];
    assert_eq!(tried[0]["outcome"], "evicted", "{tried:?}");
    assert!(code.to_string().contains("TPM-EK"), "{tried:?}");

    let seen = acknowledging::apply(&machine.fixture, &predictions(true), (1, 0)).await;
    assert!(seen["index"].is_u64(), "{seen}");
    let told = machine.explain(verdicts[0].0).await;
    assert_eq!(told["outcome"], "affirmed", "{told}");
    assert_eq!(told["today"]["outcome"], "refused", "{told}");
    let account = &told["account"];
    assert_eq!(account["quoted"], true, "{told}");
    assert_eq!(account["outline"]["secure_boot"], true, "{told}");
    assert_eq!(account["outline"]["loader"], "grub", "{told}");
    let version = account["outline"]["kernel_version"].as_str().unwrap();
    assert!(version.starts_with("4.18.0-240"), "{version}");
    let known = account["events"].as_array().unwrap().iter();
    let known = known.filter(|event| event["known"].to_string().contains("recorded-boot 1"));
    assert!(known.count() > 5, "events of PCR 4 and 7 are named: {told}");
    let records = machine.fixture.records(&["verdict", "revocation"]).await;
    let [.., (_, verdict), (_, revocation)] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(verdict["body"]["outcome"], "refused");
    assert_eq!(verdict["body"]["findings"][0]["code"], "REF-WITHDRAWN");
    assert_eq!(revocation["body"]["target"]["kind"], "machine");

    // As it is good again, so is the machine, once it has proved itself.
    machine.fixture.apply(&predictions(false)).await.unwrap();
    machine.join(Some(&machine.log)).await.unwrap();
}

/// The server had forgotten that the agent answers, and did not ask one that says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn silence_after_a_restart_evicts_where_only_the_boot_is_predicted() {
    let pace = "[attestation]\ninterval_s = 1\nwindow_s = 3\n";
    let Some(mut machine) = Machine::boot("server.booting", pace).await else {
        return;
    };
    let pcrs = [4, 7].map(|pcr| machine.predicted(pcr, |_| {}));
    let files = machine.estate(pcrs.to_vec(), false);
    machine.fixture.apply(&files).await.unwrap();
    machine.join(Some(&machine.log)).await.unwrap();
    machine.fixture.stop().await;
    let path = machine.fixture.dir.path().join("server.toml");
    let config = server::Config::load(&path).unwrap();
    machine.fixture.server = Some(server::start(config).await.unwrap());
    let found = crate::attesting::refused(&machine.fixture, 1).await;
    assert_eq!(found[0].code, "ATTEST-MISSED");
}
