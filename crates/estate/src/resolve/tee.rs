//! `references/`: what confidential machines have to show. Certificates are not parsed here.

mod enclave;

use super::{Seen, Source};
use crate::declare::{ReferencesFile, TeeEntry, TeeImageEntry, TeeKind, TeeRootEntry};
use crate::model::{
    NitroImage, NitroReference, References, SnpBy, SnpImage, SnpPolicy, SnpReference, TdxImage,
    TdxReference, TeeReference, TeeRoot, TeeTerms,
};
use std::collections::BTreeMap;
use toml::Spanned;

const ESTATE_TEE: &str = "ESTATE-TEE";

pub(super) fn roots(
    source: &mut Source<'_>,
    declared: &ReferencesFile,
    seen: &mut Seen,
    references: &mut References,
) {
    for entry in &declared.tee_roots {
        let name = entry.name.get_ref();
        source.check_word("TEE root", &entry.name);
        if TeeKind::ALL.map(TeeKind::vendor).contains(&name.as_str()) {
            let message = format!("`{name}` is what the vendor's own roots are called");
            source.problem(ESTATE_TEE, &entry.name, message);
        }
        if !seen.first(source, "TEE root", format!("tee root {name}"), &entry.name) {
            continue;
        }
        if let Some(root) = root(source, entry) {
            references.tee_roots.insert(name.clone(), root);
        }
    }
}

fn root(source: &mut Source<'_>, entry: &TeeRootEntry) -> Option<TeeRoot> {
    if !entry.pem.get_ref().contains("-----BEGIN CERTIFICATE-----") {
        source.problem(ESTATE_TEE, &entry.pem, "expected a certificate in PEM");
    }
    if entry.kind.hardware() != entry.kind {
        let message = format!(
            "a root is of hardware, here `{}`: what runs on it has none of its own",
            entry.kind.hardware().as_str()
        );
        source.problem(ESTATE_TEE, &entry.name, message);
        return None;
    }
    if (entry.kind == TeeKind::SevSnp) != entry.generation.is_some() {
        let message = "a root of SEV-SNP is for one `generation`, any other for none";
        source.problem(ESTATE_TEE, &entry.name, message);
        return None;
    }
    Some(TeeRoot {
        name: entry.name.get_ref().clone(),
        kind: entry.kind,
        generation: entry.generation,
        pem: entry.pem.get_ref().clone(),
    })
}

/// After all roots and pools are known.
pub(super) fn resolve(
    source: &mut Source<'_>,
    declared: &ReferencesFile,
    seen: &mut Seen,
    references: &mut References,
) {
    for entry in &declared.tees {
        if let Some(pool) = &entry.pool
            && !references.pools.contains(pool.get_ref())
        {
            let message = format!("no pool `{}` is declared", pool.get_ref());
            let known = references.pools.iter().map(String::as_str);
            source.unknown("ESTATE-POOL", pool, message, known);
        }
        let key = format!("tee {} {}", entry.kind.get_ref(), pool(entry));
        if !seen.first(source, "what the pool has to show", key, &entry.kind) {
            continue;
        }
        if let Some(reference) = reference(source, entry, references) {
            references.tees.push(reference);
        }
    }
}

/// Empty for the machines in none.
fn pool(entry: &TeeEntry) -> &str {
    entry.pool.as_ref().map_or("", |pool| pool.get_ref())
}

