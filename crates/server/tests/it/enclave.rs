//! Enclaves that join alone, without a TPM: of Nitro and of SGX. Hypervisor and processor are stand-ins, with keys of
//! ours; everything else is what runs.

mod again;
mod agents;
mod lies;
mod placed;

use crate::harness::{
    DOMAIN, Fixture, Link, Machine, PROGRAM, config_text, estate, finding, program, transcript,
    verify,
};
use crate::tee::facts_of;
use crate::tee_forged::forge_intel::Platform;
use crate::tee_forged::forge_nitro::Enclave;
use crate::tee_forged::{nitro_enclave, nitro_root, sgx_bundle, sgx_enclave, tdx_root};
use crate::tpm::pin;
use crypto::{Algorithm, KeyPair, Signer as _};
use estate::EstateFiles;
use facts::{Source, Value};
use proto::v1;
use proto::v1::join_client::JoinClient;
use proto::v1::node_client::NodeClient;
use server::Config;
use std::sync::Arc;
use svid_tls::{BundleSource, OwnSvid};
use tonic::Status;

const INSTANCE: [u8; 16] = [0x1d; 16];

/// What an enclave is asked, and by what key it asks.
pub(crate) struct Asked {
    pub(crate) data: [u8; 64],
    pub(crate) nonce: Vec<u8>,
    pub(crate) spki: Vec<u8>,
}

/// A server whose pool `demo` has enclaves.
pub(crate) struct Site {
    pub(crate) fixture: Fixture,
    files: EstateFiles,
}

/// Where enclaves of Nitro stand, under our root.
pub(crate) fn nitro() -> String {
    let digest = |byte: &str| byte.repeat(48);
    format!(
        "[[tee]]\npool = \"demo\"\nkind = \"nitro\"\nroot = \"lab-nitro\"\n\
         [[tee.image]]\nname = \"prod\"\n[tee.image.pcrs]\n0 = \"{}\"\n3 = \"{}\"\n8 = \"{}\"\n",
        digest("01"),
        digest("04"),
        digest("09"),
    )
}

/// Where enclaves of SGX stand.
pub(crate) fn sgx() -> String {
    format!(
        "[[tee]]\npool = \"demo\"\nkind = \"sgx\"\nroot = \"lab-sgx\"\nminimum_evaluation = 17\n\
         [[tee.image]]\nname = \"vault\"\nmrenclave = \"{}\"\nminimum_svn = 9\n",
        "ec".repeat(32),
    )
}

impl Site {
    /// `asked` is what stands under `[[tee]]`.
    pub(crate) async fn start(asked: &str, configuration: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = config_text(dir.path()).replacen(
            "[custody.ca]",
            "tee_endorsements = \"bundle.json\"\n[custody.ca]",
            1,
        );
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text + configuration).unwrap();
        let server = server::start(Config::load(&path).unwrap()).await.unwrap();
        let fixture = Fixture {
            dir,
            server: Some(server),
        };
        let site = Self {
            files: files(),
            fixture,
        };
        site.endorse(&sgx_bundle(&sgx_enclave(&[0; 64])));
        site.ask(asked).await;
        site
    }

    pub(crate) fn endorse(&self, bundle: &str) {
        let beside = self.fixture.dir.path().join("bundle.new");
        std::fs::write(&beside, bundle).unwrap();
        std::fs::rename(beside, self.fixture.dir.path().join("bundle.json")).unwrap();
    }

    /// Applies the estate that asks for this.
    pub(crate) async fn ask(&self, asked: &str) {
        let mut files = self.files.clone();
        files.insert("references/tee.toml", asked.to_owned());
        self.fixture.apply(&files).await.unwrap();
    }

    pub(crate) async fn link(&self) -> (Link, Arc<dyn BundleSource>) {
        let anchors = self.fixture.anchors(&pin(&self.fixture).await).await;
        let link = Link::dial(self.fixture.address(), OwnSvid::empty(), anchors.clone()).await;
        (link, anchors)
    }

    /// Joins with whatever `show` makes of what was asked.
    pub(crate) async fn join(
        &self,
        kind: &str,
        show: impl FnOnce(&Asked) -> Vec<u8>,
    ) -> Result<Machine, Status> {
        self.join_showing(kind, |finish, asked| finish.report = show(asked))
            .await
    }

    /// As [`Site::join`], with more that the enclave sends.
    pub(crate) async fn join_showing(
        &self,
        kind: &str,
        show: impl FnOnce(&mut v1::EnclaveFinishRequest, &Asked),
    ) -> Result<Machine, Status> {
        let key = key();
        let (link, anchors) = self.link().await;
        let (mut finish, asked) = answered(&link, anchors.as_ref(), &key, kind).await;
        show(&mut finish, &asked);
        let joined = JoinClient::new(link.channel).enclave_finish(finish).await?;
        Ok(Machine {
            address: self.fixture.address(),
            anchors,
            key,
            joined: joined.into_inner(),
        })
    }

    pub(crate) async fn refused(
        &self,
        kind: &str,
        show: impl FnOnce(&mut v1::EnclaveFinishRequest, &Asked),
    ) -> facts::Finding {
        let refused = self.join_showing(kind, show).await;
        finding(&refused.err().expect("it is refused"))
    }

    pub(crate) async fn count(&self, kind: &str) -> usize {
        self.fixture.records(&[kind]).await.len()
    }
}

