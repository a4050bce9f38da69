//! A machine of a cloud that has to show three things as one: that the cloud certified its attestation key, that
//! its TPM quotes by that key, and that SEV-SNP reports the same key. Each is a stand-in, with keys of ours.

use super::{GOOD, SNP, Site, facts_of, finding, honest, shown};
use crate::harness::{Fixture, PROGRAM, config_text, estate, program};
use crate::tee_forged::{bundle, domain, guest, report, snp_root};
use estate::EstateFiles;
use proto::v1::TeeEvidence;
use proto::v1::join_client::JoinClient;
use server::Config;
use testkit::swtpm::Cloud;
use tonic::Status;

/// One identity for machines of which all three are known.
const POLICY: &str = "@id(\"machines of project acme, in hardware that is known\")\n\
    permit (principal, action == Action::\"assume\", resource == Identity::\"payments/api\")\n\
    when { principal has machine && principal.machine has cloud && \
    principal.machine.cloud has project && principal.machine.cloud.project == \"acme\" && \
    principal.machine has tpm && principal.machine.tpm has kind && \
    principal.machine.tpm.kind == \"cloud\" && \
    principal.machine has tee && principal.machine.tee has image && \
    principal.machine.tee.image == \"prod\" };\n";

/// As the cloud's certificate has it.
const NAME: &str = "google-17-4886718345";

/// The root of a cloud as an estate has it: of machines, or of a maker of TPMs.
fn root(pem: &str, certifies: &str) -> String {
    format!("[[tpm_root]]\nname = \"cloud\"\n{certifies}pem = '''\n{pem}'''\n")
}

const OF_MACHINES: &str = "certifies = \"attestation-keys\"\ncloud = \"google\"\n";

/// A server that asks machines for all three, and one machine.
async fn start() -> Option<(Site, String)> {
    let cloud = match Cloud::start() {
        Ok(cloud) => cloud,
        Err(missing) => {
            testkit::skip("server.three-parts", &missing.to_string());
            return None;
        }
    };
    let pem = std::fs::read_to_string(cloud.root_pem()).unwrap();
    let Cloud { chip } = cloud;
    let dir = tempfile::tempdir().unwrap();
    let text = config_text(dir.path()).replacen(
        "[custody.ca]",
        "tee_endorsements = \"bundle.json\"\n[custody.ca]",
        1,
    );
    let path = dir.path().join("server.toml");
    std::fs::write(&path, text).unwrap();
    let server = server::start(Config::load(&path).unwrap()).await.unwrap();
    let mut files = estate();
    files.insert("policies/assume.cedar", POLICY);
    let site = Site {
        fixture: Fixture {
            dir,
            server: Some(server),
        },
        chip,
        files,
    };
    site.endorse(&bundle(&guest(), &domain()));
    site.trust(&root(&pem, OF_MACHINES)).await;
    Some((site, pem))
}

impl Site {
    /// Applies the estate with these roots of clouds. It names no machine: what a machine is known by is what its
    /// cloud certified.
    async fn trust(&self, roots: &str) {
        let mut files: EstateFiles = self.files.clone();
        files.insert(
            "references/tpm.toml",
            format!(
                "{roots}[[tee_root]]\nname = \"lab\"\nkind = \"sev-snp\"\ngeneration = \"milan\"\npem = '''\n{}'''\n",
                snp_root(),
            ),
        );
        files.insert(
            "references/tee.toml",
            SNP.replace("pool = \"demo\"\n", "") + GOOD,
        );
        self.fixture.apply(&files).await.unwrap();
    }

    /// The machine's answer with a quote that was changed on its way.
    async fn with_a_bad_quote(
        &self,
        show: impl FnOnce(&[u8; 64]) -> Option<TeeEvidence>,
    ) -> Status {
        let (link, mut finish, asked, _) = self.evidence().await;
        finish.tee = show(&asked);
        // In s of the signature, whose form stays what it was.
        *finish.quote_signature.last_mut().unwrap() ^= 1;
        let refused = JoinClient::new(link.channel).tpm_finish(finish).await;
        refused.expect_err("it is refused")
    }

