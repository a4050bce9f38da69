//! Container images in a layout, and what is attached to them.

use crate::common::{code, codes_of, keyless, release, rule};
use crate::forge::{Deployment, GITHUB, NOW, Script, WORKFLOW, forge, key, pae, provenance};
use attest_code::image::{BlobDigest, Depth, Image, Layout, Platform, read};
use attest_code::{CodeDigest, CodeReferences, DigestReference, Signer, Window};
use crypto::{Algorithm, KeyPair, Signer as _, base64, hex, sha256};
use facts::{Finding, Outcome, names};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A layout in the making.
#[derive(Default)]
struct Store {
    blobs: BTreeMap<[u8; 32], Vec<u8>>,
    manifests: Vec<Value>,
}

impl Store {
    fn put(&mut self, kind: &str, bytes: Vec<u8>) -> Value {
        let digest = sha256(&bytes);
        let size = bytes.len();
        self.blobs.insert(digest, bytes);
        json!({"mediaType": kind, "digest": format!("sha256:{}", hex::encode(&digest)), "size": size})
    }

    fn put_json(&mut self, kind: &str, value: &Value) -> Value {
        self.put(kind, value.to_string().into_bytes())
    }

    /// An image of two layers for linux/amd64 in an index, as a builder pushes it.
    fn image(&mut self) -> (Value, Value) {
        let layers = [
            self.put(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                b"layer one".to_vec(),
            ),
            self.put(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                b"layer two".to_vec(),
            ),
        ];
        let config = self.put_json(
            "application/vnd.oci.image.config.v1+json",
            &json!({
                "os": "linux", "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "aa".repeat(32)), format!("sha256:{}", "bb".repeat(32))]},
            }),
        );
        let mut manifest = self.put_json(
            MANIFEST,
            &json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
            }),
        );
        manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = self.put_json(
            INDEX,
            &json!({
                "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest],
            }),
        );
        self.manifests.push(index.clone());
        (index, manifest)
    }

    /// A manifest that holds `layers`, attached to `subject`, or to nothing that it says.
    fn artifact(&mut self, kind: &str, layers: &[Value], subject: Option<&Value>) -> Value {
        let config = self.put_json("application/vnd.oci.empty.v1+json", &json!({}));
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": config, "layers": layers,
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        self.put_json(MANIFEST, &manifest)
    }

    fn tag(&mut self, descriptor: &Value, name: &str) {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        self.manifests.push(descriptor);
    }

    fn index(&self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests});
        index.to_string().into_bytes()
    }

    fn read(&self, image: &Value) -> Result<Image, Finding> {
        let blobs = |digest: &BlobDigest| {
            let blob = self.blobs.get(digest.as_bytes())?;
            Some(Cow::Borrowed(blob.as_slice()))
        };
        let index = self.index();
        let layout = Layout {
            index: &index,
            blobs: &blobs,
        };
        read(&layout, digest_of(image), &amd64(), Depth::Layers)
    }
}

fn amd64() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: None,
    }
}

fn digest_of(descriptor: &Value) -> BlobDigest {
    BlobDigest::parse(descriptor["digest"].as_str().unwrap()).unwrap()
}

fn tag_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().replace(':', "-")
}

/// A bundle over the manifest or index of that descriptor, with provenance.
fn bundle_for(deployment: &Deployment, image: &Value) -> Vec<u8> {
    let mut statement = provenance();
    let digest = hex::encode(digest_of(image).as_bytes());
    statement["subject"] = json!([{"name": "payments", "digest": {"sha256": digest}}]);
    let script = Script {
        statement: Some(statement),
        ..Script::default()
    };
    forge(deployment, &script).to_string().into_bytes()
}

fn simple_signing(store: &mut Store, pair: &KeyPair, image: &Value) -> Value {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": ""},
            "image": {"docker-manifest-digest": image["digest"]},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = payload.to_string().into_bytes();
    let signature = base64::encode(&pair.sign(&payload).unwrap());
    let mut layer = store.put(SIMPLE_SIGNING, payload);
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    layer
}