/// The estate without its enclaves: their roots, and a policy that asks for what runs in them.
fn files() -> EstateFiles {
    let mut files = estate();
    files.insert(
        "references/roots.toml",
        format!(
            "[[pool]]\nname = \"other\"\n\
             [[tee_root]]\nname = \"lab-nitro\"\nkind = \"nitro\"\npem = '''\n{}'''\n\
             [[tee_root]]\nname = \"lab-sgx\"\nkind = \"sgx\"\npem = '''\n{}'''\n",
            nitro_root(),
            tdx_root(),
        ),
    );
    let assume = files.0["policies/assume.cedar"].replacen(
        "when { principal has uid && principal.uid == 1000 &&",
        "when { principal.machine has join && principal.machine.join == \"enclave\" && \
         principal.machine has tee && principal.machine.tee has image && \
         [\"prod\", \"vault\"].contains(principal.machine.tee.image) && \
         principal has uid && principal.uid == 1000 &&",
        1,
    );
    assert!(assume.contains("machine.tee"));
    files.insert("policies/assume.cedar", assume);
    files
}

pub(crate) fn key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap())
}

/// An honest answer but for the report, and what that has to be of.
pub(crate) async fn answered(
    link: &Link,
    anchors: &dyn BundleSource,
    key: &KeyPair,
    kind: &str,
) -> (v1::EnclaveFinishRequest, Asked) {
    let challenge = JoinClient::new(link.channel.clone())
        .enclave_challenge(v1::EnclaveChallengeRequest {})
        .await
        .unwrap()
        .into_inner();
    let server = svid_tls::peer::validate(&link.server, anchors, facts::Timestamp::now()).unwrap();
    let spki = key.public_key().spki_der().to_vec();
    let digest = transcript(&[
        b"trilith-enclave-join-v1",
        DOMAIN.as_bytes(),
        server.public_key.spki_der(),
        &link.exporter,
        &challenge.nonce,
        &INSTANCE,
        &spki,
    ]);
    let mut data = [0; 64];
    data[..32].copy_from_slice(&digest);
    let finish = v1::EnclaveFinishRequest {
        session: challenge.session,
        kind: kind.to_owned(),
        report: Vec::new(),
        public_key: spki.clone(),
        proof: key.sign(&data).unwrap(),
        instance: INSTANCE.to_vec(),
        join_state: Vec::new(),
        renewal_id: Vec::new(),
    };
    let asked = Asked {
        data,
        nonce: challenge.nonce,
        spki,
    };
    (finish, asked)
}

/// The enclave that an honest hypervisor speaks for.
pub(crate) fn of_nitro(asked: &Asked) -> Enclave {
    nitro_enclave([&asked.data, &asked.nonce, &asked.spki])
}

pub(crate) fn honest(asked: &Asked) -> Vec<u8> {
    of_nitro(asked).document()
}

pub(crate) fn of_sgx(asked: &Asked) -> Platform {
    sgx_enclave(&asked.data)
}

pub(crate) fn honest_sgx(asked: &Asked) -> Vec<u8> {
    of_sgx(asked).quote()
}

/// Renews with whatever `show` makes of what was asked.
pub(crate) async fn renew(
    machine: &Machine,
    id: [u8; 16],
    kind: &str,
    show: impl FnOnce(&mut v1::EnclaveFinishRequest, &Asked),
) -> Result<Machine, Status> {
    let key = key();
    renew_by(machine, id, kind, (Arc::clone(&key), key), show).await
}

