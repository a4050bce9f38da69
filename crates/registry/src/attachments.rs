//! What is attached to an image in a registry: by the referrers API (OCI Distribution 1.1), by the tag that stands
//! in for it (`sha256-<hex>`), and by cosign's own tags (`sha256-<hex>.sig` and `.att`).
//!
//! Anybody who can push can attach things. What is malformed is passed over; that the registry does not answer is
//! not, since an attacker on the way would only have to stop the answer.

use crate::kept::Kept;
use crate::pull::{LARGEST_MANIFEST, MANIFESTS, blob, entry, largest, manifest};
use crate::session::{Had, Session, other};
use attest_code::image::{Attached, BlobDigest, Part, attached};
use facts::Finding;
use serde_json::Value;
use std::collections::BTreeSet;

/// Attachments of one image that are fetched, and findings about others that are kept.
const MOST: usize = 64;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Default)]
pub(crate) struct Found {
    /// For an index: manifests, under their tags where they have one.
    pub(crate) entries: Vec<Value>,
    pub(crate) passed_over: Vec<Finding>,
    seen: BTreeSet<BlobDigest>,
}

/// # Errors
/// `REGISTRY-ANSWER` and its like.
pub(crate) async fn fetch(
    session: &mut Session<'_>,
    kept: &Kept,
    names: &[BlobDigest],
) -> Result<Found, Finding> {
    let mut found = Found::default();
    found.seen.extend(names);
    for name in names {
        let plain = format!("sha256-{}", crypto::hex::encode(name.as_bytes()));
        let listed = match listed(session, &format!("referrers/{name}"), INDEX).await? {
            Some(bytes) => Some(bytes),
            None => listed(session, &format!("manifests/{plain}"), MANIFESTS).await?,
        };
        if let Some(bytes) = listed {
            match attached(&bytes) {
                Ok(Attached::Index(manifests)) => {
                    found.referrers(session, kept, manifests).await?;
                }
                Ok(Attached::Manifest(_)) => found.pass_over(
                    Finding::new("IMAGE-ATTACHED", "a list of referrers that is no index")
                        .expected("an OCI image index"),
                ),
                Err(finding) => found.pass_over(finding),
            }
        }
        for ending in [".sig", ".att"] {
            let tag = format!("{plain}{ending}");
            if let Some(bytes) = listed_by(session, &tag).await? {
                found.tagged(session, kept, &tag, &bytes).await?;
            }
        }
    }
    Ok(found)
}

/// A list, or nothing where the registry has none.
async fn listed(
    session: &mut Session<'_>,
    path: &str,
    accept: &'static str,
) -> Result<Option<Vec<u8>>, Finding> {
    match session.get(path, accept).await? {
        Had::There(answer) => {
            let bytes = answer.whole(largest()).await;
            bytes.map(Some).map_err(|failure| session.failed(failure))
        }
        Had::Absent(_) => Ok(None),
    }
}

async fn listed_by(session: &mut Session<'_>, tag: &str) -> Result<Option<Vec<u8>>, Finding> {
    listed(session, &format!("manifests/{tag}"), MANIFESTS).await
}

impl Found {
    /// Manifests whose subject should be the image: whoever reads them looks.
    async fn referrers(
        &mut self,
        session: &mut Session<'_>,
        kept: &Kept,
        manifests: Vec<Part>,
    ) -> Result<(), Finding> {
        for one in manifests {
            if self.seen.len() > MOST || !self.seen.insert(one.digest) {
                continue;
            }
            // It is listed by the registry or by whoever moved the tag: it may be gone, or be something else.
            let bytes = match manifest(session, kept, &one.digest).await {
                Ok(bytes) => bytes,
                Err(finding) if is_about_content(&finding) => {
                    self.pass_over(finding);
                    continue;
                }
                Err(finding) => return Err(finding),
            };
            if self.parts(session, kept, &bytes).await? {
                self.entries.push(entry(&one.digest, &bytes, None));
            }
        }
        Ok(())
    }

    /// The manifest that a tag of cosign's names today.
    async fn tagged(
        &mut self,
        session: &mut Session<'_>,
        kept: &Kept,
        tag: &str,
        bytes: &[u8],
    ) -> Result<(), Finding> {
        let digest = BlobDigest::new(crypto::sha256(bytes));
        if self.parts(session, kept, bytes).await? {
            kept.keep(&digest, bytes)?;
            self.entries.push(entry(&digest, bytes, Some(tag)));
        }
        Ok(())
    }

    /// Fetches what a manifest consists of; whether that could be had.
    async fn parts(
        &mut self,
        session: &mut Session<'_>,
        kept: &Kept,
        bytes: &[u8],
    ) -> Result<bool, Finding> {
        let parts = match attached(bytes) {
            Ok(Attached::Manifest(parts)) => parts,
            Ok(Attached::Index(_)) => {
                self.pass_over(
                    Finding::new("IMAGE-ATTACHED", "an index is attached to the image")
                        .expected("a manifest with a signature or an attestation"),
                );
                return Ok(false);
            }
            Err(finding) => {
                self.pass_over(finding);
                return Ok(false);
            }
        };
        for part in &parts {
            if part.size > LARGEST_MANIFEST {
                self.pass_over(other(&format!("{} of {} bytes", part.digest, part.size)));
                return Ok(false);
            }
            match blob(session, kept, part).await {
                Ok(()) => {}
                Err(finding) if is_about_content(&finding) => {
                    self.pass_over(finding);
                    return Ok(false);
                }
                Err(finding) => return Err(finding),
            }
        }
        Ok(true)
    }

    fn pass_over(&mut self, finding: Finding) {
        if self.passed_over.len() < MOST {
            self.passed_over.push(finding);
        }
    }
}

/// What whoever attached something can bring about, and not whoever is on the way.
fn is_about_content(finding: &Finding) -> bool {
    ["REGISTRY-DIGEST", "REGISTRY-SIZE", "REGISTRY-MISSING"].contains(&finding.code.as_ref())
}