fn trusting(deployment: &Deployment, pair: &KeyPair) -> CodeReferences {
    let signers = vec![
        release(),
        Signer::key("release key", pair.public_key().clone()).unwrap(),
    ];
    crate::common::references(deployment.root(), signers, vec![rule()])
}

#[test]
fn an_image_is_read_down_to_its_layers() {
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let image = store.read(&index).unwrap();
    assert_eq!(image.names, [digest_of(&index), digest_of(&manifest)]);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[1].unpacked, BlobDigest::new([0xbb; 32]));
    assert!(image.evidence.is_empty() && image.passed_over.is_empty());
    let alone = store.read(&manifest).unwrap();
    assert_eq!(alone.names, [digest_of(&manifest)]);
    // Listed by either name, it is known.
    for name in &image.names {
        let digest = CodeDigest::Image(*name.as_bytes());
        let listed = DigestReference {
            digest,
            label: "payments image 1.4.2".to_owned(),
            source: "release notes".to_owned(),
            window: Window::default(),
        };
        let references =
            CodeReferences::new(BTreeMap::new(), vec![listed], Vec::new(), Vec::new()).unwrap();
        let verdict = image.judge(&references, NOW);
        assert_eq!(
            verdict.facts.text(names::CODE_REFERENCE),
            Some("payments image 1.4.2")
        );
    }
    let nothing = image.judge(&CodeReferences::default(), NOW);
    assert_eq!(codes_of(&nothing.findings), ["CODE-UNKNOWN"]);
}

#[test]
fn every_blob_has_to_be_what_it_is_named() {
    let mut store = Store::default();
    let (index, _) = store.image();
    let good = store.blobs.clone();
    for digest in good.keys() {
        store.blobs = good.clone();
        let blob = store.blobs.get_mut(digest).unwrap();
        blob[0] ^= 1;
        assert_eq!(code(&store.read(&index)), "IMAGE-BLOB-DIGEST");
        blob_of(&mut store, digest).push(b' ');
        assert!(matches!(
            code(&store.read(&index)),
            "IMAGE-BLOB-SIZE" | "IMAGE-BLOB-DIGEST"
        ));
        store.blobs.remove(digest);
        assert_eq!(code(&store.read(&index)), "IMAGE-BLOB-MISSING");
    }
}

fn blob_of<'a>(store: &'a mut Store, digest: &[u8; 32]) -> &'a mut Vec<u8> {
    store.blobs.get_mut(digest).unwrap()
}