/// As [`renew`], with one key to be certified and another that the hardware speaks of.
pub(crate) async fn renew_by(
    machine: &Machine,
    id: [u8; 16],
    kind: &str,
    (key, shown): (Arc<KeyPair>, Arc<KeyPair>),
    show: impl FnOnce(&mut v1::EnclaveFinishRequest, &Asked),
) -> Result<Machine, Status> {
    let link = machine.link().await;
    let spki = key.public_key().spki_der().to_vec();
    let signed = transcript(&[
        b"trilith-renew-v1",
        DOMAIN.as_bytes(),
        &link.exporter,
        &id,
        &crypto::sha256(&machine.joined.join_state),
        &spki,
    ]);
    let (mut finish, asked) = answered(&link, machine.anchors.as_ref(), &shown, kind).await;
    show(&mut finish, &asked);
    let request = v1::RenewRequest {
        public_key: spki,
        join_state: machine.joined.join_state.clone(),
        generation: machine.joined.generation,
        renewal_id: id.to_vec(),
        proof: key.sign(&signed).unwrap(),
        tpm: None,
        enclave: Some(finish),
    };
    let joined = NodeClient::new(link.channel).renew(request).await?;
    Ok(Machine {
        key,
        joined: joined.into_inner(),
        ..machine.clone()
    })
}

/// What the released program of uid 1000 holds on `machine`.
pub(crate) async fn held(machine: &Machine) -> Vec<crate::harness::Held> {
    let mut sync = machine.sync().await.unwrap();
    let asked = sync.ask("w1", &program(1000, PROGRAM), Vec::new()).await;
    asked.unwrap().1
}

