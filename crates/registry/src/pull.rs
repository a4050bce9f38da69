//! One image, from its digest to a layout on disk.

use crate::attachments;
use crate::configuration::Registries;
use crate::kept::Kept;
use crate::reference::Reference;
use crate::session::{Had, Session, other};
use attest_code::image::{self, BlobDigest, Part, Platform, Wanted};
use facts::Finding;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// "A registry SHOULD enforce some limit … at least 4 MiB": the verifier reads no larger manifest.
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;
pub(crate) const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";
const ANYTHING: &str = "*/*";

/// An image that is here.
#[derive(Debug)]
pub struct Pulled {
    /// As the `index.json` of a layout: the image, and what is attached to it.
    pub index: Vec<u8>,
    /// Where its blobs are: `blobs/sha256/<hex>`, each of which is to be hashed by who reads it.
    pub folder: PathBuf,
    /// What is attached and could not be had.
    pub passed_over: Vec<Finding>,
}

/// Pulls the image into `folder`, with every layer, and the signatures and attestations that are attached to it or
/// to the index that it was named by. What is there already is not fetched again. `told` hears what is being done.
///
/// # Errors
/// `REGISTRY-…`, and what `attest_code` finds in manifests.
pub async fn pull(
    registries: &Registries,
    reference: &Reference,
    platform: &Platform,
    folder: &Path,
    told: &(dyn Fn(&str) + Sync),
) -> Result<Pulled, Finding> {
    let timeout = registries.timeout;
    let pulled = whole(registries, reference, platform, folder, told);
    tokio::time::timeout(timeout, pulled).await.map_err(|_| {
        Finding::new("REGISTRY-TIMEOUT", "the image is not here in time")
            .expected(format!("{reference} within {} s", timeout.as_secs()))
            .next("pull again, which goes on with what lacks; or raise `timeout_s` of the registries' file")
    })?
}

async fn whole(
    registries: &Registries,
    reference: &Reference,
    platform: &Platform,
    folder: &Path,
    told: &(dyn Fn(&str) + Sync),
) -> Result<Pulled, Finding> {
    let registry = registries.named(reference.host())?;
    let kept = Kept::open(folder)?;
    let mut session = Session::new(registry, reference);
    let blobs = |digest: &BlobDigest| kept.small(digest, LARGEST_MANIFEST).map(Cow::Owned);
    let (names, parts) = loop {
        match image::wanted(&blobs, reference.digest(), platform)? {
            Wanted::Rest { names, parts } => break (names, parts),
            Wanted::Manifest(digest) => {
                told(&format!("manifest {digest}"));
                manifest(&mut session, &kept, &digest).await?;
            }
        }
    };
    within(&session, &parts, registries.most_bytes)?;
    let count = parts.len();
    for (number, part) in parts.iter().enumerate() {
        told(&format!(
            "blob {} of {count}: {} of {} bytes",
            number + 1,
            part.digest,
            part.size
        ));
        blob(&mut session, &kept, part).await?;
    }
    told("what is attached");
    let found = attachments::fetch(&mut session, &kept, &names).await?;
    let mut entries: Vec<Value> = names
        .iter()
        .filter_map(|name| {
            let bytes = kept.small(name, LARGEST_MANIFEST)?;
            Some(entry(name, &bytes, None))
        })
        .collect();
    entries.extend(found.entries);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    });
    Ok(Pulled {
        index: index.to_string().into_bytes(),
        folder: folder.to_owned(),
        passed_over: found.passed_over,
    })
}

/// Of an index: the manifest that these bytes are, under a tag if it has one.
pub(crate) fn entry(digest: &BlobDigest, bytes: &[u8], tag: Option<&str>) -> Value {
    let document: Option<Value> = serde_json::from_slice(bytes).ok();
    let stated = document
        .as_ref()
        .and_then(|it| it.get("mediaType")?.as_str());
    let is_index = document
        .as_ref()
        .is_some_and(|it| it.get("manifests").is_some());
    let media_type = stated.unwrap_or(if is_index {
        "application/vnd.oci.image.index.v1+json"
    } else {
        "application/vnd.oci.image.manifest.v1+json"
    });
    let mut entry = json!({
        "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len(),
    });
    if let (Some(tag), Some(entry)) = (tag, entry.as_object_mut()) {
        let annotations = json!({ "org.opencontainers.image.ref.name": tag });
        entry.insert("annotations".to_owned(), annotations);
    }
    entry
}

/// The sizes that manifests say, before anything is fetched by them.
fn within(session: &Session<'_>, parts: &[Part], most: u64) -> Result<(), Finding> {
    let distinct: BTreeSet<(BlobDigest, u64)> =
        parts.iter().map(|part| (part.digest, part.size)).collect();
    let sizes = distinct.iter().map(|(_, size)| *size);
    let total = sizes.fold(0_u64, u64::saturating_add);
    if total > most {
        return Err(session.too_long(&format!("an image of {total} bytes; most_bytes = {most}")));
    }
    Ok(())
}

/// Fetches a manifest by its digest, and keeps it.
pub(crate) async fn manifest(
    session: &mut Session<'_>,
    kept: &Kept,
    digest: &BlobDigest,
) -> Result<Vec<u8>, Finding> {
    if let Some(bytes) = kept.small(digest, LARGEST_MANIFEST) {
        return Ok(bytes);
    }
    let path = format!("manifests/{digest}");
    let bytes = match session.get(&path, MANIFESTS).await? {
        Had::There(answer) => answer.whole(largest()).await,
        Had::Absent(status) => return Err(absent(digest, status)),
    };
    let bytes = bytes.map_err(|failure| session.failed(failure))?;
    let found = BlobDigest::new(crypto::sha256(&bytes));
    if found != *digest {
        return Err(other(&format!("{found} for {digest}")));
    }
    kept.keep(digest, &bytes)?;
    Ok(bytes)
}

/// Fetches a blob of its size, unless it is here.
pub(crate) async fn blob(
    session: &mut Session<'_>,
    kept: &Kept,
    part: &Part,
) -> Result<(), Finding> {
    let (digest, size) = (part.digest, part.size);
    let here = kept.clone();
    let hashed = tokio::task::spawn_blocking(move || here.has(&digest, size));
    // It is fetched again where it could not be looked at.
    if hashed.await.unwrap_or(false) {
        return Ok(());
    }
    let path = format!("blobs/{digest}");
    let answer = match session.get(&path, ANYTHING).await? {
        Had::There(answer) => answer,
        Had::Absent(status) => return Err(absent(&digest, status)),
    };
    let (file, unfinished) = kept.begin(&digest)?;
    let mut file = tokio::fs::File::from_std(file);
    let written = answer.write(&mut file, digest, size).await;
    written.map_err(|failure| session.failed(failure))?;
    drop(file.into_std().await);
    unfinished.finish()
}

pub(crate) fn largest() -> usize {
    usize::try_from(LARGEST_MANIFEST).unwrap_or(usize::MAX)
}

fn absent(digest: &BlobDigest, status: http::StatusCode) -> Finding {
    Finding::new(
        "REGISTRY-MISSING",
        "the registry does not have a part of the image",
    )
    .expected(digest.to_string())
    .observed(status.to_string())
    .next("look whether the image is there by this name and digest, and was pushed whole")
}
