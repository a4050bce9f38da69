//! Machines of a cloud, whose TPMs have no endorsement key that anybody certified: they join by their
//! attestation key. The chip is software, and so is the cloud's authority.

use crate::harness::{Fixture, PROGRAM, estate, finding, program};
use crate::tpm_renewal::{join, renew};
use crypto::{Algorithm, KeyPair};
use estate::EstateFiles;
use proto::v1;
use std::sync::Arc;
use testkit::swtpm::Cloud;

/// What is asked of the machine's certificate, and not of its name.
const POLICY: &str = "@id(\"machines of project acme\")\n\
    permit (principal in Pool::\"demo\", action == Action::\"assume\", \
    resource == Identity::\"payments/api\")\n\
    when { principal has machine && principal.machine has cloud && \
    principal.machine.cloud has project && principal.machine.cloud.project == \"acme\" && \
    principal.machine has tpm && principal.machine.tpm has kind && \
    principal.machine.tpm.kind == \"cloud\" };\n";

fn declared(root: &str, pins: &str) -> EstateFiles {
    let mut files = estate();
    files.insert("policies/assume.cedar", POLICY);
    files.insert(
        "references/tpm.toml",
        format!("{root}[[machine]]\nname = \"web-1\"\npool = \"demo\"\n{pins}"),
    );
    files
}

fn key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_a_cloud_joins_renews_and_loses_all_when_the_cloud_is_trusted_no_more() {
    let cloud = match Cloud::start() {
        Ok(cloud) => cloud,
        Err(missing) => {
            testkit::skip("server.cloud-join", &missing.to_string());
            return;
        }
    };
    let fixture = Fixture::bare().await;
    let pem = std::fs::read_to_string(cloud.root_pem()).unwrap();
    let root = |certifies: &str| {
        format!("[[tpm_root]]\nname = \"cloud\"\n{certifies}pem = '''\n{pem}'''\n")
    };
    let ours = root("certifies = \"attestation-keys\"\ncloud = \"google\"\n");

    // A maker of TPMs is none of machines: its word about an attestation key does not count.
    let makers = declared(&root(""), "");
    fixture.apply(&makers).await.unwrap();
    let refused = join(&fixture, &cloud.chip, None).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TPM-AK-CHAIN");

    fixture.apply(&declared(&ours, "")).await.unwrap();
    let stranger = join(&fixture, &cloud.chip, None).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&stranger.joined.verdict).unwrap();
    let ak = verdict.facts.text("machine.tpm.ak_sha256").unwrap();
    let (_, name) = stranger.joined.node_id.rsplit_once('/').unwrap();
    assert_eq!(name, "google-17-4886718345");
    assert_eq!(verdict.facts.text("machine.cloud.project"), Some("acme"));
    let program = program(1000, PROGRAM);
    let mut sync = crate::kernel::attested(&cloud.chip, &stranger).await;
    let (_, held) = sync.ask("w1", &program, Vec::new()).await.unwrap();
    assert!(held.is_empty(), "it is in no pool");

    // The estate names the machine by that key, as it does others by their endorsement keys.
    let pins = format!("ak_sha256 = [\"{ak}\"]\n");
    fixture.apply(&declared(&ours, &pins)).await.unwrap();
    let machine = join(&fixture, &cloud.chip, None).await.unwrap();
    assert!(machine.joined.node_id.ends_with("/web-1"));
    let mut sync = crate::kernel::attested(&cloud.chip, &machine).await;
    let (issued, held) = sync.ask("w1", &program, Vec::new()).await.unwrap();
    assert_eq!(held.len(), 1);
    let serial = issued.svids[0].serial.clone();
    let renewed = renew(&machine, &cloud.chip, [1; 16], key()).await.unwrap();
    assert_eq!(renewed.joined.node_id, machine.joined.node_id);

    // The same authority, as a maker of TPMs: the key is named still, and its certificate counts no more.
    let named = declared(&root(""), &pins);
    fixture.apply(&named).await.unwrap();
    let revoked = fixture.records(&["revocation"]).await;
    assert!(
        revoked
            .iter()
            .any(|(_, record)| record["body"]["target"]["value"] == serial),
        "{revoked:#?}"
    );
    fixture.apply(&makers).await.unwrap();
    let refused = join(&fixture, &cloud.chip, None).await.err().unwrap();
    assert_eq!(finding(&refused).code, "TPM-AK-CHAIN");

    // Another machine of another cloud does not take its place, and who lets it try is cut.
    fixture.apply(&declared(&ours, &pins)).await.unwrap();
    let neighbour = Cloud::start().unwrap();
    let refused = renew(&renewed, &neighbour.chip, [2; 16], key()).await;
    assert_eq!(finding(&refused.err().unwrap()).code, "TPM-AK-CHAIN");
    let revoked = fixture.records(&["revocation"]).await;
    let (_, last) = revoked.last().unwrap();
    assert_eq!(last["body"]["target"]["value"], "web-1");
}

/// A chip has a P-256 and an RSA key, and the cloud certifies both for one machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_banned_machine_of_a_cloud_does_not_come_back_by_another_of_its_keys() {
    let cloud = match Cloud::start() {
        Ok(cloud) => cloud,
        Err(missing) => {
            testkit::skip("server.cloud-ban", &missing.to_string());
            return;
        }
    };
    let fixture = Fixture::bare().await;
    let pem = std::fs::read_to_string(cloud.root_pem()).unwrap();
    let root = format!(
        "[[tpm_root]]\nname = \"cloud\"\ncertifies = \"attestation-keys\"\ncloud = \"google\"\n\
         pem = '''\n{pem}'''\n"
    );
    fixture.apply(&declared(&root, "")).await.unwrap();
    let machine = join(&fixture, &cloud.chip, None).await.unwrap();
    let verdict: facts::Stated = serde_json::from_slice(&machine.joined.verdict).unwrap();
    let ak = verdict.facts.text("machine.tpm.ak_sha256").unwrap();
    let pins = format!("ak_sha256 = [\"{ak}\"]\n");
    fixture.apply(&declared(&root, &pins)).await.unwrap();
    join(&fixture, &cloud.chip, None).await.unwrap();
    let revoked = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "web-1".to_owned(),
        reason: "stolen".to_owned(),
    };
    fixture.admin().await.revoke(revoked).await.unwrap();

    cloud.change_key().unwrap();
    let refused = join(&fixture, &cloud.chip, None).await.err().unwrap();
    assert_eq!(finding(&refused).code, "AGENT-LOCKED");
}
