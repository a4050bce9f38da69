//! `refs import oci`: the files of a container image, and what is attached to it. The image lies in a folder, or is
//! pulled from a registry that the operator lists.

use super::{file_name, progress, read, write, write_whole};
use crate::arguments::{Global, OciArguments};
use crate::runtime::block_on;
use crate::{Failure, files, output};
use attest_code::image::{self, BlobDigest, Depth, Image, Layout, Platform};
use attest_code::{CodeDigest, CodeEvidence, Form};
use facts::Finding;
use references::oci::{ImageFiles, Layer};
use references::{Digest, import};
use registry::{Reference, Registries};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The verifier reads no larger manifest, configuration or attachment.
const LARGEST: u64 = 4 << 20;
/// Pieces of evidence that an estate takes of one image.
const MOST: usize = 16;

pub(super) fn import(arguments: &OciArguments, global: &Global) -> Result<(), Failure> {
    let platform = platform(&arguments.platform)?;
    let Here {
        index,
        folder,
        named,
        called,
    } = if Reference::is_meant(&arguments.image) {
        pulled(arguments, &platform, global)?
    } else {
        in_folder(arguments)?
    };
    let folder = folder.as_path();
    let blobs = |digest: &BlobDigest| {
        let bytes = files::read(&blob(folder, digest), LARGEST).ok().flatten();
        bytes.map(Cow::Owned)
    };
    let layout = Layout {
        index: &index,
        blobs: &blobs,
    };
    let image = image::read(&layout, named, &platform, Depth::Manifest)?;
    let mut files = ImageFiles::new();
    for (number, layer) in image.layers.iter().enumerate() {
        progress(
            format_args!("layer {} of {}", number + 1, image.layers.len()),
            global,
        );
        let named = Layer {
            media_type: &layer.media_type,
            sha256: Digest(*layer.digest.as_bytes()),
            unpacked: Digest(*layer.unpacked.as_bytes()),
        };
        files.apply(&named, &read(&blob(folder, &layer.digest))?)?;
    }
    let manifest = image.names.last().copied().unwrap_or(named);
    let attached = attached(arguments, &image, [named, manifest])?;
    let name = arguments.name.as_deref().unwrap_or(&called);
    let [pinned, manifest] = [named, manifest].map(|digest| Digest(*digest.as_bytes()));
    let (source, artefact) = import::oci(name, pinned, manifest, &files);
    write(&arguments.generation, vec![source], vec![artefact], global)?;
    if let (Some(path), Some(text)) = (&arguments.attached, attached) {
        write_whole(path, text.as_bytes())?;
    }
    Ok(())
}

/// An image on disk.
struct Here {
    index: Vec<u8>,
    folder: PathBuf,
    named: BlobDigest,
    /// If `--name` does not say otherwise.
    called: String,
}

fn in_folder(arguments: &OciArguments) -> Result<Here, Failure> {
    let folder = PathBuf::from(&arguments.image);
    let digest = arguments.digest.as_deref();
    let digest = digest
        .ok_or_else(|| Failure::usage("name the image in the folder: --digest sha256:HEX"))?;
    let named = BlobDigest::parse(digest);
    let named =
        named.map_err(|_| Failure::usage("--digest is sha256: and 64 hexadecimal digits"))?;
    Ok(Here {
        index: read(&folder.join("index.json"))?,
        called: file_name(&folder),
        folder,
        named,
    })
}

fn pulled(arguments: &OciArguments, platform: &Platform, global: &Global) -> Result<Here, Failure> {
    if arguments.digest.is_some() {
        let what = "an image of a registry has its digest in its name: leave --digest out";
        return Err(Failure::usage(what));
    }
    let reference = Reference::parse(&arguments.image)?;
    let registries = Registries::open(&arguments.registries)?;
    let folder = match registries.cache() {
        Some(folder) => folder.to_owned(),
        None => cache()?,
    };
    let told = |what: &str| progress(format_args!("{what}"), global);
    let pull = registry::pull(&registries, &reference, platform, &folder, &told);
    let pulled = block_on(1, async { Ok(pull.await?) })?;
    for finding in &pulled.passed_over {
        output::note(finding);
    }
    let (_, called) = reference
        .name()
        .rsplit_once('/')
        .unwrap_or(("", reference.name()));
    Ok(Here {
        index: pulled.index,
        folder: pulled.folder,
        named: reference.digest(),
        called: called.to_owned(),
    })
}

