//! Container images and provenance: what layers leave, who signed, and what is refused.

use crate::evidence::{digest, folder};
use crypto::{Algorithm, KeyPair, PublicKey, Signer as _};
use references::oci::{ImageFiles, Layer};
use references::unpack::{self, Packing};
use references::{Digest, slsa};
use std::io::Write as _;
use std::process::{Command, Stdio};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar archive of plain files and folders, by hand.
pub(crate) fn tar(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, kind, content) in entries {
        let mut header = [0_u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000755\0");
        let size = if *kind == b'0' { content.len() } else { 0 };
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[156] = *kind;
        if *kind != b'0' {
            header[157..157 + content.len()].copy_from_slice(content);
        }
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        if *kind == b'0' {
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    bytes.extend([0; 1024]);
    bytes
}

/// Through a program of the system, so that what is read was not written by us.
pub(crate) fn compressed(program: &str, bytes: &[u8]) -> Vec<u8> {
    compressed_with(program, &["-c"], bytes)
}

pub(crate) fn compressed_with(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let copy = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The layer that `bytes` are, of what they unpack to.
pub(crate) fn layer<'a>(media_type: &'a str, bytes: &[u8]) -> Layer<'a> {
    let packing = match media_type.rsplit_once('+') {
        Some((_, "gzip")) => Packing::Gzip,
        Some((_, "zstd")) => Packing::Zstd,
        _ => Packing::Plain,
    };
    let unpacked = unpack::all(packing, bytes, 1 << 24).unwrap_or_default();
    Layer {
        media_type,
        sha256: Digest::of(bytes),
        unpacked: Digest::of(&unpacked),
    }
}

fn files(blobs: &[(&str, Vec<u8>)]) -> Result<Vec<(String, Digest)>, facts::Finding> {
    let mut image = ImageFiles::new();
    for (kind, bytes) in blobs {
        let kind = format!("application/vnd.oci.image.layer.v1.{kind}");
        image.apply(&layer(&kind, bytes), bytes)?;
    }
    let found = image
        .iter()
        .map(|(path, digests)| (path.to_owned(), digests.sha256));
    Ok(found.collect())
}

#[test]
fn layers_add_hide_and_replace() {
    let lower = tar(&[
        ("usr/bin/", b'5', b""),
        ("usr/bin/app", b'0', b"one"),
        ("usr/bin/tool", b'0', b"tool"),
        ("usr/bin/same", b'1', b"usr/bin/tool"),
        ("etc/a", b'0', b"a"),
        ("etc/b", b'0', b"b"),
        ("opt/x/y", b'0', b"y"),
        ("srv/file", b'0', b"file"),
    ]);
    let upper = tar(&[
        ("usr/bin/app", b'0', b"two"),
        ("usr/bin/.wh.tool", b'0', b""),
        ("etc/c", b'0', b"c"),
        ("etc/.wh..wh..opq", b'0', b""),
        (".wh.opt", b'0', b""),
        ("srv/file", b'2', b"/etc/c"),
    ]);
    let expected = [
        ("/etc/c", b"c".as_slice()),
        ("/usr/bin/app", b"two"),
        ("/usr/bin/same", b"tool"),
    ]
    .map(|(path, content)| (path.to_owned(), Digest::of(content)));
    let plain = [("tar", lower.clone()), ("tar", upper.clone())];
    assert_eq!(files(&plain).unwrap(), expected);
    let packed = [
        ("tar+gzip", compressed("gzip", &lower)),
        ("tar+gzip", compressed("gzip", &upper)),
    ];
    assert_eq!(files(&packed).unwrap(), expected);
    if testkit::tool("zstd").is_none() {
        testkit::skip("references::zstd", "zstd is not installed");
        return;
    }
    let packed = [
        ("tar+zstd", compressed("zstd", &lower)),
        (
            "tar+zstd",
            [
                compressed("zstd", &upper[..700]),
                compressed("zstd", &upper[700..]),
            ]
            .concat(),
        ),
    ];
    assert_eq!(files(&packed).unwrap(), expected);
}

#[test]
fn a_layer_is_the_one_that_was_named() {
    let plain = tar(&[("a", b'0', b"a")]);
    let named = layer(TAR, &plain);
    let mut changed = plain.clone();
    changed[600] ^= 1;
    let refused = ImageFiles::new().apply(&named, &changed).unwrap_err();
    assert_eq!(refused.code, "REF-OCI-DIGEST");
    assert_eq!(files(&[("tar+brotli", plain)]).unwrap_err().code, "REF-OCI");
    let outside = tar(&[("../../etc/passwd", b'0', b"x")]);
    assert_eq!(files(&[("tar", outside)]).unwrap_err().code, "REF-TAR");
    let outside = tar(&[("a", b'1', b"../../etc/passwd")]);
    assert_eq!(files(&[("tar", outside)]).unwrap_err().code, "REF-TAR");
    let dangling = tar(&[("a", b'1', b"b")]);
    assert_eq!(files(&[("tar", dangling)]).unwrap_err().code, "REF-OCI");
    let short = compressed("gzip", &tar(&[("a", b'0', &[7; 5000])]));
    let cut = short[..short.len() / 2].to_vec();
    assert_eq!(files(&[("tar+gzip", cut)]).unwrap_err().code, "REF-UNPACK");
}

/// As umoci 0.4 writes layers with `insert`.
#[test]
fn a_layer_that_ends_behind_its_last_file_is_whole_and_one_that_ends_elsewhere_is_not() {
    let whole = tar(&[("a", b'0', b"content")]);
    let ends = |at: usize| files(&[("tar", whole.get(..at).unwrap().to_vec())]);
    assert_eq!(ends(512 + 7).unwrap(), ends(whole.len()).unwrap());
    for at in [100, 512 + 6, 512 + 8, 1023] {
        assert_eq!(ends(at).unwrap_err().code, "REF-TAR", "{at}");
    }
}

/// A blob may be what its digest says, and unpack here to other files than where it runs.
#[test]
fn a_layer_that_unpacks_to_what_its_image_does_not_list_is_refused() {
    let plain = tar(&[("a", b'0', b"a")]);
    let packed = compressed("gzip", &plain);
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let good = layer(gzip, &packed);
    ImageFiles::new().apply(&good, &packed).unwrap();
    // What stands behind the last entry is part of the archive.
    let longer = [plain, b"more".to_vec()].concat();
    for bytes in [compressed("gzip", &longer), compressed("gzip", b"")] {
        let lied = Layer {
            sha256: Digest::of(&bytes),
            ..good
        };
        let refused = ImageFiles::new().apply(&lied, &bytes).unwrap_err();
        assert_eq!(refused.code, "REF-OCI-DIGEST");
    }
}

#[test]
fn layers_unpack_to_no_more_than_an_image_may_have() {
    // Small as blobs: a megabyte of nothing each.
    let bytes = compressed("gzip", &tar(&[("zeros", b'0', &vec![0; 1 << 20])]));
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let zeros = layer(gzip, &bytes);
    let mut image = ImageFiles::within(5 << 19);
    image.apply(&zeros, &bytes).unwrap();
    image.apply(&zeros, &bytes).unwrap();
    let refused = image.apply(&zeros, &bytes).unwrap_err();
    assert_eq!(refused.code, "REF-UNPACK-SIZE");
    // An entry that only claims to be large.
    let mut claims = tar(&[("a", b'0', b"a")]);
    claims[124..136].copy_from_slice(b"77777777777\0");
    claims[148..156].fill(b' ');
    let sum: u32 = claims[..512].iter().map(|byte| u32::from(*byte)).sum();
    claims[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(files(&[("tar", claims)]).unwrap_err().code, "REF-TAR");
}

#[test]
fn of_one_path_twice_in_a_layer_the_last_counts_and_a_hidden_file_is_none() {
    let twice = tar(&[("a", b'0', b"first"), ("a", b'0', b"second")]);
    let found = files(&[("tar", twice)]).unwrap();
    assert_eq!(found, [("/a".to_owned(), Digest::of(b"second"))]);
    let lower = tar(&[("bin/a", b'0', b"a"), ("bin/link", b'1', b"bin/a")]);
    let upper = tar(&[("bin/.wh.a", b'0', b"")]);
    let found = files(&[("tar", lower), ("tar", upper)]).unwrap();
    assert_eq!(found, [("/bin/link".to_owned(), Digest::of(b"a"))]);
}

fn envelope(key: &KeyPair, payload: &str) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let signature = crypto::base64::encode(&key.sign(signed.as_bytes()).unwrap());
    let payload = crypto::base64::encode(payload.as_bytes());
    format!(r#"{{"payloadType":"{kind}","payload":"{payload}","signatures":[{{"keyid":"","sig":"{signature}"}}]}}"#)
        .into_bytes()
}

#[test]
fn subjects_count_under_a_key_that_was_given() {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let other = KeyPair::generate(Algorithm::Ed25519).unwrap();
    let subject = Digest::of(b"app");
    let payload = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"app","digest":{{"sha256":"{subject}"}}}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{{"runDetails":{{"builder":{{"id":"https://ci.example"}}}}}}}}"#
    );
    let signed = envelope(&key, &payload);
    let keys = [other.public_key().clone(), key.public_key().clone()];
    let statement = slsa::verify(&signed, &keys).unwrap();
    assert_eq!(statement.subjects, [("app".to_owned(), subject)]);
    assert_eq!(statement.builder.as_deref(), Some("https://ci.example"));
    assert_eq!(statement.key, Digest(key.public_key().spki_sha256()));
    let code = |bytes: &[u8], keys: &[PublicKey]| slsa::verify(bytes, keys).unwrap_err().code;
    assert_eq!(code(&signed, &keys[..1]), "REF-SLSA-SIGNATURE");
    assert_eq!(code(&signed, &[]), "REF-SLSA-SIGNATURE");
    let text = String::from_utf8(signed).unwrap();
    let changed = crypto::base64::encode(payload.replace("app", "apq").as_bytes());
    let original = crypto::base64::encode(payload.as_bytes());
    let changed = text.replace(&original, &changed);
    assert_eq!(code(changed.as_bytes(), &keys), "REF-SLSA-SIGNATURE");
    let weak = payload.replace("sha256", "sha1");
    assert_eq!(code(&envelope(&key, &weak), &keys), "REF-SLSA");
    let other_type = payload.replace("Statement/v1", "Link/v1");
    assert_eq!(code(&envelope(&key, &other_type), &keys), "REF-SLSA");
}

