//! What is attached to an image: referrers (OCI 1.1, by `subject` or by the tag that stands in for it), and
//! cosign's own tags, `sha256-<hex>.sig` and `sha256-<hex>.att`.
//!
//! A layout lists all of them in `index.json`. One that `cosign save` wrote holds a single image and says by an
//! annotation which manifest has its signatures. Anybody who can write to a registry can attach things: what
//! cannot be read is passed over, and what nobody vouches for counts for nothing.

use super::manifest::{Descriptor, Document, Index, Manifest};
use super::{BlobDigest, Layout, MAX_MANIFEST, fetch};
use crate::judge::{CodeEvidence, Form};
use crate::references::CodeDigest;
use facts::Finding;
use serde_json::Value;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const KIND: &str = "kind";
const SAVED_SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
const SAVED_ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";

/// Manifests of a layout that are looked into, and pieces of evidence that are kept.
const MAX_LOOKED_INTO: usize = 256;
const MAX_FOUND: usize = 64;

/// Evidence about the image of these names, and what was passed over.
pub(super) fn find(layout: &Layout<'_>, names: &[BlobDigest]) -> (Vec<CodeEvidence>, Vec<Finding>) {
    let mut found = Found {
        names,
        evidence: Vec::new(),
        passed_over: Vec::new(),
    };
    match Document::parse(layout.index) {
        Ok(Document::Index(index)) => found.in_index(layout, names, &index, true),
        Ok(Document::Manifest(_)) | Err(_) => found.passed_over.push(
            Finding::new("IMAGE-LAYOUT", "the layout's index.json is no index")
                .expected("an OCI image index"),
        ),
    }
    (found.evidence, found.passed_over)
}

struct Found<'a> {
    names: &'a [BlobDigest],
    evidence: Vec<CodeEvidence>,
    passed_over: Vec<Finding>,
}

/// How something is attached.
enum Attachment {
    /// It says itself, in `subject`.
    Perhaps,
    /// To the image of this name; without one, to whichever name was signed.
    Signatures(Option<BlobDigest>),
    Attestations(Option<BlobDigest>),
    /// An index of referrers under the tag `sha256-<hex>`.
    Referrers,
}

impl Found<'_> {
    fn in_index(&mut self, layout: &Layout<'_>, names: &[BlobDigest], index: &Index, follow: bool) {
        for descriptor in index.manifests.iter().take(MAX_LOOKED_INTO) {
            if names.contains(&descriptor.digest) {
                continue;
            }
            let attachment = attachment(descriptor, names);
            let document =
                fetch(layout, descriptor, MAX_MANIFEST).and_then(|bytes| Document::parse(&bytes));
            match (document, attachment) {
                (Ok(Document::Manifest(manifest)), Attachment::Signatures(name)) => {
                    self.signatures(layout, name, &manifest);
                }
                (Ok(Document::Manifest(manifest)), Attachment::Attestations(name)) => {
                    self.envelopes(layout, name, &manifest);
                }
                (Ok(Document::Manifest(manifest)), _) => {
                    if let Some(subject) = manifest.subject.filter(|one| names.contains(one)) {
                        self.referrer(layout, subject, descriptor, &manifest);
                    }
                }
                (Ok(Document::Index(referrers)), Attachment::Referrers) if follow => {
                    self.in_index(layout, names, &referrers, false);
                }
                (Ok(Document::Index(_)), _) => {}
                (Err(finding), _) => self.pass_over(finding),
            }
        }
    }

    /// A manifest whose subject is the image.
    fn referrer(
        &mut self,
        layout: &Layout<'_>,
        subject: BlobDigest,
        descriptor: &Descriptor,
        manifest: &Manifest,
    ) {
        for layer in &manifest.layers {
            if layer.media_type.starts_with(BUNDLE) {
                self.keep(layout, Some(subject), layer, Form::Bundle);
            } else if layer.media_type == ENVELOPE {
                self.keep(layout, Some(subject), layer, Form::Envelope);
            } else if layer.media_type == SIMPLE_SIGNING {
                self.simple_signing(layout, Some(subject), layer);
            } else {
                let kind = manifest
                    .artifact_type
                    .as_ref()
                    .or(descriptor.artifact_type.as_ref())
                    .unwrap_or(&layer.media_type);
                self.pass_over(
                    Finding::new("IMAGE-ATTACHED", "something else is attached to the image")
                        .expected("a Sigstore bundle, a DSSE envelope or a signature of cosign's")
                        .observed(kind.chars().take(160).collect::<String>()),
                );
            }
        }
    }

    fn signatures(
        &mut self,
        layout: &Layout<'_>,
        subject: Option<BlobDigest>,
        manifest: &Manifest,
    ) {
        for layer in &manifest.layers {
            self.simple_signing(layout, subject, layer);
        }
    }

    /// cosign's signature: the payload is the layer, the signature stands beside it.
    fn simple_signing(
        &mut self,
        layout: &Layout<'_>,
        subject: Option<BlobDigest>,
        layer: &Descriptor,
    ) {
        if layer
            .annotation(CERTIFICATE)
            .is_some_and(|text| !text.is_empty())
        {
            self.pass_over(unproved());
            return;
        }
        let signature = layer
            .annotation(SIGNATURE)
            .and_then(|text| crypto::base64::decode(text).ok());
        match signature {
            Some(signature) => self.keep(layout, subject, layer, |payload| Form::SimpleSigning {
                payload,
                signature: signature.clone(),
            }),
            None => self.pass_over(
                Finding::new(
                    "IMAGE-ATTACHED",
                    "a signature of cosign's without its signature",
                )
                .expected(format!("base64 in the annotation {SIGNATURE}")),
            ),
        }
    }

    fn envelopes(&mut self, layout: &Layout<'_>, subject: Option<BlobDigest>, manifest: &Manifest) {
        for layer in &manifest.layers {
            if layer
                .annotation(CERTIFICATE)
                .is_some_and(|text| !text.is_empty())
            {
                self.pass_over(unproved());
            } else {
                self.keep(layout, subject, layer, Form::Envelope);
            }
        }
    }

    fn keep(
        &mut self,
        layout: &Layout<'_>,
        subject: Option<BlobDigest>,
        layer: &Descriptor,
        form: impl Fn(Vec<u8>) -> Form,
    ) {
        if self.evidence.len() == MAX_FOUND {
            return;
        }
        let bytes = match fetch(layout, layer, MAX_MANIFEST) {
            Ok(bytes) => bytes,
            Err(finding) => return self.pass_over(finding),
        };
        match subject.or_else(|| named(&bytes, self.names)) {
            Some(subject) => self.evidence.push(CodeEvidence {
                about: CodeDigest::Image(*subject.as_bytes()),
                form: form(bytes.into_owned()),
            }),
            None => self.pass_over(
                Finding::new("IMAGE-ATTACHED", "what was signed names another image")
                    .observed(layer.digest.to_string()),
            ),
        }
    }

    fn pass_over(&mut self, finding: Finding) {
        if self.passed_over.len() < MAX_FOUND {
            self.passed_over.push(finding);
        }
    }
}

