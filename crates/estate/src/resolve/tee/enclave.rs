//! `references/`: what enclaves have to show, which join by that alone: each is known, and placed, by what runs in it.

use super::{ESTATE_TEE, hex, images, is_of_machines, name, nothing_of_snp};
use crate::declare::{TeeEntry, TeeImageEntry};
use crate::model::{NitroReference, SgxBy, SgxImage, SgxReference};
use crate::resolve::Source;

/// The image, and who signed it.
const SAYS_WHAT_RUNS: [u8; 2] = [0, 8];

pub(super) fn nitro(source: &mut Source<'_>, entry: &TeeEntry) -> Option<NitroReference> {
    is_placed(source, entry);
    let nitro = super::nitro(source, entry)?;
    let images = nitro.images.iter().flatten().zip(&entry.images);
    for (image, declared) in images {
        if !SAYS_WHAT_RUNS
            .iter()
            .any(|pcr| image.pcrs.contains_key(pcr))
        {
            let message = "an enclave is known by what runs in it: list PCR `0`, the image, or `8`, who signed it";
            source.problem(ESTATE_TEE, &declared.name, message);
        }
        if image.pcrs.values().any(|value| *value == [0; 48]) {
            let message = "a register of zeros is that of an enclave in debug mode, or of none";
            source.problem(ESTATE_TEE, &declared.name, message);
        }
    }
    Some(nitro)
}

pub(super) fn sgx(source: &mut Source<'_>, entry: &TeeEntry) -> Option<SgxReference> {
    is_placed(source, entry);
    nothing_of_snp(source, entry);
    let images = images(source, entry, sgx_image)?;
    let statuses = entry.tcb_status.as_ref();
    Some(SgxReference {
        images,
        statuses: statuses.map(|statuses| statuses.iter().copied().collect()),
        minimum_evaluation: entry.minimum_evaluation.unwrap_or(0),
    })
}

/// No key says whose an enclave is, and anybody may start one: a pool and a list are all that there is.
fn is_placed(source: &mut Source<'_>, entry: &TeeEntry) {
    if entry.any_image {
        let message =
            "an enclave is known by what runs in it alone: list each that may run as an `image`";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
    if entry.pool.is_none() {
        let message = "name the `pool` that enclaves stand in which are an `image` of it";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
}

/// Whether the image is named as those of SGX are.
pub(super) fn is_named(image: &TeeImageEntry) -> bool {
    image.mrenclave.is_some() || image.mrsigner.is_some() || image.product.is_some()
}

fn sgx_image(source: &mut Source<'_>, image: &TeeImageEntry) -> Option<SgxImage> {
    name(source, image);
    let minimum_svn = u16::try_from(image.minimum_svn.unwrap_or(0));
    let ways = (&image.mrenclave, &image.mrsigner, image.product);
    let by = match ways {
        (Some(_), None, None) => SgxBy::Measurement(hex(source, image.mrenclave.as_ref())??),
        (None, Some(_), Some(product)) => SgxBy::Signer {
            signer: hex(source, image.mrsigner.as_ref())??,
            product,
        },
        _ => return wrong(source, image),
    };
    let Ok(minimum_svn) = minimum_svn else {
        return wrong(source, image);
    };
    if is_of_machines(image) || !image.pcrs.is_empty() {
        return wrong(source, image);
    }
    Some(SgxImage {
        name: image.name.get_ref().clone(),
        by,
        minimum_svn,
    })
}

fn wrong(source: &mut Source<'_>, image: &TeeImageEntry) -> Option<SgxImage> {
    let message = "an image of SGX has an `mrenclave`, or `mrsigner` and `product`, a `minimum_svn` of at most 65535, \
                   and nothing else";
    source.problem(ESTATE_TEE, &image.name, message);
    None
}