#[test]
fn manifests_that_can_be_read_in_two_ways_are_refused() {
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let bytes = |store: &Store, descriptor: &Value| -> Value {
        serde_json::from_slice(&store.blobs[digest_of(descriptor).as_bytes()]).unwrap()
    };
    let (as_index, as_manifest) = (bytes(&store, &index), bytes(&store, &manifest));
    let mut both = as_manifest.clone();
    both["manifests"] = as_index["manifests"].clone();
    let mut says_index = as_manifest.clone();
    says_index["mediaType"] = json!(INDEX);
    let mut old = as_manifest.clone();
    old["schemaVersion"] = json!(1);
    let mut no_config = as_manifest.clone();
    no_config.as_object_mut().unwrap().remove("config");
    for (what, value) in [
        ("both", both),
        ("another than it says", says_index),
        ("of schema 1", old),
        ("without configuration", no_config),
        ("not JSON", json!("x")),
    ] {
        let descriptor = store.put_json(MANIFEST, &value);
        assert_eq!(code(&store.read(&descriptor)), "IMAGE-MANIFEST", "{what}");
    }
    let mut sha512 = as_manifest.clone();
    sha512["layers"][0]["digest"] = json!(format!("sha512:{}", "00".repeat(64)));
    let descriptor = store.put_json(MANIFEST, &sha512);
    assert_eq!(code(&store.read(&descriptor)), "IMAGE-DIGEST");
    let mut config = bytes(&store, &as_manifest["config"]);
    config["rootfs"]["diff_ids"][1] = json!("sha256:bb");
    let mut unread = as_manifest.clone();
    unread["config"] = store.put_json("application/vnd.oci.image.config.v1+json", &config);
    let descriptor = store.put_json(MANIFEST, &unread);
    assert_eq!(code(&store.read(&descriptor)), "IMAGE-DIGEST");
    let mut fewer = as_manifest;
    fewer["layers"].as_array_mut().unwrap().pop();
    let descriptor = store.put_json(MANIFEST, &fewer);
    assert_eq!(code(&store.read(&descriptor)), "IMAGE-CONFIG");

    let mut twice = as_index.clone();
    let first = twice["manifests"][0].clone();
    twice["manifests"].as_array_mut().unwrap().push(first);
    let descriptor = store.put_json(INDEX, &twice);
    assert_eq!(code(&store.read(&descriptor)), "IMAGE-PLATFORM");
    let mut other = as_index;
    other["manifests"][0]["platform"]["architecture"] = json!("s390x");
    let mut nested = store.put_json(INDEX, &other);
    assert_eq!(code(&store.read(&nested)), "IMAGE-PLATFORM");
    // Indexes all the way down.
    for _ in 0..8 {
        nested["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "manifests": [nested]});
        nested = store.put_json(INDEX, &index);
    }
    assert_eq!(code(&store.read(&nested)), "IMAGE-MANIFEST");
}

#[test]
fn a_bundle_that_refers_to_the_image_vouches_for_it() {
    let deployment = Deployment::new();
    let pair = key(Algorithm::EcdsaP256);
    for by_tag in [false, true] {
        for of_index in [false, true] {
            let mut store = Store::default();
            let (index, manifest) = store.image();
            let subject = if of_index { &index } else { &manifest };
            let layer = store.put(BUNDLE, bundle_for(&deployment, subject));
            let artifact = store.artifact(BUNDLE, &[layer], Some(subject));
            if by_tag {
                let referrers =
                    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [artifact]});
                let referrers = store.put_json(INDEX, &referrers);
                let tag = tag_of(subject);
                store.tag(&referrers, &tag);
            } else {
                store.manifests.push(artifact);
            }
            let image = store.read(&index).unwrap();
            assert_eq!(image.evidence.len(), 1);
            let verdict = image.judge(&trusting(&deployment, &pair), NOW);
            assert_eq!(
                verdict.outcome(),
                Outcome::Affirmed,
                "{:?}",
                verdict.findings
            );
            assert_eq!(
                verdict.facts.text(names::CODE_SOURCE),
                Some("github.com/acme/payments")
            );
        }
    }
}

#[test]
fn a_bundle_about_another_image_vouches_for_nothing() {
    let deployment = Deployment::new();
    let pair = key(Algorithm::EcdsaP256);
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let mut other = manifest.clone();
    other["digest"] = json!(format!("sha256:{}", "00".repeat(32)));
    // It says that it is attached to our image; what was signed is another's.
    let layer = store.put(BUNDLE, bundle_for(&deployment, &other));
    let artifact = store.artifact(BUNDLE, &[layer], Some(&manifest));
    store.manifests.push(artifact);
    // It is attached to another image, and stands in the same layout.
    let layer = store.put(BUNDLE, bundle_for(&deployment, &manifest));
    let artifact = store.artifact(BUNDLE, &[layer], Some(&other));
    store.manifests.push(artifact);
    let image = store.read(&index).unwrap();
    assert_eq!(image.evidence.len(), 1);
    let verdict = image.judge(&trusting(&deployment, &pair), NOW);
    assert_eq!(
        codes_of(&verdict.findings),
        ["CODE-UNKNOWN", "STATEMENT-SUBJECT"]
    );
}

