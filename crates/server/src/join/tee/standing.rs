//! What a newer estate makes of evidence that was judged before it: by the facts that stand, at once; what they do
//! not say (the launch TCB, bits of policy) is judged again with the next renewal.

use estate::{
    NitroReference, References, SgxBy, SgxReference, SnpBy, SnpReference, TcbStatus, TdxReference,
    TeeReference, TeeRevocation, TeeTerms,
};
use facts::{FactSet, Value, names};
use std::collections::BTreeSet;

/// What is left of a machine's evidence under `references`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is as asked, or nothing is asked and nothing was shown.
    Good,
    /// The estate does not speak of it any more, or not so: it counts for nothing, and nothing is asked.
    Forgotten,
    /// It is asked, and not there or not good enough.
    Lacking,
}

/// How a machine of `ring` with `facts` stands.
pub(crate) fn stands(references: &References, ring: &str, facts: &FactSet) -> Standing {
    let mut asked = references.tees_of(ring);
    let required = references.tees_of(ring).any(|one| one.require);
    let Some(kind) = facts.text(names::MACHINE_TEE_KIND) else {
        return if required {
            Standing::Lacking
        } else {
            Standing::Good
        };
    };
    match asked.find(|one| one.kind().as_str() == kind) {
        Some(reference) if holds(reference, facts) => Standing::Good,
        _ if required => Standing::Lacking,
        _ => Standing::Forgotten,
    }
}

fn holds(reference: &TeeReference, facts: &FactSet) -> bool {
    let root = facts.text(names::MACHINE_TEE_ROOT) == Some(reference.root_name());
    root && match &reference.terms {
        TeeTerms::SevSnp(terms) | TeeTerms::AzureSnp(terms) => snp(terms, facts),
        TeeTerms::Tdx(terms) | TeeTerms::AzureTdx(terms) => tdx(terms, facts),
        TeeTerms::NitroTpm(terms) => nitro(terms, facts),
        TeeTerms::Nitro(terms) => enclave(terms, facts),
        TeeTerms::Sgx(terms) => sgx(terms, facts),
    }
}

fn snp(terms: &SnpReference, facts: &FactSet) -> bool {
    let generation = facts.text(names::MACHINE_TEE_GENERATION);
    let floor = terms
        .floors
        .iter()
        .find(|(of, _)| Some(of.as_str()) == generation);
    let parts = [
        names::MACHINE_TEE_TCB_FMC,
        names::MACHINE_TEE_TCB_BOOTLOADER,
        names::MACHINE_TEE_TCB_TEE,
        names::MACHINE_TEE_TCB_SNP,
        names::MACHINE_TEE_TCB_MICROCODE,
    ];
    let new_enough = floor.is_some_and(|(_, floor)| {
        let reported = parts.iter().map(|name| number(facts, name));
        reported
            .zip(floor)
            .all(|(reported, least)| reported.is_some_and(|it| it >= i64::from(*least)))
    });
    let listed = terms.images.as_ref().is_none_or(|images| {
        images.iter().any(|image| {
            let is = |name, digest: &[u8]| {
                facts.text(name) == Some(crypto::hex::encode(digest).as_str())
            };
            let by = match &image.by {
                SnpBy::Measurement(digest) => is(names::MACHINE_TEE_MEASUREMENT, digest),
                SnpBy::IdKey(digest) => is(names::MACHINE_TEE_SIGNER, digest),
                SnpBy::AuthorKey(digest) => is(names::MACHINE_TEE_AUTHOR, digest),
            };
            by && called(facts, &image.name)
                && number(facts, names::MACHINE_TEE_SVN)
                    .is_some_and(|svn| svn >= i64::from(image.minimum_svn))
                && image
                    .host_data
                    .is_none_or(|data| is(names::MACHINE_TEE_HOST_DATA, &data))
        })
    });
    let checked = terms.revocation == TeeRevocation::IfPresent
        || facts.text(names::MACHINE_TEE_REVOCATION) == Some("checked");
    new_enough && listed && checked
}