fn reference(
    source: &mut Source<'_>,
    entry: &TeeEntry,
    references: &References,
) -> Option<TeeReference> {
    let kind = *entry.kind.get_ref();
    if let Some(root) = &entry.root {
        let roots = &references.tee_roots;
        let fits = roots
            .get(root.get_ref())
            .map(|one| one.kind == kind.hardware());
        if fits != Some(true) {
            let kind = kind.hardware().as_str();
            let message = format!("no `tee_root` for {kind} is called `{}`", root.get_ref());
            source.unknown(ESTATE_TEE, root, message, roots.keys().map(String::as_str));
        }
    }
    if entry.any_image != entry.images.is_empty() {
        let message = "either list an `image`, or leave images to policy with `any_image = true`";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
    let terms = match kind {
        TeeKind::SevSnp => TeeTerms::SevSnp(snp(source, entry)?),
        TeeKind::Tdx => TeeTerms::Tdx(tdx(source, entry)?),
        TeeKind::AzureSnp => {
            only_a_paravisor(source, entry);
            TeeTerms::AzureSnp(snp(source, entry)?)
        }
        TeeKind::AzureTdx => {
            only_a_paravisor(source, entry);
            TeeTerms::AzureTdx(tdx(source, entry)?)
        }
        TeeKind::NitroTpm => TeeTerms::NitroTpm(nitro(source, entry)?),
        TeeKind::Nitro => TeeTerms::Nitro(enclave::nitro(source, entry)?),
        TeeKind::Sgx => TeeTerms::Sgx(enclave::sgx(source, entry)?),
    };
    Some(TeeReference {
        pool: pool(entry).to_owned(),
        require: entry.require,
        root: entry.root.as_ref().map(|root| root.get_ref().clone()),
        terms,
    })
}

/// A paravisor vouches for keys: one that nobody listed, or whoever else may ask the same hardware beside it,
/// would vouch for any.
fn only_a_paravisor(source: &mut Source<'_>, entry: &TeeEntry) {
    if entry.any_image {
        let message = "a paravisor vouches for keys: list each that may run as an `image`";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
    if entry.policy.as_ref().is_some_and(|policy| policy.vmpl != 0) {
        let message = "a paravisor asks at `vmpl` 0; the guest above it speaks for itself alone";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
}

fn snp(source: &mut Source<'_>, entry: &TeeEntry) -> Option<SnpReference> {
    if entry.tcb_status.is_some() || entry.minimum_evaluation.is_some() {
        let message = "`tcb_status` and `minimum_evaluation` are of TDX and SGX";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
    if entry.floors.is_empty() {
        let message = "name each generation that is accepted, with its least TCB: `[[tee.floor]]`";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
    let mut floors = BTreeMap::new();
    for floor in &entry.floors {
        let parts = [
            floor.fmc,
            floor.bootloader,
            floor.tee,
            floor.snp,
            floor.microcode,
        ];
        let generation = *floor.generation.get_ref();
        if floors.insert(generation, parts).is_some() {
            let message = format!("`{}` has a floor already", generation.as_str());
            source.problem("ESTATE-DUPLICATE", &floor.generation, message);
        }
    }
    let images = images(source, entry, snp_image)?;
    let policy = entry.policy.as_ref();
    if policy.is_some_and(|policy| policy.vmpl > 3) {
        source.problem(ESTATE_TEE, &entry.kind, "`vmpl` is 0 to 3");
    }
    Some(SnpReference {
        images: (!entry.any_image).then_some(images),
        floors,
        revocation: entry.revocation.unwrap_or_default(),
        policy: policy.map_or_else(SnpPolicy::default, |policy| SnpPolicy {
            forbidden: policy.forbidden.clone(),
            required: policy.required.clone(),
            platform: policy.platform.clone(),
            vmpl: policy.vmpl,
        }),
    })
}

fn snp_image(source: &mut Source<'_>, image: &TeeImageEntry) -> Option<SnpImage> {
    name(source, image);
    let tdx = [
        &image.mrtd,
        &image.rtmr0,
        &image.rtmr1,
        &image.rtmr2,
        &image.rtmr3,
    ];
    let ways = [&image.measurement, &image.id_key, &image.author_key];
    let way = ways.iter().position(|way| way.is_some());
    if tdx.iter().any(|field| field.is_some())
        || enclave::is_named(image)
        || !image.pcrs.is_empty()
        || ways.iter().flat_map(|way| way.iter()).count() != 1
    {
        let message = "an image of SEV-SNP has one of `measurement`, `id_key` and `author_key`";
        source.problem(ESTATE_TEE, &image.name, message);
        return None;
    }
    let by = match way {
        Some(0) => SnpBy::Measurement(hex(source, image.measurement.as_ref())??),
        Some(1) => SnpBy::IdKey(hex(source, image.id_key.as_ref())??),
        _ => SnpBy::AuthorKey(hex(source, image.author_key.as_ref())??),
    };
    Some(SnpImage {
        name: image.name.get_ref().clone(),
        by,
        minimum_svn: image.minimum_svn.unwrap_or(0),
        family_id: hex(source, image.family_id.as_ref())?,
        image_id: hex(source, image.image_id.as_ref())?,
        host_data: hex(source, image.host_data.as_ref())?,
    })
}

fn tdx(source: &mut Source<'_>, entry: &TeeEntry) -> Option<TdxReference> {
    nothing_of_snp(source, entry);
    let images = images(source, entry, tdx_image)?;
    let statuses = entry.tcb_status.as_ref();
    Some(TdxReference {
        images: (!entry.any_image).then_some(images),
        statuses: statuses.map(|statuses| statuses.iter().copied().collect()),
        minimum_evaluation: entry.minimum_evaluation.unwrap_or(0),
    })
}

fn tdx_image(source: &mut Source<'_>, image: &TeeImageEntry) -> Option<TdxImage> {
    name(source, image);
    let snp = [
        &image.measurement,
        &image.id_key,
        &image.author_key,
        &image.family_id,
        &image.image_id,
    ];
    if snp.iter().any(|field| field.is_some())
        || image.minimum_svn.is_some()
        || enclave::is_named(image)
        || !image.pcrs.is_empty()
        || image.mrtd.is_none()
    {
        let message = "an image of TDX has an `mrtd`, and none of what SEV-SNP measures";
        source.problem(ESTATE_TEE, &image.name, message);
        return None;
    }
    Some(TdxImage {
        name: image.name.get_ref().clone(),
        mrtd: hex(source, image.mrtd.as_ref())??,
        rtmr: [
            hex(source, image.rtmr0.as_ref())?,
            hex(source, image.rtmr1.as_ref())?,
            hex(source, image.rtmr2.as_ref())?,
            hex(source, image.rtmr3.as_ref())?,
        ],
        host_data: hex(source, image.host_data.as_ref())?,
    })
}

fn nitro(source: &mut Source<'_>, entry: &TeeEntry) -> Option<NitroReference> {
    let snp = !entry.floors.is_empty() || entry.revocation.is_some() || entry.policy.is_some();
    if snp || entry.tcb_status.is_some() || entry.minimum_evaluation.is_some() {
        let message = "Nitro has neither a TCB nor a `policy`: it has `image`s";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
    let images = images(source, entry, nitro_image)?;
    Some(NitroReference {
        images: (!entry.any_image).then_some(images),
    })
}

fn nitro_image(source: &mut Source<'_>, image: &TeeImageEntry) -> Option<NitroImage> {
    name(source, image);
    if is_of_machines(image)
        || image.minimum_svn.is_some()
        || enclave::is_named(image)
        || image.pcrs.is_empty()
    {
        let message = "an image of Nitro has `pcrs`, and nothing else";
        source.problem(ESTATE_TEE, &image.name, message);
        return None;
    }
    let mut pcrs = BTreeMap::new();
    for (number, digest) in &image.pcrs {
        let known = number.parse().ok().filter(|number| *number < 24);
        let Some(known) = known else {
            let message = format!("there is no register `{number}`: 0 to 23");
            source.problem(ESTATE_TEE, digest, message);
            return None;
        };
        pcrs.insert(known, hex(source, Some(digest))??);
    }
    Some(NitroImage {
        name: image.name.get_ref().clone(),
        pcrs,
    })
}

/// Each image, so that all problems are told.
fn images<T>(
    source: &mut Source<'_>,
    entry: &TeeEntry,
    read: fn(&mut Source<'_>, &TeeImageEntry) -> Option<T>,
) -> Option<Vec<T>> {
    let images: Vec<_> = entry
        .images
        .iter()
        .map(|image| read(source, image))
        .collect();
    images.into_iter().collect()
}

fn nothing_of_snp(source: &mut Source<'_>, entry: &TeeEntry) {
    if !entry.floors.is_empty() || entry.revocation.is_some() || entry.policy.is_some() {
        let message = "`floor`, `revocation` and `policy` are of SEV-SNP";
        source.problem(ESTATE_TEE, &entry.kind, message);
    }
}

/// Whether it has what is measured of SEV-SNP or TDX.
fn is_of_machines(image: &TeeImageEntry) -> bool {
    [
        &image.measurement,
        &image.id_key,
        &image.author_key,
        &image.family_id,
        &image.image_id,
        &image.host_data,
        &image.mrtd,
        &image.rtmr0,
        &image.rtmr1,
        &image.rtmr2,
        &image.rtmr3,
    ]
    .iter()
    .any(|field| field.is_some())
}

fn name(source: &mut Source<'_>, image: &TeeImageEntry) {
    source.check_word("image", &image.name);
}

/// `N` bytes, if they are given; nothing and a problem if they are not that.
fn hex<const N: usize>(
    source: &mut Source<'_>,
    text: Option<&Spanned<String>>,
) -> Option<Option<[u8; N]>> {
    let Some(text) = text else {
        return Some(None);
    };
    let bytes = crypto::hex::decode(text.get_ref()).ok();
    let bytes: Option<[u8; N]> = bytes.and_then(|bytes| bytes.try_into().ok());
    if bytes.is_none() {
        let message = format!("expected {} hexadecimal digits", N * 2);
        source.problem("ESTATE-DIGEST", text, message);
        return None;
    }
    Some(bytes)
}