/// Where images are kept if the registries' file does not say it.
fn cache() -> Result<PathBuf, Failure> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    folder("XDG_CACHE_HOME")
        .or_else(|| Some(folder("HOME")?.join(".cache")))
        .map(|cache| cache.join("trilith/images"))
        .ok_or_else(|| {
            Finding::new("CLI-CACHE", "there is no place to keep images")
                .expected("`cache` in the registries' file, else HOME or XDG_CACHE_HOME in the environment")
                .next("name a folder as `cache` in the registries' file")
                .into()
        })
}

fn blob(layout: &Path, digest: &BlobDigest) -> PathBuf {
    let hex = crypto::hex::encode(digest.as_bytes());
    layout.join("blobs/sha256").join(hex)
}

/// `linux/arm64`, `linux/arm/v7`.
fn platform(text: &str) -> Result<Platform, Failure> {
    let mut words = text.split('/').map(str::to_owned);
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(os), Some(architecture), variant, None) => Ok(Platform {
            os,
            architecture,
            variant,
        }),
        _ => Err(Failure::usage("--platform is such as linux/amd64")),
    }
}

/// What is attached to the image of these names, as a file of references, if it is asked for.
fn attached(
    arguments: &OciArguments,
    image: &Image,
    names: [BlobDigest; 2],
) -> Result<Option<String>, Failure> {
    for finding in &image.passed_over {
        output::note(finding);
    }
    let names = names.map(|name| CodeDigest::Image(*name.as_bytes()));
    let names = BTreeSet::from(names);
    let mut evidence: Vec<Value> = Vec::new();
    for name in &names {
        let about = image.evidence.iter().filter(|one| one.about == *name);
        let entries: Vec<Value> = about.filter_map(entry).collect();
        if entries.len() > MOST {
            output::note(format_args!(
                "more than {MOST} are attached to {name}: the first {MOST} are kept"
            ));
        }
        evidence.extend(entries.into_iter().take(MOST));
    }
    let count = evidence.len();
    let Some(path) = &arguments.attached else {
        if count > 0 {
            output::note(format_args!(
                "{count} signatures and attestations are attached: --attached FILE keeps them"
            ));
        }
        return Ok(None);
    };
    if count == 0 {
        return Err(Finding::new(
            "REF-EVIDENCE",
            "nothing is attached to the image that could be kept",
        )
        .expected("a signature of cosign's, a DSSE envelope or a Sigstore bundle")
        .observed(format!("{} things passed over", image.passed_over.len()))
        .next("copy what is attached into the layout as well, or leave --attached out")
        .into());
    }
    output::note(format_args!(
        "{}: {count} signatures and attestations; each counts if a [[signer]] of the estate's references made it",
        path.display()
    ));
    // INVARIANT: a value of texts and lists always serialises.
    let mut text =
        serde_json::to_string_pretty(&json!({ "evidence": evidence })).unwrap_or_default();
    text.push('\n');
    Ok(Some(text))
}

/// As an estate declares it; nothing for what is no text.
fn entry(evidence: &CodeEvidence) -> Option<Value> {
    let CodeDigest::Image(image) = &evidence.about else {
        return None;
    };
    let (form, content, signature) = match &evidence.form {
        Form::Bundle(bytes) => ("sigstore-bundle", bytes, None),
        Form::Envelope(bytes) => ("dsse-envelope", bytes, None),
        Form::SimpleSigning { payload, signature } => {
            let signature = crypto::base64::encode(signature);
            ("simple-signing", payload, Some(signature))
        }
        Form::Signature(_) => return None,
    };
    let mut entry = json!({
        "image": format!("sha256:{}", crypto::hex::encode(image)),
        "form": form,
        "content": std::str::from_utf8(content).ok()?,
    });
    if let (Some(signature), Some(entry)) = (signature, entry.as_object_mut()) {
        entry.insert("signature".to_owned(), signature.into());
    }
    Some(entry)
}
