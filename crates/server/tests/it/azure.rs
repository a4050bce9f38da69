//! Machines of Azure's with a paravisor: their TPM brings no endorsement key that the estate knows, and the
//! hardware vouches for its attestation key. Chip, paravisor and hardware are stand-ins, with keys of ours.

use crate::harness::{DOMAIN, Fixture, Machine, PROGRAM, config_text, estate, finding, program};
use crate::tee_forged::forge_azure::{SNP, hcl, jwk, report_data};
use crate::tee_forged::forge_snp::Machine as Guest;
use crate::tee_forged::{bundle, domain, guest, report, snp_root, tdx_root};
use crate::tpm::{evidence, opened, pin};
use crate::tpm_renewal::renew_showing;
use agent::AgentConfig;
use crypto::{Algorithm, KeyPair, base64};
use estate::EstateFiles;
use facts::{FactSet, Source};
use proto::v1;
use proto::v1::join_client::JoinClient;
use server::Config;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testkit::swtpm::{Attributes, Paravisor};
use tokio_util::sync::CancellationToken;
use tonic::Status;

mod tdx;

const VM: &str = "26F8BC30-774E-4290-8E7A-535F3B672AEE";
/// The paravisor that may vouch, at the TCB that the good machine has.
const GOOD: &str = "kind = \"azure-snp\"\nroot = \"lab\"\n\
    [[tee.floor]]\ngeneration = \"milan\"\nbootloader = 3\ntee = 1\nsnp = 24\nmicrocode = 217\n\
    [[tee.image]]\nname = \"paravisor\"\nminimum_svn = 7\nmeasurement = \"3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e\"\n";

/// Of machines in no pool, and of those in `demo`.
fn asked() -> String {
    format!("[[tee]]\n{GOOD}[[tee]]\npool = \"demo\"\n{GOOD}")
}

struct Site {
    fixture: Fixture,
    chip: Paravisor,
}

impl Site {
    /// `None`: the chip cannot be made here.
    async fn start(test: &str, key: Attributes, configuration: &str) -> Option<Self> {
        let chip = match Paravisor::start(key) {
            Ok(chip) => chip,
            Err(missing) => {
                testkit::skip(test, &missing.to_string());
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let text = config_text(dir.path()).replacen(
            "[custody.ca]",
            "tee_endorsements = \"bundle.json\"\n[custody.ca]",
            1,
        );
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text + configuration).unwrap();
        std::fs::write(dir.path().join("bundle.json"), bundle(&guest(), &domain())).unwrap();
        let server = server::start(Config::load(&path).unwrap()).await.unwrap();
        let fixture = Fixture {
            dir,
            server: Some(server),
        };
        let site = Self { fixture, chip };
        site.ask(&asked(), "").await;
        Some(site)
    }

    /// Applies the estate that asks for this, and names this machine.
    async fn ask(&self, asked: &str, machine: &str) {
        self.fixture.apply(&files(asked, machine)).await.unwrap();
    }

    /// The digest that pins the machine.
    fn ak(&self) -> String {
        let mut tpm = opened(&self.chip.chip.uri());
        crypto::hex::encode(&crypto::sha256(&tpm.attestation_key().unwrap().public))
    }

    /// What its paravisor says, unless `change` makes it another machine.
    fn report(&self, change: impl FnOnce(&mut Guest)) -> Vec<u8> {
        let claims = claims(&self.chip.modulus().unwrap(), VM);
        let mut guest = guest();
        change(&mut guest);
        hcl(SNP, &report(&guest, &report_data(&claims)), &claims)
    }

    fn honest(&self) -> Option<v1::TeeEvidence> {
        shown(self.report(|_| {}))
    }

    async fn join(&self, tee: Option<v1::TeeEvidence>) -> Result<Machine, Status> {
        let key = key();
        let (link, mut finish) = evidence(&self.fixture, &self.chip.chip, &key).await;
        finish.tee = tee;
        let joined = JoinClient::new(link.channel).tpm_finish(finish).await?;
        Ok(Machine {
            address: self.fixture.address(),
            anchors: self.fixture.anchors(&pin(&self.fixture).await).await,
            key,
            joined: joined.into_inner(),
        })
    }

    async fn refused(&self, tee: Option<v1::TeeEvidence>) -> String {
        let refused = self.join(tee).await.err().expect("it is refused");
        finding(&refused).code.to_string()
    }

    async fn renew(
        &self,
        machine: &Machine,
        id: [u8; 16],
        tee: Option<v1::TeeEvidence>,
    ) -> Result<Machine, Status> {
        let chip = &self.chip.chip;
        renew_showing(machine, chip, id, key(), |finish, _| finish.tee = tee).await
    }

    async fn count(&self, kind: &str) -> usize {
        self.fixture.records(&[kind]).await.len()
    }
}

fn key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap())
}

