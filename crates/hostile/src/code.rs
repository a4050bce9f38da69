//! Who vouches for a program: Sigstore bundles, OCI manifests, signed IPE policies.

use crate::seeds;
use attest_code::image::{BlobDigest, Depth, Layout, Platform, read};
use attest_code::{
    Artifact, CodeDigest, CodeReferences, Identity, IpePolicy, Operation, PolicyPlan,
    PolicyVersion, SignedPolicy, Signer, TrustedRoot, Vouched, verify_bundle,
};
use crypto::{Algorithm, KeyPair, sha256};
use spiffe_core::x509::authority::{AuthorityParams, root};
use spiffe_core::{Serial, TrustDomain};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// A recorded bundle, when it counted, by whom and what it is of.
struct Good {
    references: CodeReferences,
    artifact: Vec<u8>,
    said: Vouched,
}

const SIGNED_AT: u64 = 1_756_728_839;
const BUNDLE: &str = "sigstore/conda-attestation.sigstore.json";
const WORKFLOW: &str =
    "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

static GOOD: LazyLock<Option<Good>> = LazyLock::new(|| {
    let root = TrustedRoot::parse(&seeds::file("sigstore/public-good.json")?).ok()?;
    let identity = Identity::parse(WORKFLOW).ok()?;
    let signer = Signer::keyless("signer", "root", identity, ISSUER).ok()?;
    let roots = BTreeMap::from([("root".to_owned(), root)]);
    let references = CodeReferences::new(roots, Vec::new(), vec![signer], Vec::new()).ok()?;
    let artifact = seeds::file("sigstore/signed-package-2.1.0-hb0f4dca_0.conda")?;
    let bundle = seeds::file(BUNDLE)?;
    let of = Artifact::of_bytes(&artifact);
    let said = verify_bundle(&bundle, &of, &references, seeds::at(SIGNED_AT));
    Some(Good {
        references,
        said: said.expect("a recorded bundle is good"),
        artifact,
    })
});

/// A bundle is refused, or says what the recorded one says; its decoration is nobody's word.
pub(crate) fn bundle(bytes: &[u8]) {
    let _refused = TrustedRoot::parse(bytes);
    let Some(good) = &*GOOD else {
        let references = CodeReferences::default();
        assert!(verify_bundle(bytes, &Artifact::of_bytes(b""), &references, seeds::at(0)).is_err());
        return;
    };
    let of = Artifact::of_bytes(&good.artifact);
    match verify_bundle(bytes, &of, &good.references, seeds::at(SIGNED_AT)) {
        Ok(said) => {
            assert_eq!(said.label(), good.said.label());
            assert_eq!(said.statement(), good.said.statement());
        }
        Err(findings) => assert!(!findings.is_empty()),
    }
}

pub(crate) fn bundle_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::folder("sigstore", ".json");
    all.extend(seeds::folder("sigstore", ".sigstore"));
    all.push(br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{},"messageSignature":{}}"#.to_vec());
    all
}

/// A manifest behind its own digest: its reader bounds what it keeps, and no blob is believed that is
/// not there.
pub(crate) fn manifest(bytes: &[u8]) {
    let name = BlobDigest::new(sha256(bytes));
    let blobs = |asked: &BlobDigest| (*asked == name).then_some(Cow::Borrowed(bytes));
    let platform = Platform {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: None,
    };
    let layout = Layout {
        index: bytes,
        blobs: &blobs,
    };
    // Its configuration would have to be itself.
    assert!(read(&layout, name, &platform, Depth::Layers).is_err());
    attached(bytes);
}

/// A good image in a layout whose index, and whose blob that may be attached, is anything: the image stays what
/// it is, and what is found is about it and bounded.
fn attached(bytes: &[u8]) {
    let (image, blobs) = &*IMAGE;
    let found = |asked: &BlobDigest| {
        let own = blobs.get(asked).map(Vec::as_slice);
        let other = (*asked == BlobDigest::new(sha256(bytes))).then_some(bytes);
        own.or(other).map(Cow::Borrowed)
    };
    let platform = Platform {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        variant: None,
    };
    let layout = Layout {
        index: bytes,
        blobs: &found,
    };
    let read = read(&layout, *image, &platform, Depth::Layers).expect("a good image is read");
    assert_eq!(read.names, [*image]);
    assert!(read.evidence.len() <= 64 && read.passed_over.len() <= 64);
    let about = CodeDigest::Image(*image.as_bytes());
    assert!(read.evidence.iter().all(|one| one.about == about));
}

