//! `trilith refs import oci`, and what an estate makes of it: images that `umoci` built, signed by `openssl` as
//! cosign signs by key.

use crate::refs::{generation, text, trilith};
use facts::{Affirmed, FactSet, Source, Timestamp, names};
use references::Digest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub(crate) const PROGRAM: &[u8] = b"\x7fELF what the image is for";
const OTHER: &[u8] = b"\x7fELF what was in it before";
const SIGNATURES: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout on disk with an image of three layers: a program, another in its place and one that a whiteout hides.
pub(crate) struct Built {
    pub(crate) folder: TempDir,
    /// `sha256:` and hex, of the manifest.
    pub(crate) digest: String,
}

impl Built {
    pub(crate) fn new() -> Option<Self> {
        let Some(umoci) = testkit::tool("umoci") else {
            testkit::skip("trilith::umoci", "umoci is not installed");
            return None;
        };
        let folder = testkit::temp_dir().expect("a folder");
        let run = |arguments: &[&str]| {
            let ran = Command::new(&umoci)
                .current_dir(&folder)
                .args(arguments)
                .output();
            let ran = ran.expect("umoci starts");
            assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        };
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        };
        write("old", OTHER);
        write("new", PROGRAM);
        run(&["init", "--layout", "layout"]);
        run(&["new", "--image", "layout:1"]);
        let insert = ["insert", "--rootless", "--image", "layout:1"];
        run(&[&insert[..], &["old", "/usr/bin/payments"]].concat());
        run(&[&insert[..], &["old", "/usr/bin/gone"]].concat());
        run(&[&insert[..], &["new", "/usr/bin/payments"]].concat());
        run(&[&insert[..], &["--whiteout", "/usr/bin/gone"]].concat());
        let index = json_of(&folder.path().join("layout/index.json"));
        let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
        let digest = digest.to_owned();
        Some(Self { folder, digest })
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let path = self.at("layout/blobs/sha256").join(digest.to_string());
        std::fs::write(path, bytes).expect("a blob");
        json!({ "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// An artefact of these layers in the layout's index, by that tag.
    fn attach(&self, layers: &[Value], tag: &str) {
        let mut descriptor = self.artefact(layers, None);
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        self.index(|manifests| manifests.push(descriptor));
    }

    /// A signature of the image, attached by saying of whom it is: there is no tag.
    pub(crate) fn refer(&self) {
        let layer = self.signature(&self.digest);
        let size = std::fs::metadata(self.path_of(&self.digest))
            .expect("a manifest")
            .len();
        let subject = json!({ "mediaType": MANIFEST, "digest": self.digest, "size": size });
        let descriptor = self.artefact(&[layer], Some(subject));
        self.index(|manifests| manifests.push(descriptor));
    }

    fn artefact(&self, layers: &[Value], subject: Option<Value>) -> Value {
        let mut config = self.blob(b"{}");
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        if let Some(subject) = subject {
            manifest["subject"] = subject;
        }
        let mut descriptor = self.blob(manifest.to_string().as_bytes());
        descriptor["mediaType"] = json!(MANIFEST);
        descriptor
    }

    pub(crate) fn index(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let path = self.at("layout/index.json");
        let mut index = json_of(&path);
        change(index["manifests"].as_array_mut().expect("a list"));
        std::fs::write(path, index.to_string()).expect("an index");
    }

    /// What cosign signs of the image `named`, signed by openssl and attached to the image `to`.
    pub(crate) fn sign(&self, named: &str, to: &str) {
        let layer = self.signature(named);
        self.attach(&[layer], &format!("{}.sig", to.replace(':', "-")));
    }

    fn signature(&self, named: &str) -> Value {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": "registry.acme.test/payments" },
                "image": { "docker-manifest-digest": named },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = payload.to_string();
        std::fs::write(self.at("payload"), &payload).expect("a payload");
        let openssl = |arguments: &[&str]| {
            let openssl = testkit::tool("openssl").expect("openssl is there");
            let ran = Command::new(openssl)
                .current_dir(&self.folder)
                .args(arguments)
                .output();
            let ran = ran.expect("openssl starts");
            assert!(ran.status.success(), "{arguments:?}: {ran:?}");
        };
        if !self.at("key").exists() {
            let curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key"];
            openssl(&[&["genpkey", "-algorithm", "EC"], &curve[..]].concat());
            openssl(&["pkey", "-in", "key", "-pubout", "-out", "pub"]);
        }
        openssl(&["dgst", "-sha256", "-sign", "key", "-out", "sig", "payload"]);
        let signature = std::fs::read(self.at("sig")).expect("a signature");
        let mut layer = self.blob(payload.as_bytes());
        layer["mediaType"] = json!(SIGNATURES);
        let signature = crypto::base64::encode(&signature);
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
        layer
    }

    /// An index for several platforms with the image in it: its digest.
    fn index_of_platforms(&self) -> String {
        let bytes = self.path_of(&self.digest);
        let size = std::fs::metadata(bytes).expect("a manifest").len();
        let one = |architecture: &str| {
            json!({
                "mediaType": MANIFEST, "digest": self.digest, "size": size,
                "platform": { "os": "linux", "architecture": architecture },
            })
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [one("amd64"), one("arm64")],
        });
        let descriptor = self.blob(index.to_string().as_bytes());
        descriptor["digest"].as_str().expect("a digest").to_owned()
    }

    fn path_of(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        self.at("layout/blobs/sha256").join(hex)
    }

    fn import(&self, digest: &str, more: &[&str]) -> Output {
        let (layout, output) = (self.at("layout"), self.at("image.json"));
        let import = [
            "import",
            "oci",
            text(&layout),
            "--digest",
            digest,
            "--name",
            "payments",
        ];
        let output = ["--output", text(&output)];
        trilith(&[&import[..], &output, more].concat())
    }

    fn refused(&self, digest: &str, code: &str) {
        let ran = self.import(digest, &[]);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains(code), "{code}: {said}");
    }