fn claims(modulus: &[u8], vm: &str) -> String {
    let ak = jwk("HCLAkPub", "RSA", &base64::encode_url(modulus));
    format!(r#"{{"keys":[{ak}],"vm-configuration":{{"secure-boot":true,"vmUniqueId":"{vm}"}}}}"#)
}

fn shown(report: Vec<u8>) -> Option<v1::TeeEvidence> {
    Some(v1::TeeEvidence {
        kind: "azure-snp".to_owned(),
        report,
        ..v1::TeeEvidence::default()
    })
}

fn files(asked: &str, machine: &str) -> EstateFiles {
    let mut files = estate();
    let roots = format!(
        "[[tee_root]]\nname = \"lab\"\nkind = \"sev-snp\"\ngeneration = \"milan\"\npem = '''\n{}'''\n\
         [[tee_root]]\nname = \"lab-tdx\"\nkind = \"tdx\"\npem = '''\n{}'''\n",
        snp_root(),
        tdx_root(),
    );
    files.insert("references/tee.toml", roots + asked);
    if !machine.is_empty() {
        files.insert(
            "references/tpm.toml",
            format!("[[machine]]\nname = \"web-1\"\npool = \"demo\"\n{machine}"),
        );
    }
    let assume = files.0["policies/assume.cedar"].replacen(
        "when { principal has uid && principal.uid == 1000 &&",
        "when { principal.machine has tee && principal.machine.tee has kind && \
         [\"azure-snp\", \"azure-tdx\"].contains(principal.machine.tee.kind) && \
         principal.machine has tpm && principal.machine.tpm has ak_chain && \
         principal.machine.tpm.ak_chain == \"vouched\" && \
         principal has uid && principal.uid == 1000 &&",
        1,
    );
    assert!(assume.contains("azure-snp"));
    files.insert("policies/assume.cedar", assume);
    files
}

fn pinned(ak: &str) -> String {
    format!("ak_sha256 = [\"{ak}\"]\n")
}

fn facts_of(machine: &Machine) -> FactSet {
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    verdict.facts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_a_paravisor_joins_by_the_key_that_its_hardware_vouches_for() {
    let Some(site) = Site::start("server.azure-join", Attributes::Azure, "").await else {
        return;
    };
    let stranger = site.join(site.honest()).await.unwrap();
    let facts = facts_of(&stranger);
    let ak = site.ak();
    for (name, value) in [
        (
            "machine.name",
            format!("tpm-{}", ak.get(..12).unwrap()).as_str(),
        ),
        ("machine.tpm.kind", "tee"),
        ("machine.tpm.ak_chain", "vouched"),
        ("machine.tpm.ak_sha256", ak.as_str()),
        ("machine.tee.kind", "azure-snp"),
        ("machine.tee.image", "paravisor"),
        ("machine.tee.root", "lab"),
        ("machine.cloud.provider", "azure"),
        ("machine.cloud.instance_id", VM.to_lowercase().as_str()),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    assert_eq!(facts.text("machine.tpm.ek_sha256"), None);
    // No vendor stands behind it.
    let hardware = facts.iter().filter(|fact| fact.source == Source::Hardware);
    assert_eq!(hardware.count(), 0);
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    let kept = verdict["body"]["evidence"].to_string();
    for kind in ["tpm-quote", "hcl-report", "snp-key", "snp-crl"] {
        assert!(kept.contains(kind), "{kept}");
    }
    let program = program(1000, PROGRAM);
    let chip = &site.chip.chip;
    let mut sync = crate::kernel::attested(chip, &stranger).await;
    let (_, held) = sync.ask("w1", &program, Vec::new()).await.unwrap();
    assert!(held.is_empty(), "it is in no pool");

    // The estate names the machine by that key; the hardware goes on to vouch for it.
    site.ask(&asked(), &pinned(&ak)).await;
    let machine = site.join(site.honest()).await.unwrap();
    assert!(machine.joined.node_id.ends_with("/web-1"));
    assert_eq!(
        facts_of(&machine).text("machine.tpm.ak_chain"),
        Some("vouched")
    );
    let mut sync = crate::kernel::attested(chip, &machine).await;
    let (issued, held) = sync.ask("w1", &program, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    // The one by a policy that asks for the hardware, the other by one that asks for the pool alone.
    let pooled = crate::harness::program(2000, PROGRAM);
    let (pooled, _) = sync.ask("w2", &pooled, Vec::new()).await.unwrap();
    let serials = [&issued, &pooled].map(|one| one.svids[0].serial.clone());
    // The report of the boot stays the same; what is fresh is the quote.
    let renewed = site.renew(&machine, [1; 16], site.honest()).await.unwrap();
    assert_eq!(renewed.joined.node_id, machine.joined.node_id);

    // Evidence that is kept is tried on an estate as a join's is.
    let tried = |files: EstateFiles| {
        let request = v1::DryRunRequest {
            files: files.to_blob(),
            node: "web-1".to_owned(),
            ..v1::DryRunRequest::default()
        };
        let site = &site;
        async move {
            let mut admin = site.fixture.admin().await;
            let mut told = admin.attest_dry_run(request).await.unwrap().into_inner();
            let first = told.message().await.unwrap().unwrap();
            let first: serde_json::Value = serde_json::from_str(&first.json).unwrap();
            first["outcome"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(tried(files(&asked(), &pinned(&ak))).await, "kept");
    let newer = asked().replace("microcode = 217", "microcode = 218");
    assert_eq!(tried(files(&newer, &pinned(&ak))).await, "evicted");

    // Nobody vouches for it any more.
    site.ask("", &pinned(&ak)).await;
    let revoked = site.fixture.records(&["revocation"]).await;
    for serial in serials {
        let of =
            |(_, record): &(u64, serde_json::Value)| record["body"]["target"]["value"] == serial;
        assert!(revoked.iter().any(of), "{serial}: {revoked:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_a_machine_with_a_paravisor_is_refused_and_nobody_joins() {
    let Some(site) = Site::start("server.azure-lies", Attributes::Azure, "").await else {
        return;
    };
    let ours = site.chip.modulus().unwrap();
    let mut theirs = ours.clone();
    theirs[100] ^= 1;
    let (ours, theirs) = (claims(&ours, VM), claims(&theirs, VM));
    let signed = |claims: &str| report(&guest(), &report_data(claims));
    let cases: Vec<(&str, &str, Option<v1::TeeEvidence>)> = vec![
        ("TPM-AK-UNKNOWN", "no report", None),
        (
            "TPM-AK-VOUCHED",
            "the report of another machine",
            shown(hcl(SNP, &signed(&theirs), &theirs)),
        ),
        (
            "TEE-SNP-REPORT-DATA",
            "the hardware's report of another machine under this one's runtime data",
            shown(hcl(SNP, &signed(&theirs), &ours)),
        ),
        (
            "TEE-SNP-REPORT-DATA",
            "another id in the runtime data",
            shown(hcl(
                SNP,
                &signed(&ours),
                &ours.replace("26F8BC30", "26F8BC31"),
            )),
        ),
        (
            "TEE-AZURE-STRUCTURE",
            "an id of another form",
            shown(hcl(SNP, &signed(&ours), &ours.replace(VM, "web-1"))),
        ),
        (
            "TEE-SNP-DEBUG",
            "a paravisor that may be debugged",
            shown(site.report(|it| it.put(0x08, &0xb_0000_u64.to_le_bytes()))),
        ),
        (
            "TEE-SNP-IMAGE",
            "another paravisor, or none, which vouches for any key",
            shown(site.report(|it| it.put(0x90, &[0x3f; 48]))),
        ),
        (
            "TEE-SNP-IMAGE",
            "an older paravisor",
            shown(site.report(|it| it.put(0x04, &6_u32.to_le_bytes()))),
        ),
        (
            "TEE-SNP-VMPL",
            "the guest speaks for its paravisor",
            shown(site.report(|it| it.put(0x30, &2_u32.to_le_bytes()))),
        ),
        (
            "TEE-SNP-SIGNATURE",
            "signed by another key",
            shown(site.report(|it| it.signed_by_other = true)),
        ),
        (
            "TPM-AK-UNKNOWN",
            "the hardware's own report, which vouches for no key",
            Some(v1::TeeEvidence {
                kind: "sev-snp".to_owned(),
                report: signed(&ours),
                ..v1::TeeEvidence::default()
            }),
        ),
    ];
    for (code, what, tee) in cases {
        assert_eq!(site.refused(tee).await, code, "{what}");
    }
    // Good hardware does not make up for a TPM that lies, nor is it known of whom to speak then.
    for tee in [
        site.honest(),
        shown(site.report(|it| it.signed_by_other = true)),
    ] {
        let (link, mut finish) = evidence(&site.fixture, &site.chip.chip, &key()).await;
        finish.tee = tee;
        finish.quote_signature.reverse();
        let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
        let code = finding(&refused.unwrap_err()).code;
        assert!(code.starts_with("TPM-"), "{code}");
    }
    // Above a TCB that the machine has not; against AMD's own roots; where nothing is asked.
    let newer = asked().replace("microcode = 217", "microcode = 218");
    let vendors = asked().replace("root = \"lab\"\n", "");
    for (asked, code) in [
        (newer.as_str(), "TEE-SNP-TCB"),
        (vendors.as_str(), "TEE-SNP-CHAIN"),
        ("", "TPM-AK-UNKNOWN"),
    ] {
        site.ask(asked, "").await;
        assert_eq!(site.refused(site.honest()).await, code, "{asked}");
    }
    // A pin does not mend what the hardware says.
    site.ask(&asked(), &pinned(&site.ak())).await;
    let other = shown(hcl(SNP, &signed(&theirs), &theirs));
    assert_eq!(site.refused(other).await, "TPM-AK-VOUCHED");
    assert_eq!(site.refused(None).await, "TEE-MISSING");
    assert_eq!(site.count("node-state").await, 0, "nobody joined");
    assert_eq!(site.count("verdict").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_signs_anything_or_is_not_of_the_endorsement_hierarchy_is_vouched_for_in_vain() {
    let name = "server.azure-keys";
    let Some(site) = Site::start(name, Attributes::OfTheOwner, "").await else {
        return;
    };
    assert_eq!(site.refused(site.honest()).await, "TPM-AK-HIERARCHY");
    let loose = Paravisor::start(Attributes::Unrestricted).unwrap();
    let mut tpm = opened(&loose.chip.uri());
    let public = tpm.attestation_key().unwrap().public;
    let refused = attest_tpm::SigningKey::attestation(&public).unwrap_err();
    assert_eq!(refused.code, "TPM-AK-ATTRIBUTES");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_report_is_held_against_the_machine_that_shows_it_and_no_other() {
    let Some(site) = Site::start("server.azure-evicts", Attributes::Azure, "").await else {
        return;
    };
    site.ask(&asked(), &pinned(&site.ak())).await;
    let machine = site.join(site.honest()).await.unwrap();
    let bad = || shown(site.report(|it| it.put(0x08, &0xb_0000_u64.to_le_bytes())));
    // A stranger presents this machine's key, and a report that speaks against it.
    let neighbour = Paravisor::start(Attributes::Azure).unwrap();
    let (link, mut finish) = evidence(&site.fixture, &site.chip.chip, &key()).await;
    let (_, other) = evidence(&site.fixture, &neighbour.chip, &key()).await;
    finish.quote = other.quote;
    finish.quote_signature = other.quote_signature;
    finish.tee = bad();
    let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
    let code = finding(&refused.unwrap_err()).code;
    assert!(code.starts_with("TPM-"), "{code}");
    assert_eq!(site.count("revocation").await, 0, "nobody is evicted");

    let refused = site.renew(&machine, [1; 16], bad()).await;
    assert_eq!(finding(&refused.err().unwrap()).code, "TEE-SNP-DEBUG");
    let (_, last) = site.fixture.records(&["revocation"]).await.pop().unwrap();
    assert_eq!(last["body"]["target"]["value"], "web-1");
    // It joins clean.
    site.join(site.honest()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_machine_with_a_paravisor_does_not_come_back_by_another_key() {
    let Some(site) = Site::start("server.azure-ban", Attributes::Azure, "").await else {
        return;
    };
    site.ask(&asked(), &pinned(&site.ak())).await;
    site.join(site.honest()).await.unwrap();
    let revoked = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "web-1".to_owned(),
        reason: "stolen".to_owned(),
    };
    site.fixture.admin().await.revoke(revoked).await.unwrap();
    let before = site.ak();
    site.chip.change_key().unwrap();
    assert_ne!(before, site.ak());
    assert_eq!(site.refused(site.honest()).await, "AGENT-LOCKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_joins_by_its_paravisor_where_it_is_told_so_and_else_by_its_pinned_key() {
    const SHORT: &str = "[lifetimes]\nnode_s = 10\nskew_s = 0\n";
    let name = "server.azure-agent";
    let Some(site) = Site::start(name, Attributes::Azure, SHORT).await else {
        return;
    };
    let pin = pin(&site.fixture).await;
    let config = |tee: &str, data: &str| {
        let here = site.fixture.dir.path().display();
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/{data}\"\nworkload_socket = \"{here}/{data}.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{}\"\n{tee}",
            site.fixture.address(),
            site.chip.chip.uri(),
        );
        AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
    };
    let told = "[join.tee]\nparavisor = \"azure\"\n";
    // There is no report yet: it does not join as something less.
    let ended = agent::run(config(told, "none"), CancellationToken::new()).await;
    assert!(format!("{:?}", ended.unwrap_err()).contains("AGENT-TEE"));
    assert_eq!(site.count("node-state").await, 0);

    site.chip.report(&site.report(|_| {})).unwrap();
    let runs = |config: AgentConfig, states: usize| {
        let site = &site;
        async move {
            let stop = CancellationToken::new();
            let running = tokio::spawn(agent::run(config, stop.clone()));
            let joined = async {
                while site.count("node-state").await < states {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(90), joined)
                .await
                .expect("a join and renewals");
            stop.cancel();
            running.await.unwrap().unwrap();
        }
    };
    runs(config(told, "told"), 3).await;
    for (_, verdict) in site.fixture.records(&["verdict"]).await {
        assert_eq!(verdict["body"]["outcome"], "affirmed");
        assert_eq!(verdict["body"]["ar4si"], "hw97 ex3 cf2 id2");
    }

    // The same machine as it was known before: by its endorsement key, which an estate without paravisors pins.
    let mut tpm = device::tpm::Tpm::open(&site.chip.chip.uri()).unwrap();
    let ek = crypto::hex::encode(&crypto::sha256(&tpm.endorsement().unwrap().public));
    drop(tpm);
    site.ask("", &format!("ek_sha256 = [\"{ek}\"]\n")).await;
    let before = site.count("node-state").await;
    runs(config("", "untold"), before + 1).await;
    let (_, last) = site.fixture.records(&["node-state"]).await.pop().unwrap();
    assert_eq!(last["body"]["node"], "web-1");
}