    /// Nothing that is believed of the machine stands in the ledger.
    async fn is_unknown(&self, after: &str) {
        assert_eq!(self.count("node-state").await, 0, "{after}");
        for (_, verdict) in self.fixture.records(&["verdict"]).await {
            assert_eq!(verdict["body"]["outcome"], "refused", "{after}");
            let facts = verdict["body"].get("facts");
            let stated =
                facts.is_some_and(|facts| facts.as_object().is_some_and(|all| !all.is_empty()));
            assert!(!stated, "{after}: {verdict}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_shows_cloud_and_chip_and_hardware_and_each_bad_one_is_refused_by_its_name() {
    let Some((site, pem)) = start().await else {
        return;
    };
    // The cloud alone: it certifies no machines here; or it is another cloud, of the same name.
    let neighbour = Cloud::start().unwrap();
    let other = std::fs::read_to_string(neighbour.root_pem()).unwrap();
    for (what, roots) in [
        ("a maker of TPMs", root(&pem, "")),
        ("another cloud", root(&other, OF_MACHINES)),
    ] {
        site.trust(&roots).await;
        assert_eq!(site.refused(honest).await, "TPM-AK-CHAIN", "{what}");
        site.is_unknown(what).await;
    }
    site.trust(&root(&pem, OF_MACHINES)).await;

    // The chip alone, whatever the hardware says beside it.
    let refused = finding(&site.with_a_bad_quote(honest).await);
    assert_eq!(refused.code, "TPM-QUOTE-SIGNATURE", "{refused}");
    site.is_unknown("a bad quote").await;

    // The hardware alone: none, another image, another question, another machine's key.
    assert_eq!(site.refused(|_| None).await, "TEE-MISSING");
    let another = |asked: &[u8; 64]| {
        let mut guest = guest();
        guest.put(0x90, &[0x3f; 48]);
        shown("sev-snp", report(&guest, asked))
    };
    assert_eq!(site.refused(another).await, "TEE-SNP-IMAGE");
    let unasked = |_: &[u8; 64]| honest(&[7; 64]);
    assert_eq!(site.refused(unasked).await, "TEE-SNP-REPORT-DATA");
    let (_, _, of_another, _) = site.evidence().await;
    let replayed = site.refused(|_| honest(&of_another)).await;
    assert_eq!(replayed, "TEE-SNP-REPORT-DATA");
    site.is_unknown("bad hardware").await;

    // All three.
    let machine = site.join(honest).await.unwrap();
    assert!(machine.joined.node_id.ends_with(NAME));
    let facts = facts_of(&machine);
    for (name, value) in [
        ("machine.name", NAME),
        ("machine.cloud.project", "acme"),
        ("machine.tpm.kind", "cloud"),
        ("machine.tee.kind", "sev-snp"),
        ("machine.tee.image", "prod"),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    let kept = verdict["body"]["evidence"].to_string();
    for kind in ["tpm-quote", "snp-report", "snp-key", "snp-crl"] {
        assert!(kept.contains(kind), "{kept}");
    }
    let mut sync = crate::kernel::attested(&site.chip, &machine).await;
    let (issued, held) = sync
        .ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(held.len(), 1);
    let serial = issued.svids[0].serial.clone();

    // One of them goes: the identities that rested on all three go with it.
    site.trust(&root(&pem, "")).await;
    let revoked = site.fixture.records(&["revocation"]).await;
    let of = |(_, record): &(u64, serde_json::Value)| record["body"]["target"]["value"] == serial;
    assert!(revoked.iter().any(of), "{revoked:#?}");
    site.trust(&root(&pem, OF_MACHINES)).await;
    let again = site.join(honest).await.unwrap();
    let renewed = site.renew(&again, [1; 16], another).await;
    assert_eq!(finding(&renewed.err().unwrap()).code, "TEE-SNP-IMAGE");
    let (_, last) = site.fixture.records(&["revocation"]).await.pop().unwrap();
    assert_eq!(last["body"]["target"]["value"], NAME);
}