#[test]
fn provenance_of_a_public_builder_names_the_file_that_it_built() {
    let Some(folder) = folder("references::provenance", "slsa") else {
        return;
    };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let bundle: serde_json::Value =
        serde_json::from_str(&read("MODULE.bazel.intoto.jsonl")).unwrap();
    // The key of the short-lived certificate, which is for others to judge: a P-256 SPKI is found by its head.
    let certificate = bundle["verificationMaterial"]["certificate"]["rawBytes"]
        .as_str()
        .unwrap();
    let certificate = crypto::base64::decode(certificate).unwrap();
    let head = crypto::hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107").unwrap();
    let at = certificate
        .windows(head.len())
        .position(|window| window == head)
        .unwrap();
    let key = PublicKey::from_spki_der(&certificate[at..at + 91]).unwrap();
    let envelope = bundle["dsseEnvelope"].to_string();
    let statement = slsa::verify(envelope.as_bytes(), &[key]).unwrap();
    let built = Digest::of(read("MODULE.bazel").as_bytes());
    assert!(
        statement
            .subjects
            .iter()
            .any(|(name, sha256)| { name.contains("MODULE.bazel") && *sha256 == built })
    );
    assert!(
        statement
            .builder
            .unwrap()
            .starts_with("https://github.com/")
    );
    assert_eq!(digest(&built.to_string()), built);
}
