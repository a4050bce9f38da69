//! What is attached to an image: referrers (OCI 1.1, by `subject` or by the tag that stands in for it), and
//! cosign's own tags, `sha256-<hex>.sig` and `sha256-<hex>.att`.
//!
//! A layout lists all of them in `index.json`. Anybody who can write to a registry can attach things: what
//! cannot be read is passed over, and what nobody vouches for counts for nothing.

use super::manifest::{Descriptor, Document, Index, Manifest};
use super::{BlobDigest, Layout, MAX_MANIFEST, fetch};
use crate::judge::{CodeEvidence, Form};
use crate::references::CodeDigest;
use facts::Finding;

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Manifests of a layout that are looked into, and pieces of evidence that are kept.
const MAX_LOOKED_INTO: usize = 256;
const MAX_FOUND: usize = 64;

/// Evidence about the image of these names, and what was passed over.
pub(super) fn find(layout: &Layout<'_>, names: &[BlobDigest]) -> (Vec<CodeEvidence>, Vec<Finding>) {
    let mut found = Found {
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

struct Found {
    evidence: Vec<CodeEvidence>,
    passed_over: Vec<Finding>,
}

/// How something is attached.
enum Attachment {
    /// It says itself, in `subject`.
    Perhaps,
    Signatures(BlobDigest),
    Attestations(BlobDigest),
    /// An index of referrers under the tag `sha256-<hex>`.
    Referrers,
}

impl Found {
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
                self.keep(layout, subject, layer, Form::Bundle);
            } else if layer.media_type == ENVELOPE {
                self.keep(layout, subject, layer, Form::Envelope);
            } else if layer.media_type == SIMPLE_SIGNING {
                self.simple_signing(layout, subject, layer);
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

    fn signatures(&mut self, layout: &Layout<'_>, subject: BlobDigest, manifest: &Manifest) {
        for layer in &manifest.layers {
            self.simple_signing(layout, subject, layer);
        }
    }

    /// cosign's signature: the payload is the layer, the signature stands beside it.
    fn simple_signing(&mut self, layout: &Layout<'_>, subject: BlobDigest, layer: &Descriptor) {
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

    fn envelopes(&mut self, layout: &Layout<'_>, subject: BlobDigest, manifest: &Manifest) {
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
        subject: BlobDigest,
        layer: &Descriptor,
        form: impl Fn(Vec<u8>) -> Form,
    ) {
        if self.evidence.len() == MAX_FOUND {
            return;
        }
        match fetch(layout, layer, MAX_MANIFEST) {
            Ok(bytes) => self.evidence.push(CodeEvidence {
                about: CodeDigest::Image(*subject.as_bytes()),
                form: form(bytes.into_owned()),
            }),
            Err(finding) => self.pass_over(finding),
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

/// By the tag in a descriptor's name: `…:sha256-<hex>.sig`, `.att`, or nothing after it.
fn attachment(descriptor: &Descriptor, names: &[BlobDigest]) -> Attachment {
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
        Some("sig") => Attachment::Signatures(*name),
        Some("att") => Attachment::Attestations(*name),
        _ => Attachment::Referrers,
    }
}