    /// What an estate that trusts the key makes of a program with that content.
    pub(crate) fn known(&self, content: &[u8]) -> Affirmed {
        let mut files = estate::EstateFiles::new();
        files.insert("estate.toml", "trust_domain = \"t\"\n");
        for name in ["image.json", "attached.json"] {
            let said = std::fs::read_to_string(self.at(name)).expect("it was written");
            files.insert(format!("references/{name}"), said);
        }
        let key = std::fs::read_to_string(self.at("pub")).expect("a key");
        let who = format!("[[signer]]\nname = \"release key\"\nkey = '''\n{key}'''\n");
        files.insert("references/who.toml", who);
        let estate = estate::Estate::compile(&files).expect("it compiles");
        let now = Timestamp::now();
        let mut running = FactSet::new();
        let digest = Digest::of(content).to_string();
        running.state(names::CODE_SHA256, digest, Source::Asserted, now);
        estate.code_facts(&running, now).0
    }
}

fn json_of(path: &Path) -> Value {
    let bytes = std::fs::read(path).expect("it is there");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn an_image_that_umoci_built_and_openssl_signed_becomes_facts_of_its_program() {
    let Some(built) = Built::new() else {
        return;
    };
    let index = built.index_of_platforms();
    built.sign(&index, &index);
    let attached = built.at("attached.json");
    for (named, signed) in [(index.clone(), true), (built.digest.clone(), false)] {
        let done = built.import(&named, &["--attached", text(&attached)]);
        assert_eq!(done.status.success(), signed, "{done:?}");
        if !signed {
            // The index was signed, and this is the manifest by itself.
            assert!(String::from_utf8_lossy(&done.stderr).contains("REF-EVIDENCE"));
            continue;
        }
        let file = generation(&built.at("image.json"));
        let artefact = &file.generations[0].artefacts[0];
        assert_eq!(format!("sha256:{}", artefact.sha256), built.digest);
        let files: Vec<_> = artefact
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.sha256))
            .collect();
        assert_eq!(files, [("/usr/bin/payments", Digest::of(PROGRAM))]);
        let known = built.known(PROGRAM);
        for (name, expected) in [
            (names::CODE_REFERENCE, "payments /usr/bin/payments"),
            (names::CODE_IMAGE_DIGEST, built.digest.as_str()),
            (names::CODE_IMAGE_APPROVED_BY, "release key"),
            (names::CODE_IMAGE_NAME, "registry.acme.test/payments"),
        ] {
            assert_eq!(known.text(name), Some(expected), "{name}");
        }
        assert!(known.text(names::CODE_IMAGE_SIGNER_KEY).is_some());
        // What an upper layer replaced or hid is in no image.
        assert!(built.known(OTHER).is_empty());
    }
    // Without the option it is said that there is something.
    let done = built.import(&index, &[]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("--attached FILE keeps them"));
    // Another tool finds the same image where the index points.
    if let Some(skopeo) = testkit::tool("skopeo") {
        let layout = format!("oci:{}:1", text(&built.at("layout")));
        let said = Command::new(skopeo)
            .args(["inspect", &layout])
            .output()
            .expect("skopeo starts");
        let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
        assert_eq!(said["Digest"], json!(built.digest));
    } else {
        testkit::skip("trilith::skopeo", "skopeo is not installed");
    }
}