fn kept(verdict: &serde_json::Value) -> Vec<&str> {
    let evidence = verdict["body"]["evidence"].as_array().unwrap();
    let kinds = evidence.iter().filter_map(|one| one["kind"].as_str());
    kinds.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enclave_of_nitro_joins_alone_and_its_workload_is_what_its_image_may_be() {
    let site = Site::start(&nitro(), "").await;
    let machine = site.join("nitro", honest).await.unwrap();
    let facts = facts_of(&machine);
    let pcr = |byte: &str| byte.repeat(48);
    for (name, value) in [
        ("machine.name", "nitro-lab-nitro-i-0123-enc4567"),
        ("machine.pool", "demo"),
        ("machine.join", "enclave"),
        ("machine.key", "memory-of-enclave"),
        ("machine.tee.kind", "nitro"),
        ("machine.tee.image", "prod"),
        ("machine.tee.root", "lab-nitro"),
        ("machine.tee.platform", "i-0123-enc4567"),
        ("machine.tee.measurement", &pcr("01")),
        ("machine.tee.pcr1", &pcr("02")),
        ("machine.tee.pcr2", &pcr("03")),
        ("machine.tee.pcr3", &pcr("04")),
        ("machine.tee.pcr4", &pcr("05")),
        ("machine.tee.signer", &pcr("09")),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    assert_eq!(facts.value("machine.tee.debug"), Some(&Value::Bool(false)));
    let hardware = facts.iter().filter(|fact| fact.source == Source::Hardware);
    assert_eq!(hardware.count(), 0, "no vendor stands behind it");
    assert!(facts.fact("machine.tpm.kind").is_none());
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(verdict["body"]["outcome"], "affirmed");
    assert_eq!(verdict["body"]["ar4si"], "hw97 ex3 cf2 id2");
    assert_eq!(
        kept(&verdict),
        [
            "nitro-document",
            "join-nonce",
            "join-channel",
            "enclave-key"
        ]
    );

    // It decides an identity, whose record has the same summary.
    let held = held(&machine).await;
    assert_eq!(held.len(), 1);
    let bundle = machine.joined.bundle.clone().unwrap();
    let ledger = site.fixture.ledger_key().await;
    let issued = verify(&held[0].svid.certificate_chain, &bundle, &ledger);
    assert_eq!(issued.issuance.ar4si.as_deref(), Some("hw97 ex3 cf2 id2"));
    let told = crate::telling::ear(&site.fixture, "nitro-lab-nitro-i-0123-enc4567", &[7; 16]).await;
    let told = told.unwrap();
    let claims = crate::telling::part(told["token"].as_str().unwrap(), 1);
    let of = &claims["submods"][machine.joined.node_id.as_str()];
    assert_eq!(
        of["ear_status"], "contraindicated",
        "under no vendor's root"
    );
    let facts = &of["ear_verifier_claims"]["trilith.facts"];
    assert_eq!(facts["machine.join"], "enclave");
    assert_eq!(facts["machine.tee.image"], "prod");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enclave_of_sgx_joins_alone_by_its_quote() {
    let site = Site::start(&(sgx() + &nitro()), "").await;
    let machine = site.join("sgx", honest_sgx).await.unwrap();
    let facts = facts_of(&machine);
    for (name, value) in [
        ("machine.pool", "demo"),
        ("machine.join", "enclave"),
        ("machine.tee.kind", "sgx"),
        ("machine.tee.image", "vault"),
        ("machine.tee.root", "lab-sgx"),
        ("machine.tee.measurement", &"ec".repeat(32)),
        ("machine.tee.signer", &"51".repeat(32)),
        ("machine.tee.platform", &"bb".repeat(16)),
        ("machine.tee.tcb.status", "UpToDate"),
        ("machine.tee.revocation", "checked"),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    for (name, value) in [("machine.tee.svn", 9), ("machine.tee.product", 7)] {
        assert_eq!(facts.value(name), Some(&Value::Integer(value)), "{name}");
    }
    let name = facts.text("machine.name").unwrap().to_owned();
    assert!(name.starts_with("sgx-lab-sgx-"), "{name}");
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(
        kept(&verdict),
        [
            "sgx-quote",
            "sgx-collateral",
            "join-nonce",
            "join-channel",
            "enclave-key"
        ]
    );
    assert_eq!(held(&machine).await.len(), 1);

    // By its signer, and above an SVN, another enclave of the same product.
    let signed = sgx().replace(
        &format!("mrenclave = \"{}\"", "ec".repeat(32)),
        &format!("mrsigner = \"{}\"\nproduct = 7", "51".repeat(32)),
    );
    site.ask(&signed).await;
    let other = site.join("sgx", |asked| {
        let mut enclave = of_sgx(asked);
        enclave.put(64, &[0xed; 32]);
        enclave.quote()
    });
    let other = facts_of(&other.await.unwrap());
    assert_ne!(other.text("machine.name"), Some(name.as_str()));
    // And the same code on the same processor, started twice.
    let again = site.join_showing("sgx", |finish, asked| {
        finish.report = honest_sgx(asked);
    });
    let again = again.await.unwrap();
    assert_eq!(facts_of(&again).text("machine.name"), Some(name.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_brings_fresh_evidence_and_an_old_document_evicts() {
    let site = Site::start(&nitro(), "").await;
    let mut old = Vec::new();
    let joined = site.join("nitro", |asked| {
        old = honest(asked);
        old.clone()
    });
    let machine = joined.await.unwrap();
    let renewed = renew(&machine, [1; 16], "nitro", |finish, asked| {
        finish.report = honest(asked);
    });
    let renewed = renewed.await.unwrap();
    assert_eq!(renewed.joined.generation, 2);
    assert_eq!(facts_of(&renewed).text("machine.pool"), Some("demo"));

    // By its key alone nothing is renewed.
    let refused = renewed.renew([2; 16]).await.err().unwrap();
    assert_eq!(finding(&refused).code, "RENEW-ENCLAVE");
    assert_eq!(site.count("revocation").await, 0);

    let replayed = renew(&renewed, [3; 16], "nitro", |finish, _| finish.report = old);
    let refused = finding(&replayed.await.err().unwrap());
    assert_eq!(refused.code, "TEE-NITRO-NONCE");
    let states = site.fixture.records(&["node-state"]).await;
    assert_eq!(states.last().unwrap().1["body"]["state"], "evicted");
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(verdict["body"]["outcome"], "refused");
    assert_eq!(verdict["body"]["findings"][0]["code"], "TEE-NITRO-NONCE");
    // It comes back clean.
    site.join("nitro", honest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_answer_was_lost_is_repeated_and_a_copied_state_locks() {
    let site = Site::start(&nitro(), "").await;
    let first = site.join("nitro", honest).await.unwrap();
    let again = |id: [u8; 16]| {
        let state = first.joined.join_state.clone();
        site.join_showing("nitro", move |finish, asked| {
            finish.report = honest(asked);
            finish.join_state = state;
            finish.renewal_id = id.to_vec();
        })
    };
    let second = again([1; 16]).await.unwrap();
    assert_eq!(second.joined.generation, 2);
    let repeated = again([1; 16]).await.unwrap();
    assert_eq!(repeated.joined.generation, 2, "the same join");
    let copied = again([2; 16]).await.err().unwrap();
    assert_eq!(finding(&copied).code, "AGENT-LOCKED");
}
