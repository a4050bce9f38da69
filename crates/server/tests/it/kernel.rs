//! A machine with a software chip and the list that a kernel would keep: what is measured is extended into
//! the chip and written as the kernel writes it.

use crate::harness::{Fixture, Machine, Sync, estate};
use crate::tpm::{evidence, pin};
use crypto::{Algorithm, KeyPair, hex, sha256};
use estate::EstateFiles;
use proto::v1;
use proto::v1::join_client::JoinClient;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use proto::v1::{AttestRequest, Attestation};
use references::{
    Artefact, ArtefactKind, Digest, FileValue, Generation, ReferenceFile, Source, SourceKind,
};
use std::sync::Arc;
use testkit::swtpm::Swtpm;
use tonic::Status;

/// A file that [`references`] lists.
pub(crate) const LISTED: &str = "/usr/bin/listed";

/// One entry of `binary_runtime_measurements`, and what the kernel extends for it.
pub(crate) fn entry(path: &str, digest: [u8; 32], is_violation: bool) -> (Vec<u8>, [u8; 32]) {
    testkit::chip::ima_entry("ima-ng", path, digest, is_violation)
}

/// What the file at `path` is.
pub(crate) fn content(path: &str) -> [u8; 32] {
    sha256(path.as_bytes())
}

/// A machine with a chip, and the list of its kernel.
pub(crate) struct Kernel {
    pub(crate) chip: Swtpm,
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Kernel {
    /// Booted: its list begins with the aggregate of PCRs that are all zero.
    pub(crate) fn boot(test: &str) -> Option<Self> {
        let chip = Swtpm::for_test(test)?;
        let mut kernel = Self {
            chip,
            entries: Vec::new(),
        };
        kernel.measure("boot_aggregate", sha256(&[0; 320]));
        kernel.measure(LISTED, content(LISTED));
        Some(kernel)
    }

    /// Boots again, clean.
    pub(crate) fn reboot(&mut self) {
        self.chip.power_off();
        self.chip.power_on().unwrap();
        self.entries.clear();
        self.measure("boot_aggregate", sha256(&[0; 320]));
        self.measure(LISTED, content(LISTED));
    }

    pub(crate) fn extend(&self, pcr: u32, digest: &[u8; 32]) {
        self.chip.extend(&[(pcr, *digest)]).unwrap();
    }

    pub(crate) fn measure(&mut self, path: &str, digest: [u8; 32]) {
        let (bytes, extended) = entry(path, digest, false);
        self.extend(10, &extended);
        self.entries.push(bytes);
    }

    pub(crate) fn violate(&mut self, path: &str) {
        let (bytes, extended) = entry(path, [0; 32], true);
        self.extend(10, &extended);
        self.entries.push(bytes);
    }

    /// From entry `first` on.
    pub(crate) fn list(&self, first: u64) -> Vec<u8> {
        self.entries[usize::try_from(first).unwrap()..].concat()
    }

    pub(crate) fn ek(&self) -> String {
        let mut tpm = device::tpm::Tpm::open(&self.chip.uri()).unwrap();
        hex::encode(&sha256(&tpm.endorsement().unwrap().public))
    }

    /// An estate in which this machine is `m1` of the pool `demo`.
    pub(crate) fn estate(&self, references: Option<&ReferenceFile>) -> EstateFiles {
        let pem = [self.chip.root_pem(), self.chip.issuer_pem()];
        let pem = pem.map(|path| std::fs::read_to_string(path).unwrap());
        let mut files = estate();
        files.insert(
            "references/tpm.toml",
            format!(
                "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n\
                 [[machine]]\nname = \"m1\"\nek_sha256 = [\"{}\"]\npool = \"demo\"\n",
                pem.concat(),
                self.ek()
            ),
        );
        if let Some(references) = references {
            files.insert("references/files.json", references.to_json());
        }
        files
    }

    pub(crate) async fn fixture(&self, more: &str) -> Fixture {
        let fixture = Fixture::configured(more).await;
        let files = self.estate(Some(&references(&[])));
        fixture.apply(&files).await.unwrap();
        fixture
    }

    pub(crate) async fn join(&self, fixture: &Fixture) -> Result<Machine, Status> {
        self.join_with(fixture, self.list(0)).await
    }

    pub(crate) async fn join_with(
        &self,
        fixture: &Fixture,
        list: Vec<u8>,
    ) -> Result<Machine, Status> {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        let (link, mut finish) = evidence(fixture, &self.chip, &key).await;
        finish.ima_list = list;
        let joined = JoinClient::new(link.channel).tpm_finish(finish).await?;
        Ok(Machine {
            address: fixture.address(),
            anchors: fixture.anchors(&pin(fixture).await).await,
            key,
            joined: joined.into_inner(),
        })
    }

    /// Answers the next question on `sync` honestly.
    pub(crate) async fn prove(&self, sync: &mut Sync) {
        let asked = question(sync).await;
        let answer = self.answer(&asked).await;
        sync.send(Message::Attestation(answer)).await;
    }

    /// What an honest agent answers.
    pub(crate) async fn answer(&self, asked: &AttestRequest) -> Attestation {
        let quote = quote(&self.chip, asked).await;
        Attestation {
            ima_first: asked.ima_entries,
            ima_list: self.list(asked.ima_entries),
            ..quote
        }
    }
}

pub(crate) async fn quote(chip: &Swtpm, asked: &AttestRequest) -> Attestation {
    let (uri, nonce, pcrs) = (chip.uri(), asked.nonce.clone(), asked.pcrs.clone());
    let nonce: [u8; 32] = nonce.try_into().unwrap();
    let quote = tokio::task::spawn_blocking(move || {
        let tpm = device::tpm::Tpm::open(&uri).unwrap();
        device::tpm::quote(tpm, &nonce, &pcrs).unwrap()
    });
    let quote = quote.await.unwrap();
    Attestation {
        nonce: asked.nonce.clone(),
        quote: quote.attested,
        quote_signature: quote.signature,
        pcr_values: quote.values,
        ..Attestation::default()
    }
}

/// A stream of a machine that keeps no list and has answered the first question.
pub(crate) async fn attested(chip: &Swtpm, machine: &Machine) -> Sync {
    let mut sync = machine.sync().await.unwrap();
    sync.send(Message::Hello(v1::NodeHello::default())).await;
    let asked = question(&mut sync).await;
    let answer = quote(chip, &asked).await;
    sync.send(Message::Attestation(answer)).await;
    sync
}

pub(crate) async fn question(sync: &mut Sync) -> AttestRequest {
    loop {
        if let Update::Attest(asked) = sync.next().await.unwrap() {
            return asked;
        }
    }
}

/// [`LISTED`] and `more` may run on every machine.
pub(crate) fn references(more: &[&str]) -> ReferenceFile {
    let at = facts::Timestamp::from_secs(1_700_000_000);
    let files = [LISTED].iter().chain(more).map(|path| FileValue {
        path: (*path).to_owned(),
        sha256: Digest(content(path)),
        fsverity: None,
        authenticode: None,
    });
    ReferenceFile {
        generations: vec![Generation {
            name: "files-1".to_owned(),
            rings: vec![references::ALL_RINGS.to_owned()],
            valid_from: at,
            valid_until: None,
            imported_at: at,
            sources: vec![Source {
                id: "pinned".to_owned(),
                kind: SourceKind::Pinned,
                name: "for the test".to_owned(),
                sha256: Digest([7; 32]),
                signed_by: Vec::new(),
                signed_at: None,
            }],
            artefacts: vec![Artefact {
                kind: ArtefactKind::Deb,
                name: "listed".to_owned(),
                version: "1".to_owned(),
                architecture: "amd64".to_owned(),
                sha256: Digest([8; 32]),
                source: "pinned".to_owned(),
                made_of: Vec::new(),
                files: files.collect(),
                pcrs: Vec::new(),
                unpredicted: Vec::new(),
                parts: references::Parts::default(),
            }],
        }],
        boots: Vec::new(),
        withdrawn: Vec::new(),
    }
}
