//! Machines that have to show the hardware that they run in. Chip and hardware are stand-ins, with keys of ours;
//! everything else is what runs.

mod allowing;
mod domains;
mod fetching;
mod three;

use crate::harness::{
    DOMAIN, Fixture, Link, Machine, PROGRAM, config_text, estate, finding, program,
};
use crate::tee_forged::forge_intel::Platform;
use crate::tee_forged::forge_snp::Machine as Guest;
use crate::tee_forged::{bundle, der, domain, guest, report, snp_root, tdx_root};
use crate::tpm::{answered, pin};
use crate::tpm_renewal::renew_showing;
use agent::AgentConfig;
use crypto::{Algorithm, KeyPair};
use estate::EstateFiles;
use facts::{Source, Timestamp, Value};
use proto::v1;
use proto::v1::join_client::JoinClient;
use server::Config;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::OwnSvid;
use testkit::swtpm::{Swtpm, SwtpmError};
use testkit::tsm::Tsm;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// What the good guest is: measured so, at this TCB.
pub(crate) const GOOD: &str = "[[tee.floor]]\ngeneration = \"milan\"\nbootloader = 3\ntee = 1\nsnp = 24\nmicrocode = 217\n\
    [[tee.image]]\nname = \"prod\"\nminimum_svn = 7\nmeasurement = \"3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e\"\n";
pub(crate) const SNP: &str = "[[tee]]\npool = \"demo\"\nkind = \"sev-snp\"\nroot = \"lab\"\n";
pub(crate) const TDX: &str = "[[tee]]\npool = \"demo\"\nkind = \"tdx\"\nroot = \"lab-tdx\"\n[[tee.image]]\nname = \"td\"\n\
    mrtd = \"3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d\"\n";

/// A server whose pool `demo` is asked for hardware, and the chip of the one machine in it.
pub(crate) struct Site {
    pub(crate) fixture: Fixture,
    pub(crate) chip: Swtpm,
    files: EstateFiles,
}

impl Site {
    /// `asked` is what stands under `[[tee]]`; `None`: the chip cannot be started here.
    pub(crate) async fn start(test: &str, asked: &str, configuration: &str) -> Option<Self> {
        Self::with(Swtpm::start(), test, asked, configuration).await
    }

