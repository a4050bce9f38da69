//! From what the estate declares to what the verifiers take.

use attest_tee::snp::{self, Generation, Policy, Tcb};
use attest_tee::{Code, Revocation, intel, nitro, sgx, tdx};
use estate::{
    GuestPolicyBit, NitroReference, PlatformBit, SgxBy, SgxReference, SnpBy, SnpPolicy,
    SnpReference, TcbStatus, TdxReference, TeeGeneration, TeeRevocation, TeeRoot,
};
use facts::Finding;
use std::collections::BTreeSet;

/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub fn snp(terms: &SnpReference, root: Option<&TeeRoot>) -> Result<snp::References, Finding> {
    let roots = match root {
        None => snp::Roots::amd()?,
        Some(root) => {
            let mut roots = snp::Roots::default();
            if let Some(of) = root.generation {
                roots.add(generation(of), &root.pem)?;
            }
            roots
        }
    };
    let images = terms.images.as_ref().map(|images| {
        let images = images.iter().map(|image| snp::Image {
            name: image.name.clone(),
            by: match image.by {
                SnpBy::Measurement(digest) => snp::By::Measurement(digest),
                SnpBy::IdKey(digest) => snp::By::IdKey(digest),
                SnpBy::AuthorKey(digest) => snp::By::AuthorKey(digest),
            },
            minimum_svn: image.minimum_svn,
            family_id: image.family_id,
            image_id: image.image_id,
            host_data: image.host_data,
        });
        Code::Listed(images.collect())
    });
    let floors = terms.floors.iter().map(|(of, parts)| {
        let [fmc, bootloader, tee, snp, microcode] = *parts;
        let floor = Tcb {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        };
        (generation(*of), floor)
    });
    Ok(snp::References {
        roots,
        revocation: match terms.revocation {
            TeeRevocation::Required => Revocation::Required,
            TeeRevocation::IfPresent => Revocation::IfPresent,
        },
        generations: floors.collect(),
        code: images.unwrap_or(Code::LeftToPolicy),
        policy: policy(&terms.policy),
    })
}

fn policy(declared: &SnpPolicy) -> Policy {
    let bits = |list: &[GuestPolicyBit]| list.iter().fold(0, |bits, one| bits | guest(*one));
    let default = Policy::default();
    let platform = declared.platform.iter();
    Policy {
        forbidden: declared
            .forbidden
            .as_deref()
            .map_or(default.forbidden, bits),
        required: bits(&declared.required),
        platform: platform.fold(0, |bits, one| bits | host(*one)),
        vmpl: u32::from(declared.vmpl),
    }
}

const fn guest(bit: GuestPolicyBit) -> u64 {
    match bit {
        GuestPolicyBit::Smt => Policy::SMT,
        GuestPolicyBit::Migration => Policy::MIGRATION,
        GuestPolicyBit::SingleSocket => Policy::SINGLE_SOCKET,
        GuestPolicyBit::Cxl => Policy::CXL,
        GuestPolicyBit::Aes256Xts => Policy::AES_256_XTS,
        GuestPolicyBit::RaplDisabled => Policy::RAPL_DISABLED,
        GuestPolicyBit::CiphertextHiding => Policy::CIPHERTEXT_HIDING,
        GuestPolicyBit::PageSwapDisabled => Policy::PAGE_SWAP_DISABLED,
    }
}

const fn host(bit: PlatformBit) -> u64 {
    match bit {
        PlatformBit::Tsme => Policy::PLATFORM_TSME,
        PlatformBit::Ecc => Policy::PLATFORM_ECC,
        PlatformBit::RaplDisabled => Policy::PLATFORM_RAPL_DISABLED,
        PlatformBit::CiphertextHiding => Policy::PLATFORM_CIPHERTEXT_HIDING,
        PlatformBit::AliasChecked => Policy::PLATFORM_ALIAS_CHECKED,
    }
}

const fn generation(declared: TeeGeneration) -> Generation {
    match declared {
        TeeGeneration::Milan => Generation::Milan,
        TeeGeneration::Genoa => Generation::Genoa,
        TeeGeneration::Turin => Generation::Turin,
    }
}

/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub fn tdx(terms: &TdxReference, root: Option<&TeeRoot>) -> Result<tdx::References, Finding> {
    let images = terms.images.as_ref().map(|images| {
        let images = images.iter().map(|image| tdx::Image {
            name: image.name.clone(),
            mr_td: image.mrtd,
            rtmr: image.rtmr,
            mr_config_id: image.host_data,
        });
        Code::Listed(images.collect())
    });
    Ok(tdx::References {
        roots: intel_roots(root)?,
        tcb: tcb(terms.statuses.as_ref(), terms.minimum_evaluation),
        code: images.unwrap_or(Code::LeftToPolicy),
        ..tdx::References::default()
    })
}