#[test]
fn cosign_tags_hold_signatures_and_attestations() {
    let deployment = Deployment::new();
    let pair = key(Algorithm::EcdsaP256);
    let by_key = |store: &Store, index: &Value, signer: &KeyPair| {
        let signer = Signer::key("release key", signer.public_key().clone()).unwrap();
        let rules = vec![];
        let references = crate::common::references(deployment.root(), vec![signer], rules);
        store.read(index).unwrap().judge(&references, NOW)
    };
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let layer = simple_signing(&mut store, &pair, &manifest);
    let signatures = store.artifact("", &[layer], None);
    let tag = format!("registry.acme.test/payments:{}.sig", tag_of(&manifest));
    store.tag(&signatures, &tag);
    let verdict = by_key(&store, &index, &pair);
    assert_eq!(
        verdict.outcome(),
        Outcome::Affirmed,
        "{:?}",
        verdict.findings
    );
    assert_eq!(
        verdict.facts.text(names::CODE_SIGNER_KEY),
        Some(hex::encode(&pair.public_key().spki_sha256()).as_str())
    );
    let stranger = key(Algorithm::EcdsaP256);
    let refused = by_key(&store, &index, &stranger);
    assert_eq!(
        codes_of(&refused.findings),
        ["CODE-UNKNOWN", "CODE-SIGNATURE"]
    );

    // The same signature under the tag of another image's: its payload names that other.
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let mut other = manifest.clone();
    other["digest"] = json!(format!("sha256:{}", "00".repeat(32)));
    let layer = simple_signing(&mut store, &pair, &other);
    let signatures = store.artifact("", &[layer], None);
    let tag = format!("{}.sig", tag_of(&manifest));
    store.tag(&signatures, &tag);
    let refused = by_key(&store, &index, &pair);
    assert_eq!(
        codes_of(&refused.findings),
        ["CODE-UNKNOWN", "IMAGE-PAYLOAD"]
    );

    // As `cosign save` writes it: by kind, in a layout of its own, of the index and of the manifest.
    for of_index in [false, true] {
        let mut store = Store::default();
        let (index, manifest) = store.image();
        let signed = if of_index { &index } else { &manifest };
        let layer = simple_signing(&mut store, &pair, signed);
        let mut signatures = store.artifact("", &[layer], None);
        signatures["annotations"] = json!({"kind": "dev.cosignproject.cosign/sigs"});
        store.manifests.push(signatures);
        let verdict = by_key(&store, &index, &pair);
        assert_eq!(codes_of(&verdict.findings), [""; 0]);
        assert_eq!(verdict.outcome(), Outcome::Affirmed);
    }
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let mut other = manifest.clone();
    other["digest"] = json!(format!("sha256:{}", "00".repeat(32)));
    let layer = simple_signing(&mut store, &pair, &other);
    let mut signatures = store.artifact("", &[layer], None);
    signatures["annotations"] = json!({"kind": "dev.cosignproject.cosign/sigs"});
    store.manifests.push(signatures);
    let image = store.read(&index).unwrap();
    assert!(image.evidence.is_empty());
    assert_eq!(codes_of(&image.passed_over), ["IMAGE-ATTACHED"]);

    // An attestation: an envelope with provenance, by a key.
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let kind = "application/vnd.in-toto+json";
    let mut statement = provenance();
    statement["subject"][0]["digest"]["sha256"] =
        json!(hex::encode(digest_of(&manifest).as_bytes()));
    let payload = statement.to_string().into_bytes();
    let signature = pair.sign(&pae(kind, &payload)).unwrap();
    let envelope = json!({
        "payloadType": kind, "payload": base64::encode(&payload),
        "signatures": [{"sig": base64::encode(&signature), "keyid": ""}],
    });
    let layer = store.put_json(ENVELOPE, &envelope);
    let attestations = store.artifact("", &[layer], None);
    let tag = format!("{}.att", tag_of(&manifest));
    store.tag(&attestations, &tag);
    let mut saved = attestations.clone();
    saved["annotations"] = json!({"kind": "dev.cosignproject.cosign/atts"});
    store.manifests.push(saved);
    let signer = Signer::key("release", pair.public_key().clone()).unwrap();
    let references = crate::common::references(deployment.root(), vec![signer], vec![rule()]);
    let verdict = store.read(&index).unwrap().judge(&references, NOW);
    assert_eq!(
        verdict.facts.text(names::CODE_APPROVED_BY),
        Some("payments"),
        "{:?}",
        verdict.findings
    );
    // What was signed calls it so.
    let name = &statement["subject"][0]["name"];
    assert_eq!(
        verdict.facts.text(names::CODE_IMAGE_NAME),
        name.as_str(),
        "{name}"
    );
    assert_eq!(
        store.read(&index).unwrap().evidence.len(),
        2,
        "by tag, and by kind"
    );
}