#[test]
fn an_image_that_is_not_what_it_is_named_is_not_imported() {
    let Some(built) = Built::new() else {
        return;
    };
    let index = built.index_of_platforms();
    let other = built.import(&index, &["--platform", "linux/s390x"]);
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("IMAGE-PLATFORM"),
        "{other:?}"
    );
    let usage = built.import("latest", &[]);
    assert_eq!(usage.status.code(), Some(2));

    let manifest = json_of(&built.path_of(&built.digest));
    // One document that is an image to one reader and an index to another.
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    let both = built.blob(both.to_string().as_bytes());
    built.refused(both["digest"].as_str().expect("a digest"), "IMAGE-MANIFEST");
    let mut says = manifest.clone();
    says["mediaType"] = json!(INDEX);
    let says = built.blob(says.to_string().as_bytes());
    built.refused(says["digest"].as_str().expect("a digest"), "IMAGE-MANIFEST");

    // A layer of another image under a configuration that does not list it.
    let mut swapped = manifest.clone();
    let layers = swapped["layers"].as_array_mut().expect("layers");
    layers.swap(0, 2);
    let swapped = built.blob(swapped.to_string().as_bytes());
    built.refused(
        swapped["digest"].as_str().expect("a digest"),
        "REF-OCI-DIGEST",
    );

    // Blobs that were changed where they lie.
    for digest in [
        &manifest["layers"][0]["digest"],
        &manifest["config"]["digest"],
    ] {
        let path = built.path_of(digest.as_str().expect("a digest"));
        let good = std::fs::read(&path).expect("a blob");
        let mut changed = good.clone();
        changed[10] ^= 1;
        std::fs::write(&path, &changed).expect("a blob");
        built.refused(&index, "-DIGEST");
        std::fs::remove_file(&path).expect("a blob");
        assert!(!built.import(&index, &[]).status.success());
        std::fs::write(&path, &good).expect("a blob");
    }
    assert!(!built.at("image.json").exists(), "nothing half-written");
    assert!(built.import(&index, &[]).status.success());
}

/// What is attached to an image is anybody's: only what was signed of this image counts.
#[test]
fn the_signature_of_another_image_is_imported_and_counts_for_nothing() {
    let Some(built) = Built::new() else {
        return;
    };
    let attached = built.at("attached.json");
    let other = format!("sha256:{}", "5".repeat(64));
    built.sign(&other, &built.digest);
    let done = built.import(&built.digest, &["--attached", text(&attached)]);
    assert!(done.status.success(), "{done:?}");
    let known = built.known(PROGRAM);
    assert_eq!(
        known.text(names::CODE_IMAGE_DIGEST),
        Some(built.digest.as_str())
    );
    assert_eq!(known.text(names::CODE_IMAGE_APPROVED_BY), None);
    // The right one beside it does.
    built.sign(&built.digest, &built.digest);
    let done = built.import(&built.digest, &["--attached", text(&attached)]);
    assert!(done.status.success(), "{done:?}");
    let known = built.known(PROGRAM);
    assert_eq!(
        known.text(names::CODE_IMAGE_APPROVED_BY),
        Some("release key")
    );
}