fn intel_roots(root: Option<&TeeRoot>) -> Result<intel::Roots, Finding> {
    match root {
        None => intel::Roots::intel(),
        Some(root) => intel::Roots::from_pem(&root.pem),
    }
}

fn tcb(statuses: Option<&BTreeSet<TcbStatus>>, minimum_evaluation: u32) -> intel::TcbPolicy {
    let default = intel::TcbPolicy::default();
    intel::TcbPolicy {
        accepted: statuses.map_or(default.accepted, |statuses| {
            statuses.iter().map(|one| status(*one)).collect()
        }),
        minimum_evaluation,
    }
}

/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub fn sgx(terms: &SgxReference, root: Option<&TeeRoot>) -> Result<sgx::References, Finding> {
    let images = terms.images.iter().map(|image| sgx::Image {
        name: image.name.clone(),
        by: match image.by {
            SgxBy::Measurement(measurement) => sgx::By::Measurement(measurement),
            SgxBy::Signer { signer, product } => sgx::By::Signer { signer, product },
        },
        minimum_svn: image.minimum_svn,
    });
    Ok(sgx::References {
        roots: intel_roots(root)?,
        tcb: tcb(terms.statuses.as_ref(), terms.minimum_evaluation),
        code: Code::Listed(images.collect()),
    })
}

/// As [`nitro`], of enclaves: what is not listed is never left to policy.
///
/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub fn nitro_enclave(
    terms: &NitroReference,
    root: Option<&TeeRoot>,
) -> Result<nitro::References, Finding> {
    let references = nitro(terms, root)?;
    Ok(nitro::References {
        code: match references.code {
            Code::LeftToPolicy => Code::default(),
            listed @ Code::Listed(_) => listed,
        },
        ..references
    })
}

/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub fn nitro(terms: &NitroReference, root: Option<&TeeRoot>) -> Result<nitro::References, Finding> {
    let images = terms.images.as_ref().map(|images| {
        let images = images.iter().map(|image| nitro::Image {
            name: image.name.clone(),
            pcrs: image.pcrs.clone(),
        });
        Code::Listed(images.collect())
    });
    Ok(nitro::References {
        roots: match root {
            None => nitro::Roots::aws()?,
            Some(root) => nitro::Roots::from_pem(&root.pem)?,
        },
        code: images.unwrap_or(Code::LeftToPolicy),
    })
}

const fn status(declared: TcbStatus) -> intel::TcbStatus {
    match declared {
        TcbStatus::UpToDate => intel::TcbStatus::UpToDate,
        TcbStatus::SWHardeningNeeded => intel::TcbStatus::SWHardeningNeeded,
        TcbStatus::ConfigurationNeeded => intel::TcbStatus::ConfigurationNeeded,
        TcbStatus::ConfigurationAndSWHardeningNeeded => {
            intel::TcbStatus::ConfigurationAndSWHardeningNeeded
        }
        TcbStatus::TDRelaunchAdvised => intel::TcbStatus::TDRelaunchAdvised,
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded => {
            intel::TcbStatus::TDRelaunchAdvisedConfigurationNeeded
        }
        TcbStatus::OutOfDate => intel::TcbStatus::OutOfDate,
        TcbStatus::OutOfDateConfigurationNeeded => intel::TcbStatus::OutOfDateConfigurationNeeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_the_vendors_mean() {
        for one in [
            TcbStatus::UpToDate,
            TcbStatus::SWHardeningNeeded,
            TcbStatus::ConfigurationNeeded,
            TcbStatus::ConfigurationAndSWHardeningNeeded,
            TcbStatus::TDRelaunchAdvised,
            TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
            TcbStatus::OutOfDate,
            TcbStatus::OutOfDateConfigurationNeeded,
        ] {
            assert_eq!(one.as_str(), status(one).name());
        }
        for one in [
            TeeGeneration::Milan,
            TeeGeneration::Genoa,
            TeeGeneration::Turin,
        ] {
            assert_eq!(one.as_str(), generation(one).name().to_lowercase());
        }
        let declared = SnpPolicy::default();
        assert_eq!(policy(&declared), Policy::default());
        let none = SnpPolicy {
            forbidden: Some(Vec::new()),
            required: vec![GuestPolicyBit::SingleSocket, GuestPolicyBit::Aes256Xts],
            ..SnpPolicy::default()
        };
        assert_eq!(policy(&none).forbidden, 0);
        assert_eq!(
            policy(&none).required,
            Policy::SINGLE_SOCKET | Policy::AES_256_XTS
        );
    }
}