#[test]
fn what_cannot_be_read_is_passed_over_and_named() {
    let deployment = Deployment::new();
    let pair = key(Algorithm::EcdsaP256);
    let mut store = Store::default();
    let (index, manifest) = store.image();
    // A keyless signature as older clients attached it, with a promise of the log and no proof.
    let mut keyless_layer = simple_signing(&mut store, &pair, &manifest);
    keyless_layer["annotations"]["dev.sigstore.cosign/certificate"] =
        json!("-----BEGIN CERTIFICATE-----");
    let mut unsigned = simple_signing(&mut store, &pair, &manifest);
    unsigned["annotations"] = json!({});
    let signatures = store.artifact("", &[keyless_layer, unsigned], None);
    let tag = format!("{}.sig", tag_of(&manifest));
    store.tag(&signatures, &tag);
    // A list of parts, and a blob that is missing.
    let sbom = store.put("application/spdx+json", b"{}".to_vec());
    let artifact = store.artifact("application/spdx+json", &[sbom], Some(&manifest));
    store.manifests.push(artifact);
    let missing =
        json!({"mediaType": BUNDLE, "digest": format!("sha256:{}", "0a".repeat(32)), "size": 7});
    let artifact = store.artifact(BUNDLE, &[missing], Some(&manifest));
    store.manifests.push(artifact);
    let image = store.read(&index).unwrap();
    assert!(image.evidence.is_empty());
    let expected = [
        "IMAGE-UNPROVED",
        "IMAGE-ATTACHED",
        "IMAGE-ATTACHED",
        "IMAGE-BLOB-MISSING",
    ];
    assert_eq!(codes_of(&image.passed_over), expected);
    let references = crate::common::references(
        deployment.root(),
        vec![keyless("exact", WORKFLOW, GITHUB)],
        Vec::new(),
    );
    let verdict = image.judge(&references, NOW);
    assert_eq!(codes_of(&verdict.findings)[0], "CODE-UNKNOWN");
    assert_eq!(verdict.findings.len(), 5);
}

/// The same from files: a folder as `skopeo copy … oci:folder` writes it.
#[test]
fn a_layout_on_disk_is_read_through_files() {
    let deployment = Deployment::new();
    let mut store = Store::default();
    let (index, manifest) = store.image();
    let layer = store.put(BUNDLE, bundle_for(&deployment, &manifest));
    let artifact = store.artifact(BUNDLE, &[layer], Some(&manifest));
    store.manifests.push(artifact);
    let folder = testkit::temp_dir().unwrap();
    let blobs = folder.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for (digest, bytes) in &store.blobs {
        std::fs::write(blobs.join(hex::encode(digest)), bytes).unwrap();
    }
    std::fs::write(folder.path().join("index.json"), store.index()).unwrap();

    let image = from_disk(folder.path(), digest_of(&index)).unwrap();
    let pair = key(Algorithm::EcdsaP256);
    let verdict = image.judge(&trusting(&deployment, &pair), NOW);
    assert_eq!(
        verdict.outcome(),
        Outcome::Affirmed,
        "{:?}",
        verdict.findings
    );
    std::fs::write(
        blobs.join(hex::encode(digest_of(&manifest).as_bytes())),
        b"{}",
    )
    .unwrap();
    assert!(from_disk(folder.path(), digest_of(&index)).is_err());
}

pub(crate) fn from_disk(folder: &Path, digest: BlobDigest) -> Result<Image, Finding> {
    let index = std::fs::read(folder.join("index.json")).unwrap();
    let blobs = |digest: &BlobDigest| {
        let path = folder
            .join("blobs/sha256")
            .join(hex::encode(digest.as_bytes()));
        std::fs::read(path).ok().map(Cow::Owned)
    };
    let layout = Layout {
        index: &index,
        blobs: &blobs,
    };
    read(&layout, digest, &amd64(), Depth::Layers)
}
