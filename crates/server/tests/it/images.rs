//! Workloads that are known by the container image that holds their program.

use crate::harness::{Fixture, program, refusal, verify};
use crypto::{KeyPair, Signer as _};
use estate::EstateFiles;
use facts::{Source, Timestamp};

/// The program of the image, what else it brings, and a program of another image.
const PAYMENTS: &str = "4444444444444444444444444444444444444444444444444444444444444444";
const SHELL: &str = "5555555555555555555555555555555555555555555555555555555555555555";
const OTHER: &str = "6666666666666666666666666666666666666666666666666666666666666666";
/// Manifests of the two, and the index by which the first was imported.
const IMAGE: &str = "7777777777777777777777777777777777777777777777777777777777777777";
const INDEX: &str = "8888888888888888888888888888888888888888888888888888888888888888";
const ANOTHER: &str = "9999999999999999999999999999999999999999999999999999999999999999";

fn generation(name: &str, [pinned, manifest]: [&str; 2], files: &[&str]) -> serde_json::Value {
    let files: Vec<_> = files
        .iter()
        .map(|sha256| serde_json::json!({ "path": format!("/bin/{}", sha256.get(..4).unwrap()), "sha256": sha256 }))
        .collect();
    serde_json::json!({
        "name": name, "rings": ["demo"],
        "valid_from": "2026-01-01T00:00:00Z", "imported_at": "2026-01-01T00:00:00Z",
        "source": [{ "id": "i", "kind": "pinned", "name": name, "sha256": pinned }],
        "artefact": [{ "kind": "oci", "name": name, "sha256": manifest, "source": "i", "file": files }],
    })
}

/// What cosign signs of the image `named`, put beside the image `about`.
fn signed(key: &KeyPair, named: &str, about: &str) -> serde_json::Value {
    let payload = serde_json::json!({
        "critical": {
            "identity": { "docker-reference": "registry.acme.test/payments" },
            "image": { "docker-manifest-digest": format!("sha256:{named}") },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = payload.to_string();
    let signature = crypto::base64::encode(&key.sign(payload.as_bytes()).unwrap());
    serde_json::json!({
        "image": format!("sha256:{about}"), "form": "simple-signing", "content": payload, "signature": signature,
    })
}

/// Whatever acme's release key signed may be `payments/api`, if it says so of the image.
fn estate(key: &KeyPair, evidence: &[serde_json::Value]) -> EstateFiles {
    let der = crypto::base64::encode(key.public_key().spki_der());
    let key = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
    let references = serde_json::json!({
        "signer": [{ "name": "release key", "key": key }],
        "generation": [
            generation("payments", [INDEX, IMAGE], &[PAYMENTS, SHELL]),
            generation("tools", [ANOTHER, ANOTHER], &[OTHER, SHELL]),
        ],
        "evidence": evidence,
    });
    let mut files = crate::harness::estate();
    files.insert("references/images.json", references.to_string());
    files.insert(
        "policies/images.cedar",
        "@id(\"what is in an image of acme's\") permit (principal in Pool::\"demo\", \
         action == Action::\"assume\", resource == Identity::\"payments/api\") when { principal has uid && \
         principal.uid == 1000 && principal has code && principal.code has image && \
         principal.code.image has approved_by && principal.code.image.approved_by == \"release key\" && \
         principal.code.image has name && principal.code.image.name == \"registry.acme.test/payments\" };",
    );
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_a_signed_image_is_an_identity_until_the_image_is_withdrawn() {
    let key = KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let mut files = estate(&key, &[signed(&key, INDEX, INDEX)]);
    fixture.apply(&files).await.unwrap();
    let workload = program(1000, PAYMENTS);
    let (issued, held) = sync.ask("w1", &workload, Vec::new()).await.unwrap();
    assert_eq!(
        issued.svids[0].spiffe_id,
        "spiffe://example.org/payments/api"
    );
    let serial = held[0].svid.serial.clone();

    // What was known of the image is kept with what was decided on.
    let bundle = machine.joined.bundle.clone().unwrap();
    let chain = &issued.svids[0].certificate_chain;
    let verified = verify(chain, &bundle, &fixture.ledger_key().await);
    let commit = crypto::hex::encode(&verified.issuance.commit.0.0);
    let blobs = fixture.dir.path().join("data/blobs");
    let opening = std::fs::read(blobs.join(commit.split_at(2).0).join(&commit)).unwrap();
    let facts = ledger::Commitment::opened(&opening, "facts").unwrap();
    let facts = std::str::from_utf8(facts).unwrap();
    let expected = format!("[\"code.image.digest\",\"asserted\",\"sha256:{IMAGE}\"]");
    assert!(facts.contains(&expected), "{facts}");

    // The image goes, and with it what rested on it.
    files.insert(
        "references/withdrawn.toml",
        "[[withdrawn]]\nname = \"payments\"\nat = \"2026-06-01T00:00:00Z\"\nreason = \"a hole\"\n",
    );
    fixture.apply(&files).await.unwrap();
    let mut revoked = Vec::new();
    while revoked.is_empty() {
        revoked = fixture.records(&["revocation"]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(revoked[0].1["body"]["target"]["value"], serial);
    let (issued, held) = sync.ask("w1", &workload, Vec::new()).await.unwrap();
    assert!(held.is_empty());
    let findings = refusal(&issued);
    assert!(
        findings.iter().any(|one| one.code == "REF-WITHDRAWN"),
        "{findings:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_no_signed_image_holds_alone_is_no_identity() {
    let key = KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let stranger = KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let interpreter = {
        let mut facts = program(1000, PAYMENTS);
        facts.state(
            "workload.interpreter",
            true,
            Source::Asserted,
            Timestamp::now(),
        );
        facts
    };
    let [payments, shell, other] = [PAYMENTS, SHELL, OTHER].map(|sha256| program(1000, sha256));
    let good = signed(&key, IMAGE, IMAGE);
    // Evidence, what runs, and what the workload hears.
    let mut asked = 0;
    for (evidence, tries) in [
        (
            good,
            vec![
                // Of another image, which nobody signed.
                (&other, None),
                // In both.
                (&shell, Some("CODE-IMAGE-SEVERAL")),
                // Of what an interpreter runs its own digest says nothing: it has no code at all.
                (&interpreter, None),
            ],
        ),
        // The signature of another image beside this one, in the name of its index, and by somebody else.
        (
            signed(&key, ANOTHER, IMAGE),
            vec![(&payments, Some("IMAGE-PAYLOAD"))],
        ),
        (
            signed(&key, INDEX, IMAGE),
            vec![(&payments, Some("IMAGE-PAYLOAD"))],
        ),
        (
            signed(&stranger, IMAGE, IMAGE),
            vec![(&payments, Some("CODE-SIGNATURE"))],
        ),
    ] {
        fixture.apply(&estate(&key, &[evidence])).await.unwrap();
        for (workload, expected) in tries {
            asked += 1;
            let name = format!("w{asked}");
            let (issued, held) = sync.ask(&name, workload, Vec::new()).await.unwrap();
            assert!(held.is_empty(), "{expected:?}");
            if let Some(expected) = expected {
                let findings = refusal(&issued);
                assert!(
                    findings.iter().any(|one| one.code == expected),
                    "{expected}: {findings:?}"
                );
            }
        }
    }
    // An agent does not say itself what image it is.
    let mut said = program(1000, OTHER);
    said.state(
        "code.image.approved_by",
        "release key",
        Source::Asserted,
        Timestamp::now(),
    );
    let refused = sync.ask("w9", &said, Vec::new()).await.err().unwrap();
    assert_eq!(refused.code, "SYNC-REQUEST");
}