    pub(crate) async fn with(
        chip: Result<Swtpm, SwtpmError>,
        test: &str,
        asked: &str,
        configuration: &str,
    ) -> Option<Self> {
        let chip = match chip {
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
        let server = server::start(Config::load(&path).unwrap()).await.unwrap();
        let fixture = Fixture {
            dir,
            server: Some(server),
        };
        let site = Self {
            files: files(&chip),
            fixture,
            chip,
        };
        site.endorse(&bundle(&guest(), &domain()));
        site.ask(asked).await;
        Some(site)
    }

    fn endorse(&self, bundle: &str) {
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

    /// A chip's answer to a challenge, and what a report has to be of.
    async fn evidence(&self) -> (Link, v1::TpmFinishRequest, [u8; 64], Arc<KeyPair>) {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        let anchors = self.fixture.anchors(&pin(&self.fixture).await).await;
        let link = Link::dial(self.fixture.address(), OwnSvid::empty(), anchors.clone()).await;
        let (finish, asked) = answered(&link, anchors.as_ref(), &self.chip, &key).await;
        (link, finish, asked, key)
    }

    /// Joins with whatever `show` makes of what was asked.
    pub(crate) async fn join(
        &self,
        show: impl FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence>,
    ) -> Result<Machine, Status> {
        let (link, mut finish, asked, key) = self.evidence().await;
        finish.tee = show(&asked);
        let joined = JoinClient::new(link.channel).tpm_finish(finish).await?;
        Ok(Machine {
            address: self.fixture.address(),
            anchors: self.fixture.anchors(&pin(&self.fixture).await).await,
            key,
            joined: joined.into_inner(),
        })
    }

    pub(crate) async fn refused(
        &self,
        show: impl FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence>,
    ) -> String {
        let refused = self.join(show).await.err().expect("it is refused");
        finding(&refused).code.to_string()
    }

    pub(crate) async fn renew(
        &self,
        machine: &Machine,
        id: [u8; 16],
        show: impl FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence>,
    ) -> Result<Machine, Status> {
        let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
        renew_showing(machine, &self.chip, id, key, |finish, asked| {
            finish.tee = show(asked);
        })
        .await
    }

    /// How an agent on the machine is configured, whose reports come from there.
    async fn agent(&self, reports: &Path) -> AgentConfig {
        let pin = pin(&self.fixture).await;
        let here = self.fixture.dir.path().display();
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/agent\"\nworkload_socket = \"{here}/api.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{}\"\n[join.tee]\nreports = \"{}\"\n",
            self.fixture.address(),
            self.chip.uri(),
            reports.display(),
        );
        AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
    }

    /// How many records of these types there are.
    pub(crate) async fn count(&self, kind: &str) -> usize {
        self.fixture.records(&[kind]).await.len()
    }
}

/// The estate without its hardware: one machine in the pool, and a policy that asks for hardware.
fn files(chip: &Swtpm) -> EstateFiles {
    let mut files = estate();
    let pem =
        [chip.root_pem(), chip.issuer_pem()].map(|path| std::fs::read_to_string(path).unwrap());
    let uri = chip.uri();
    let mut tpm = device::tpm::Tpm::open(&uri).unwrap();
    let ek = crypto::hex::encode(&crypto::sha256(&tpm.endorsement().unwrap().public));
    files.insert(
        "references/tpm.toml",
        format!(
            "[[tpm_root]]\nname = \"test\"\nemulated = true\npem = '''\n{}'''\n\
             [[machine]]\nname = \"db-1\"\npool = \"demo\"\nek_sha256 = [\"{ek}\"]\n\
             [[tee_root]]\nname = \"lab\"\nkind = \"sev-snp\"\ngeneration = \"milan\"\npem = '''\n{}'''\n\
             [[tee_root]]\nname = \"lab-tdx\"\nkind = \"tdx\"\npem = '''\n{}'''\n",
            pem.concat(),
            snp_root(),
            tdx_root(),
        ),
    );
    let assume = files.0["policies/assume.cedar"].replacen(
        "when { principal has uid && principal.uid == 1000 &&",
        "when { principal.machine has tee && principal.machine.tee has image && \
         [\"prod\", \"td\"].contains(principal.machine.tee.image) && \
         principal has uid && principal.uid == 1000 &&",
        1,
    );
    assert!(assume.contains("machine.tee"));
    files.insert("policies/assume.cedar", assume);
    files
}

pub(crate) fn shown(kind: &str, report: Vec<u8>) -> Option<v1::TeeEvidence> {
    Some(v1::TeeEvidence {
        kind: kind.to_owned(),
        report,
        ..v1::TeeEvidence::default()
    })
}

/// What a machine makes of what was asked.
pub(crate) type Show<'a> = Box<dyn FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence> + 'a>;

/// What an honest guest shows.
pub(crate) fn honest(asked: &[u8; 64]) -> Option<v1::TeeEvidence> {
    shown("sev-snp", report(&guest(), asked))
}

pub(crate) fn honest_domain(asked: &[u8; 64]) -> Option<v1::TeeEvidence> {
    let mut domain = domain();
    domain.put(520, asked);
    shown("tdx", domain.quote())
}

/// Joins with the log of what the chip measured beside whatever `show` makes of what was asked.
pub(crate) async fn answered_with(
    site: &Site,
    log: &[u8],
    show: impl FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence>,
) -> Result<facts::FactSet, Status> {
    let (link, mut finish, asked, _) = site.evidence().await;
    finish.event_log = log.to_vec();
    finish.tee = show(&asked);
    let joined = JoinClient::new(link.channel).tpm_finish(finish).await?;
    let verdict: facts::Stated = serde_json::from_slice(&joined.into_inner().verdict).unwrap();
    Ok(verdict.facts)
}

pub(crate) fn facts_of(machine: &Machine) -> facts::FactSet {
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    verdict.facts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_shows_chip_and_hardware_as_one_and_both_are_kept() {
    let Some(site) = Site::start("server.tee-join", &(SNP.to_owned() + GOOD), "").await else {
        return;
    };
    let machine = site.join(honest).await.unwrap();
    let facts = facts_of(&machine);
    for (name, value) in [
        ("machine.name", "db-1"),
        ("machine.tpm.kind", "emulated"),
        ("machine.tee.kind", "sev-snp"),
        ("machine.tee.image", "prod"),
        ("machine.tee.root", "lab"),
        ("machine.tee.revocation", "checked"),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    // An operator sees that no vendor stands behind it.
    let hardware = facts.iter().filter(|fact| fact.source == Source::Hardware);
    assert_eq!(hardware.count(), 0);
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(verdict["body"]["ar4si"], "hw97 ex3 cf2 id2");
    let kept: Vec<&str> = verdict["body"]["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    for kind in ["tpm-quote", "snp-report", "snp-key", "snp-crl"] {
        assert!(kept.contains(&kind), "{kept:?}");
    }

    // The same number rests in the record of what the machine is issued, which receipts cover.
    let mut sync = crate::kernel::attested(&site.chip, &machine).await;
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 1);
    let ledger = site.fixture.ledger_key().await;
    let chain = &held[0].svid.certificate_chain;
    let bundle = machine.joined.bundle.clone().unwrap();
    let issued = crate::harness::verify(chain, &bundle, &ledger);
    assert_eq!(issued.issuance.ar4si.as_deref(), Some("hw97 ex3 cf2 id2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_about_the_hardware_is_refused_and_nobody_joins() {
    let Some(site) = Site::start("server.tee-lies", &(SNP.to_owned() + GOOD), "").await else {
        return;
    };
    let earlier = std::sync::Mutex::new(Vec::new());
    let first = site.refused(|asked| {
        *earlier.lock().unwrap() = report(&guest(), asked);
        None
    });
    assert_eq!(first.await, "TEE-MISSING");
    let changed = |change: fn(&mut Guest)| {
        move |asked: &[u8; 64]| {
            let mut guest = guest();
            change(&mut guest);
            shown("sev-snp", report(&guest, asked))
        }
    };
    let cases: Vec<(&str, Show<'_>)> = vec![
        // Made for a join that was begun before.
        (
            "TEE-SNP-REPORT-DATA",
            Box::new(|_| shown("sev-snp", earlier.lock().unwrap().clone())),
        ),
        // For the same nonce, by a guest that speaks for another chip's key; and for another nonce.
        (
            "TEE-SNP-REPORT-DATA",
            Box::new(|asked| {
                let mut other = *asked;
                other[0] ^= 1;
                shown("sev-snp", report(&guest(), &other))
            }),
        ),
        (
            "TEE-SNP-DEBUG",
            Box::new(changed(|it| it.put(0x08, &0xb_0000_u64.to_le_bytes()))),
        ),
        (
            "TEE-SNP-IMAGE",
            Box::new(changed(|it| it.put(0x90, &[0x3f; 48]))),
        ),
        (
            "TEE-SNP-IMAGE",
            Box::new(changed(|it| it.put(0x04, &6_u32.to_le_bytes()))),
        ),
        (
            "TEE-SNP-VMPL",
            Box::new(changed(|it| it.put(0x30, &1_u32.to_le_bytes()))),
        ),
        (
            "TEE-SNP-SIGNATURE",
            Box::new(changed(|it| it.signed_by_other = true)),
        ),
        // The certificate of another chip comes along, since none of this one is known.
        (
            "TEE-SNP-CHIP",
            Box::new(|asked| {
                let mut stranger = guest();
                stranger.put(0x1a0, &[0xdd; 64]);
                let report = report(&stranger, asked);
                let certificate = guest().key_certificate();
                Some(v1::TeeEvidence {
                    auxiliary: table(&certificate),
                    ..shown("sev-snp", report).unwrap()
                })
            }),
        ),
        ("TEE-KIND", Box::new(honest_domain)),
        (
            "TEE-KIND",
            Box::new(|asked| shown("sgx", report(&guest(), asked))),
        ),
        (
            "TEE-SNP-STRUCTURE",
            Box::new(|_| shown("sev-snp", Vec::new())),
        ),
        (
            "TEE-EVIDENCE-SIZE",
            Box::new(|_| shown("sev-snp", vec![0; 32 * 1024 + 1])),
        ),
    ];
    for (number, (code, show)) in cases.into_iter().enumerate() {
        assert_eq!(site.refused(show).await, code, "case {number}");
    }
    // Each part can only take away: neither stands for the other.
    let (link, mut finish, asked, _) = site.evidence().await;
    finish.tee = honest(&asked);
    finish.quote_signature.reverse();
    let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
    assert!(finding(&refused.unwrap_err()).code.starts_with("TPM-"));
    let (link, mut finish, _, _) = site.evidence().await;
    finish.tee = shown("sev-snp", Vec::new());
    finish.quote_signature.reverse();
    let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
    assert!(finding(&refused.unwrap_err()).code.starts_with("TPM-"));

    // Against the vendor's own roots, and above a TCB that the machine has not.
    let vendors = SNP.replace("root = \"lab\"\n", "") + GOOD;
    site.ask(&vendors).await;
    assert_eq!(site.refused(honest).await, "TEE-SNP-CHAIN");
    let newer = SNP.to_owned() + &GOOD.replace("microcode = 217", "microcode = 218");
    site.ask(&newer).await;
    assert_eq!(site.refused(honest).await, "TEE-SNP-TCB");
    let genoa = SNP.to_owned() + &GOOD.replace("milan", "genoa");
    site.ask(&genoa).await;
    assert_eq!(site.refused(honest).await, "TEE-SNP-GENERATION");
    assert_eq!(site.count("node-state").await, 0, "nobody joined");
    assert_eq!(
        site.count("verdict").await,
        0,
        "nobody is known of whom to record"
    );
}

/// A host's table of certificates with one VCEK.
fn table(certificate: &[u8]) -> Vec<u8> {
    let mut table = crypto::hex::decode("63da758de6644564adc5f4b93be8accd").unwrap();
    table.extend(48_u32.to_le_bytes());
    let length = u32::try_from(certificate.len()).unwrap();
    table.extend(length.to_le_bytes());
    table.extend([0; 24]);
    table.extend(certificate);
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_brings_fresh_evidence_and_a_replayed_report_evicts() {
    let Some(site) = Site::start("server.tee-renewal", &(SNP.to_owned() + GOOD), "").await else {
        return;
    };
    let old = std::sync::Mutex::new(Vec::new());
    let joined = site.join(|asked| {
        *old.lock().unwrap() = report(&guest(), asked);
        honest(asked)
    });
    let machine = joined.await.unwrap();
    let renewed = site.renew(&machine, [1; 16], honest).await.unwrap();
    assert_eq!(renewed.joined.generation, 2);
    assert_eq!(facts_of(&renewed).text("machine.tee.image"), Some("prod"));

    // Too little: it is not renewed, and goes on with what it has until that ends.
    let refused = site.renew(&renewed, [2; 16], |_| None).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TEE-MISSING");
    let mut stale = guest();
    let long_ago = Timestamp::now().minus_secs(10 * 86_400);
    stale.list = Some(der::List::new("ARK-Milan", long_ago));
    site.endorse(&bundle(&stale, &domain()));
    let refused = site.renew(&renewed, [3; 16], honest).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TEE-SNP-CRL");
    let mut sync = crate::kernel::attested(&site.chip, &renewed).await;
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(site.count("revocation").await, 0);
    site.endorse(&bundle(&guest(), &domain()));
    let renewed = site.renew(&renewed, [4; 16], honest).await.unwrap();

    // A lie: it is out at once, and comes back clean.
    let replayed = old.lock().unwrap().clone();
    let refused = site
        .renew(&renewed, [5; 16], |_| shown("sev-snp", replayed))
        .await;
    assert_eq!(finding(&refused.err().unwrap()).code, "TEE-SNP-REPORT-DATA");
    let states = site.fixture.records(&["node-state"]).await;
    assert_eq!(states.last().unwrap().1["body"]["state"], "evicted");
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(verdict["body"]["outcome"], "refused");
    assert_eq!(
        verdict["body"]["findings"][0]["code"],
        "TEE-SNP-REPORT-DATA"
    );
    assert_eq!(verdict["body"]["ar4si"], "id97");
    site.join(honest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn endorsements_are_taken_from_the_file_as_it_is_now() {
    let Some(site) = Site::start("server.tee-endorsed", &(SNP.to_owned() + GOOD), "").await else {
        return;
    };
    site.join(honest).await.unwrap();
    site.endorse("{}");
    let broken = site.join(honest).await;
    // The bundle that was read before goes on to count.
    broken.unwrap();
    site.endorse("{\"version\": 1}");
    let refused = finding(&site.join(honest).await.err().unwrap());
    assert_eq!(refused.code, "TEE-ENDORSEMENT-MISSING");
    assert!(refused.next.unwrap().contains("bundle"));
    let brought = site.join(|asked| {
        Some(v1::TeeEvidence {
            auxiliary: table(&guest().key_certificate()),
            ..honest(asked).unwrap()
        })
    });
    assert_eq!(finding(&brought.await.err().unwrap()).code, "TEE-SNP-CRL");
    let mut keyless: serde_json::Value =
        serde_json::from_str(&bundle(&guest(), &domain())).unwrap();
    keyless["snp"]["keys"] = serde_json::json!([]);
    site.endorse(&keyless.to_string());
    let brought = site.join(|asked| {
        Some(v1::TeeEvidence {
            auxiliary: table(&guest().key_certificate()),
            ..honest(asked).unwrap()
        })
    });
    brought.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_asks_for_hardware_takes_no_token() {
    let Some(site) = Site::start("server.tee-token", "", "").await else {
        return;
    };
    let before = site.fixture.token("web-1").await;
    let machine = site.fixture.join_with(&before).await.unwrap();
    let mut sync = machine.sync().await.unwrap();
    let gateway = program(2000, PROGRAM);
    let (_, held) = sync.ask("w1", &gateway, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1, "the pool asks for nothing yet");

    let unspent = site.fixture.token("web-2").await;
    site.ask(&(SNP.to_owned() + GOOD)).await;
    let refused = site.fixture.join_with(&unspent).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TEE-MISSING");
    assert_eq!(site.count("token-spent").await, 1);
    // Who had joined before has lost what the pool gave, and is not renewed.
    let serial = &held[0].svid.serial;
    let revoked = site.fixture.records(&["revocation"]).await;
    let is_cut = |(_, record): &(u64, serde_json::Value)| {
        record["body"]["target"]["value"] == serial.as_str()
    };
    assert!(revoked.iter().any(is_cut), "{revoked:#?}");
    let (_, held) = sync.ask("w1", &gateway, Vec::new()).await.unwrap();
    assert!(held.is_empty());
    let refused = machine.renew([1; 16]).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TEE-MISSING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_estate_takes_back_at_once_what_rested_on_hardware() {
    let good = SNP.to_owned() + GOOD;
    let Some(site) = Site::start("server.tee-estate", &good, "").await else {
        return;
    };
    let machine = site.join(honest).await.unwrap();
    let mut sync = crate::kernel::attested(&site.chip, &machine).await;
    // By the hardware, and by the pool alone.
    let (by_image, by_pool) = (program(1000, PROGRAM), program(2000, PROGRAM));
    let worse = [
        good.replace("3e3e", "4e4e"),
        good.replace("microcode = 217", "microcode = 218"),
        good.replace("\"prod\"", "\"prod-2\""),
        good.replace("root = \"lab\"\n", ""),
        good.replace("milan", "turin"),
        TDX.to_owned(),
        // Nobody asks for hardware any more: the pool is open, and what a policy says of hardware holds of no
        // machine.
        String::new(),
    ];
    for (number, worse) in worse.iter().enumerate() {
        let (_, image) = sync.ask("w1", &by_image, Vec::new()).await.unwrap();
        let (_, pool) = sync.ask("w2", &by_pool, Vec::new()).await.unwrap();
        assert_eq!((image.len(), pool.len()), (1, 1), "before {number}");
        site.ask(worse).await;
        let revoked = site.fixture.records(&["revocation"]).await;
        let is_cut = |serial: &str| {
            let of = |(_, record): &(u64, serde_json::Value)| {
                record["body"]["target"]["value"] == serial
            };
            revoked.iter().any(of)
        };
        assert!(is_cut(&image[0].svid.serial), "estate {number}");
        let asks = !worse.is_empty();
        assert_eq!(is_cut(&pool[0].svid.serial), asks, "estate {number}");
        let (_, held) = sync.ask("w1", &by_image, Vec::new()).await.unwrap();
        assert!(held.is_empty(), "estate {number}");
        site.ask(&good).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_required_is_judged_where_it_is_shown() {
    let optional = SNP.to_owned() + "require = false\n" + GOOD;
    let Some(site) = Site::start("server.tee-optional", &optional, "").await else {
        return;
    };
    let plain = site.join(|_| None).await.unwrap();
    assert_eq!(facts_of(&plain).text("machine.tee.kind"), None);
    let mut sync = crate::kernel::attested(&site.chip, &plain).await;
    let (_, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert!(held.is_empty(), "the policy asks for hardware");
    // A kind that the estate does not speak of is not judged, and states nothing.
    let other = site.join(honest_domain).await.unwrap();
    assert_eq!(facts_of(&other).text("machine.tee.kind"), None);
    let shows = site.join(honest).await.unwrap();
    assert_eq!(facts_of(&shows).text("machine.tee.kind"), Some("sev-snp"));
    let lies = site.refused(|asked| {
        let mut guest = guest();
        guest.put(0x90, &[0x3f; 48]);
        shown("sev-snp", report(&guest, asked))
    });
    assert_eq!(lies.await, "TEE-SNP-IMAGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_joins_by_its_quote() {
    let Some(site) = Site::start("server.tee-tdx", &(TDX.to_owned() + SNP + GOOD), "").await else {
        return;
    };
    let machine = site.join(honest_domain).await.unwrap();
    let facts = facts_of(&machine);
    assert_eq!(facts.text("machine.tee.kind"), Some("tdx"));
    assert_eq!(facts.text("machine.tee.root"), Some("lab-tdx"));
    assert_eq!(facts.text("machine.tee.tcb.status"), Some("UpToDate"));
    assert_eq!(
        facts.value("machine.tee.tcb.evaluation"),
        Some(&Value::Integer(17))
    );
    let changed = |change: fn(&mut Platform)| {
        move |asked: &[u8; 64]| {
            let mut domain = domain();
            domain.put(520, asked);
            change(&mut domain);
            shown("tdx", domain.quote())
        }
    };
    for (code, change) in [
        (
            "TEE-TDX-REPORT-DATA",
            (|it| it.put(520, &[0; 64])) as fn(&mut Platform),
        ),
        ("TEE-TDX-DEBUG", |it| {
            it.put(120, &((1_u64 << 28) | 1).to_le_bytes())
        }),
        ("TEE-TDX-IMAGE", |it| it.put(136, &[0x3e; 48])),
        ("TEE-INTEL-SIGNATURE", |it| it.wrong.quote = true),
    ] {
        assert_eq!(site.refused(changed(change)).await, code);
    }
    // A log that is not of these registers.
    let lies = site.refused(|asked| {
        Some(v1::TeeEvidence {
            event_log: vec![0; 64],
            ..honest_domain(asked).unwrap()
        })
    });
    assert_eq!(lies.await, "TEE-TDX-CCEL-STRUCTURE");
    // The other kind of the same pool.
    let snp = site.join(honest).await.unwrap();
    assert_eq!(facts_of(&snp).text("machine.tee.kind"), Some("sev-snp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_collects_for_its_join_and_each_renewal() {
    const SHORT: &str = "[lifetimes]\nnode_s = 10\nskew_s = 0\n";
    let Some(site) = Site::start("server.tee-agent", &(SNP.to_owned() + GOOD), SHORT).await else {
        return;
    };
    let answers = |asked: &[u8]| {
        let asked = asked.try_into().unwrap();
        (report(&guest(), &asked), table(&guest().key_certificate()))
    };
    let tsm = match Tsm::mount("sev_guest", Some(0), Box::new(answers)) {
        Ok(tsm) => tsm,
        Err(missing) => return testkit::skip("server.tee-agent", &missing),
    };
    // Named, and not there: it does not join as something less.
    let nowhere = site.agent(Path::new("/nonexistent/tsm")).await;
    let ended = agent::run(nowhere, CancellationToken::new()).await;
    assert!(format!("{:?}", ended.unwrap_err()).contains("AGENT-TEE"));
    assert_eq!(site.count("node-state").await, 0);

    let stop = CancellationToken::new();
    let config = site.agent(tsm.root()).await;
    let running = tokio::spawn(agent::run(config, stop.clone()));
    let renewed = async {
        while site.count("node-state").await < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), renewed)
        .await
        .expect("a join and two renewals");
    stop.cancel();
    running.await.unwrap().unwrap();
    let verdicts = site.fixture.records(&["verdict"]).await;
    for (_, verdict) in &verdicts {
        assert_eq!(verdict["body"]["outcome"], "affirmed");
        assert_eq!(verdict["body"]["ar4si"], "hw97 ex3 cf2 id2");
    }
    let (left, made) = tsm.entries();
    assert_eq!(left, 0);
    assert!(made >= 3, "a question for each");
}