/// The manifest of an image with one layer, and all of its blobs.
static IMAGE: LazyLock<(BlobDigest, BTreeMap<BlobDigest, Vec<u8>>)> = LazyLock::new(|| {
    let mut blobs = BTreeMap::new();
    let mut put = |kind: &str, bytes: &str| {
        let digest = BlobDigest::new(sha256(bytes.as_bytes()));
        blobs.insert(digest, bytes.as_bytes().to_vec());
        let size = bytes.len();
        let descriptor = format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#
        );
        (digest, descriptor)
    };
    let (unpacked, layer) = put("layer.v1.tar", "a layer");
    let config = format!(r#"{{"rootfs":{{"diff_ids":["{unpacked}"]}}}}"#);
    let (_, config) = put("config.v1+json", &config);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    let (image, _) = put("manifest.v1+json", &manifest);
    (image, blobs)
});

/// An index that says of the image's own manifest, by tag, that it holds the image's signatures; and an artefact
/// that refers to the image.
fn attached_seeds() -> Vec<Vec<u8>> {
    let (image, blobs) = &*IMAGE;
    let size = blobs.get(image).map_or(0, Vec::len);
    let hex = crypto::hex::encode(image.as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let named = |digest: &str, size: usize, more: &str| {
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}{more}}}"#)
    };
    let own = named(&image.to_string(), size, "");
    let mut seeds = Vec::new();
    for name in [format!("sha256-{hex}.sig"), format!("sha256-{hex}")] {
        let other = format!("sha256:{}", "ab".repeat(32));
        let tag = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
        let tagged = named(&other, 7, &tag);
        seeds.push(format!(
            r#"{{"schemaVersion":2,"manifests":[{own},{tagged}]}}"#
        ));
    }
    let bundle = format!(
        r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","digest":"{image}","size":{size}}}"#
    );
    seeds.push(format!(
        r#"{{"schemaVersion":2,"config":{bundle},"layers":[{bundle}],"subject":{own}}}"#
    ));
    seeds.into_iter().map(String::into_bytes).collect()
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    let digest = "ab".repeat(32);
    let blob = |kind: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{digest}","size":7}}"#
        )
    };
    let (config, layer) = (blob("config.v1+json"), blob("layer.v1.tar+gzip"));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{config},"layers":[{layer}]}}"#
    );
    let platform = r#""platform":{"architecture":"amd64","os":"linux"}"#;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":7,{platform}}}]}}"#
    );
    let mut seeds = vec![manifest.into_bytes(), index.into_bytes()];
    seeds.extend(attached_seeds());
    seeds
}

/// A signed policy made here and the recorded one: those who signed them, and what they say.
struct Policies {
    signers: Vec<Vec<u8>>,
    made: Vec<u8>,
    texts: Vec<String>,
}

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let params = AuthorityParams {
        serial: Serial::from_random([7; 16]),
        not_before: seeds::at(0),
        not_after: seeds::at(u64::from(u32::MAX)),
    };
    let owner = root(&TrustDomain::new("owner.test").unwrap(), &params, &key).unwrap();
    let plan = PolicyPlan {
        name: "made".to_owned(),
        version: PolicyVersion {
            major: 1,
            minor: 0,
            revision: 0,
        },
        after: None,
        deny: BTreeSet::from([Operation::KernelModule]),
        boot_verified: true,
    };
    let made = IpePolicy::new(plan, &CodeReferences::default(), seeds::at(0)).unwrap();
    let made = made.sign(&owner, &key).unwrap();
    let mut all = Policies {
        signers: vec![owner],
        made: made.der().to_vec(),
        texts: vec![made.text().to_owned()],
    };
    if let (Some(db), Some(der)) = (
        seeds::file("lab/uki-own-keys-secureboot/keys/db.crt"),
        seeds::file("lab/uki-612-ipe-secureboot/ipe.p7b"),
    ) {
        let recorded = SignedPolicy::verify(&der, &[&db]).expect("a recorded policy is good");
        all.texts.push(recorded.text().to_owned());
        all.signers.push(db);
    }
    all
});

/// A signed policy (CMS): its text is the signer's, whatever stands around it.
pub(crate) fn policy(bytes: &[u8]) {
    let all = &*POLICIES;
    let signers: Vec<&[u8]> = all.signers.iter().map(Vec::as_slice).collect();
    if let Ok(policy) = SignedPolicy::verify(bytes, &signers) {
        let known = all.texts.iter().any(|text| text == policy.text());
        assert!(known, "a policy that nobody signed");
        assert_eq!(policy.der(), bytes);
    }
}

pub(crate) fn policy_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::folder("lab/uki-612-ipe-secureboot", "ipe.p7b");
    all.push(POLICIES.made.clone());
    all
}