/// Whether what Intel said of the platform is accepted.
fn tcb(statuses: Option<&BTreeSet<TcbStatus>>, minimum_evaluation: u32, facts: &FactSet) -> bool {
    let status = facts.text(names::MACHINE_TEE_TCB_STATUS);
    let accepted = match statuses {
        None => status == Some("UpToDate"),
        Some(statuses) => statuses.iter().any(|one| Some(one.as_str()) == status),
    };
    let evaluation = number(facts, names::MACHINE_TEE_TCB_EVALUATION);
    accepted && evaluation.is_some_and(|it| it >= i64::from(minimum_evaluation))
}

fn tdx(terms: &TdxReference, facts: &FactSet) -> bool {
    let registers = [
        names::MACHINE_TEE_RTMR0,
        names::MACHINE_TEE_RTMR1,
        names::MACHINE_TEE_RTMR2,
        names::MACHINE_TEE_RTMR3,
    ];
    let is = |name, digest: &[u8]| facts.text(name) == Some(crypto::hex::encode(digest).as_str());
    let listed = terms.images.as_ref().is_none_or(|images| {
        images.iter().any(|image| {
            let rtmr = registers.iter().zip(&image.rtmr);
            is(names::MACHINE_TEE_MEASUREMENT, &image.mrtd)
                && called(facts, &image.name)
                && rtmr
                    .into_iter()
                    .all(|(name, listed)| listed.is_none_or(|listed| is(name, &listed)))
                && image
                    .host_data
                    .is_none_or(|data| is(names::MACHINE_TEE_HOST_DATA, &data))
        })
    });
    tcb(terms.statuses.as_ref(), terms.minimum_evaluation, facts) && listed
}

fn sgx(terms: &SgxReference, facts: &FactSet) -> bool {
    let is = |name, digest: &[u8]| facts.text(name) == Some(crypto::hex::encode(digest).as_str());
    let mut images = terms.images.iter();
    let listed = images.any(|image| {
        let by = match &image.by {
            SgxBy::Measurement(digest) => is(names::MACHINE_TEE_MEASUREMENT, digest),
            SgxBy::Signer { signer, product } => {
                is(names::MACHINE_TEE_SIGNER, signer)
                    && number(facts, names::MACHINE_TEE_PRODUCT) == Some(i64::from(*product))
            }
        };
        by && called(facts, &image.name)
            && number(facts, names::MACHINE_TEE_SVN)
                .is_some_and(|svn| svn >= i64::from(image.minimum_svn))
    });
    tcb(terms.statuses.as_ref(), terms.minimum_evaluation, facts) && listed
}

/// Of an enclave the facts have the registers that AWS defines; others are judged with the next renewal.
fn enclave(terms: &NitroReference, facts: &FactSet) -> bool {
    let holds = |(index, digest): (&u8, &[u8; 48])| {
        let name = match index {
            0 => names::MACHINE_TEE_MEASUREMENT,
            1 => names::MACHINE_TEE_PCR1,
            2 => names::MACHINE_TEE_PCR2,
            3 => names::MACHINE_TEE_PCR3,
            4 => names::MACHINE_TEE_PCR4,
            8 => names::MACHINE_TEE_SIGNER,
            _ => return true,
        };
        facts.text(name) == Some(crypto::hex::encode(digest).as_str())
    };
    let mut images = terms.images.iter().flatten();
    images.any(|image| called(facts, &image.name) && image.pcrs.iter().all(holds))
}

/// Of its registers the facts have the boot loader's alone; the others are judged with the next renewal.
fn nitro(terms: &NitroReference, facts: &FactSet) -> bool {
    let measured = facts.text(names::MACHINE_TEE_MEASUREMENT);
    let is = |digest: &[u8; 48]| measured == Some(crypto::hex::encode(digest).as_str());
    terms.images.as_ref().is_none_or(|images| {
        images
            .iter()
            .any(|image| called(facts, &image.name) && image.pcrs.get(&4).is_none_or(is))
    })
}

/// Policies speak of images by their names: one that goes by another name now is judged again first.
fn called(facts: &FactSet, name: &str) -> bool {
    facts.text(names::MACHINE_TEE_IMAGE) == Some(name)
}

fn number(facts: &FactSet, name: &str) -> Option<i64> {
    match facts.value(name) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}