/// A certificate beside a signature, as cosign 2 attached it: its log entry has a promise and no proof.
fn unproved() -> Finding {
    Finding::new(
        "IMAGE-UNPROVED",
        "a keyless signature without a proof that it is in the log",
    )
    .expected("a Sigstore bundle with an inclusion proof")
    .observed("a certificate in annotations")
    .next("sign again by `cosign sign --new-bundle-format`, or with cosign 3")
}

/// The name that stands in what was signed. Whether that was signed, and says so, is judged later.
fn named(bytes: &[u8], names: &[BlobDigest]) -> Option<BlobDigest> {
    let payload = serde_json::from_slice::<Value>(bytes).ok()?;
    let inner = payload.get("payload").and_then(Value::as_str);
    let inner = inner.and_then(|text| crypto::base64::decode(text).ok());
    let text = String::from_utf8_lossy(inner.as_deref().unwrap_or(bytes));
    let stands = |name: &&BlobDigest| text.contains(&crypto::hex::encode(name.as_bytes()));
    names.iter().find(stands).copied()
}

/// By the kind that `cosign save` writes, or by the tag in a descriptor's name: `…:sha256-<hex>.sig`, `.att`, or nothing after it.
fn attachment(descriptor: &Descriptor, names: &[BlobDigest]) -> Attachment {
    match descriptor.annotation(KIND) {
        Some(SAVED_SIGNATURES) => return Attachment::Signatures(None),
        Some(SAVED_ATTESTATIONS) => return Attachment::Attestations(None),
        _ => {}
    }
    let tag = descriptor.annotation(REF_NAME).unwrap_or_default();
    let tag = tag.rsplit(':').next().unwrap_or_default();
    let tagged = |name: &&BlobDigest| {
        let plain = format!("sha256-{}", crypto::hex::encode(name.as_bytes()));
        tag.strip_prefix(plain.as_str())
            .is_some_and(|rest| matches!(rest, "" | ".sig" | ".att"))
    };
    let Some(name) = names.iter().find(tagged) else {
        return Attachment::Perhaps;
    };
    match tag.rsplit('.').next() {
        Some("sig") => Attachment::Signatures(Some(*name)),
        Some("att") => Attachment::Attestations(Some(*name)),
        _ => Attachment::Referrers,
    }
}
