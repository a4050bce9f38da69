//! The public areas that keys are made from. Primary keys are a function of the chip's seed and the
//! template: the same template gives the same key at every start, and nothing has to be stored.

use attest_tpm::POLICY_A;
use tpm2_protocol::TpmResult;
use tpm2_protocol::data::{
    Tpm2bDigest, Tpm2bEccParameter, Tpm2bPublicKeyRsa, TpmAlgId, TpmEccCurve, TpmaObject,
    TpmsEccParms, TpmsEccPoint, TpmsRsaParms, TpmsSchemeHash, TpmtEccScheme, TpmtPublic,
    TpmtSymDefObject, TpmuAsymScheme, TpmuPublicId, TpmuPublicParms, TpmuSymKeyBits, TpmuSymMode,
};

/// Endorsement key, template L-1 of the TCG EK Credential Profile, section B.3.3: RSA 2048.
///
/// # Errors
/// None in practice: the constants fit.
pub fn rsa_endorsement() -> TpmResult<TpmtPublic> {
    Ok(TpmtPublic {
        object_type: TpmAlgId::Rsa,
        parameters: TpmuPublicParms::Rsa(TpmsRsaParms {
            symmetric: aes_128_cfb(),
            scheme: tpm2_protocol::data::TpmtRsaScheme::default(),
            key_bits: 2048.into(),
            exponent: 0.into(),
        }),
        unique: TpmuPublicId::Rsa(Tpm2bPublicKeyRsa::try_from(&[0; 256][..])?),
        ..endorsement()?
    })
}

/// Endorsement key, template L-2 of the TCG EK Credential Profile, section B.3.4: ECC P-256.
///
/// # Errors
/// None in practice: the constants fit.
pub fn p256_endorsement() -> TpmResult<TpmtPublic> {
    let zero = Tpm2bEccParameter::try_from(&[0; 32][..])?;
    Ok(TpmtPublic {
        object_type: TpmAlgId::Ecc,
        parameters: TpmuPublicParms::Ecc(TpmsEccParms {
            symmetric: aes_128_cfb(),
            scheme: TpmtEccScheme::default(),
            curve_id: TpmEccCurve::NistP256,
            kdf: tpm2_protocol::data::TpmtKdfScheme::default(),
        }),
        unique: TpmuPublicId::Ecc(TpmsEccPoint { x: zero, y: zero }),
        ..endorsement()?
    })
}

fn endorsement() -> TpmResult<TpmtPublic> {
    Ok(TpmtPublic {
        name_alg: TpmAlgId::Sha256,
        object_attributes: TpmaObject::FIXED_TPM
            | TpmaObject::FIXED_PARENT
            | TpmaObject::SENSITIVE_DATA_ORIGIN
            | TpmaObject::ADMIN_WITH_POLICY
            | TpmaObject::RESTRICTED
            | TpmaObject::DECRYPT,
        auth_policy: Tpm2bDigest::try_from(&POLICY_A[..])?,
        ..TpmtPublic::default()
    })
}

fn aes_128_cfb() -> TpmtSymDefObject {
    TpmtSymDefObject {
        algorithm: TpmAlgId::Aes,
        key_bits: TpmuSymKeyBits::Aes(128.into()),
        mode: TpmuSymMode::Aes(TpmAlgId::Cfb),
    }
}

/// Storage key, as the TCG's TPM v2.0 Provisioning Guidance, section 7.5.1, has it: P-256, empty
/// authorisation, exempt from the dictionary-attack lockout.
///
/// # Errors
/// None in practice: the constants fit.
pub fn storage_key() -> TpmResult<TpmtPublic> {
    Ok(TpmtPublic {
        object_attributes: TpmaObject::FIXED_TPM
            | TpmaObject::FIXED_PARENT
            | TpmaObject::SENSITIVE_DATA_ORIGIN
            | TpmaObject::USER_WITH_AUTH
            | TpmaObject::NO_DA
            | TpmaObject::RESTRICTED
            | TpmaObject::DECRYPT,
        auth_policy: Tpm2bDigest::default(),
        ..p256_endorsement()?
    })
}

/// Attestation key: restricted, so that it signs only what the TPM itself says.
#[must_use]
pub fn attestation_key() -> TpmtPublic {
    signing(TpmaObject::RESTRICTED)
}

/// Identity key: signs what it is given, and never leaves the chip.
#[must_use]
pub fn identity_key() -> TpmtPublic {
    signing(TpmaObject::empty())
}

/// ECDSA on P-256 with SHA-256, empty authorisation, exempt from the dictionary-attack lockout: there
/// is no password to guess, and a lockout that someone else caused must not stop renewal.
fn signing(more: TpmaObject) -> TpmtPublic {
    TpmtPublic {
        object_type: TpmAlgId::Ecc,
        name_alg: TpmAlgId::Sha256,
        object_attributes: TpmaObject::FIXED_TPM
            | TpmaObject::FIXED_PARENT
            | TpmaObject::SENSITIVE_DATA_ORIGIN
            | TpmaObject::USER_WITH_AUTH
            | TpmaObject::NO_DA
            | TpmaObject::SIGN_ENCRYPT
            | more,
        parameters: TpmuPublicParms::Ecc(TpmsEccParms {
            symmetric: TpmtSymDefObject {
                algorithm: TpmAlgId::Null,
                ..TpmtSymDefObject::default()
            },
            scheme: TpmtEccScheme {
                scheme: TpmAlgId::Ecdsa,
                details: TpmuAsymScheme::Hash(TpmsSchemeHash {
                    hash_alg: TpmAlgId::Sha256,
                }),
            },
            curve_id: TpmEccCurve::NistP256,
            kdf: tpm2_protocol::data::TpmtKdfScheme::default(),
        }),
        unique: TpmuPublicId::Ecc(TpmsEccPoint::default()),
        ..TpmtPublic::default()
    }
}
