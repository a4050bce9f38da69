//! A TPM that lies as told: software keys that sign structures written out by hand. What no real chip
//! would say can be said with it, one lie at a time. It cannot open credentials; the tests hand it the
//! secret.

use attest_tpm::join::{Boot, JoinExpectation};
use attest_tpm::{Channel, JoinAnswer, JoinEvidence, JoinRequest, POLICY_A, References};
use crypto::{Algorithm, KeyPair, SecretBytes, Signer as _, sha256};
use facts::Timestamp;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_300_000);
pub(crate) const CERTIFY: u16 = 0x8017;
pub(crate) const QUOTE: u16 = 0x8018;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign.
pub(crate) const RESIDENT_SIGNER: u32 = 0x0004_0072;
pub(crate) const RESTRICTED: u32 = 1 << 16;

/// What the lying TPM is made of and what it says. The default tells the truth.
pub(crate) struct Script {
    /// Without, the join rests on the attestation key alone.
    pub(crate) endorsed: bool,
    pub(crate) ek_attributes: u32,
    pub(crate) ak_attributes: u32,
    pub(crate) ak_scheme: u16,
    pub(crate) ak_hash: u16,
    pub(crate) ak_name_algorithm: u16,
    pub(crate) ak_hierarchy: u32,
    pub(crate) identity_attributes: u32,
    pub(crate) identity_hash: u16,
    pub(crate) activated_secret: Option<Vec<u8>>,
    pub(crate) quote: Statement,
    pub(crate) quoted_bank: u16,
    pub(crate) quoted_bits: [u8; 3],
    pub(crate) quoted_twice: bool,
    pub(crate) quoted_values: Option<Vec<Vec<u8>>>,
    pub(crate) pcr_values: Vec<Vec<u8>>,
    pub(crate) certify: Statement,
    pub(crate) certified_name: Option<Vec<u8>>,
    /// The connection as the agent sees it.
    pub(crate) channel: Channel,
    pub(crate) session: Session,
}

/// One `TPMS_ATTEST`.
pub(crate) struct Statement {
    pub(crate) magic: u32,
    pub(crate) kind: u16,
    pub(crate) qualifying: Option<Vec<u8>>,
    pub(crate) clock: u64,
    pub(crate) reset_count: u32,
    pub(crate) firmware: u64,
    pub(crate) signed_by_another: bool,
}

impl Statement {
    pub(crate) fn of(kind: u16) -> Self {
        Self {
            magic: 0xff54_4347,
            kind,
            qualifying: None,
            clock: 99,
            reset_count: 7,
            firmware: 0x0102_0304_0506_0708,
            signed_by_another: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    Vouched,
    None,
    /// With a vouch for another boot.
    AnotherBoot,
    /// With a vouch for another key.
    AnotherKey,
    /// That did not sign the transcript.
    Unproven,
    Garbage,
    /// Proofs without a key.
    Missing,
}

impl Default for Script {
    fn default() -> Self {
        let values = vec![vec![0; 32], vec![0; 32], vec![9; 32]];
        Self {
            endorsed: true,
            ek_attributes: 0x0003_00b2,
            ak_attributes: RESIDENT_SIGNER | RESTRICTED,
            ak_scheme: 0x0018,
            ak_hash: 0x000b,
            ak_name_algorithm: 0x000b,
            ak_hierarchy: 0x4000_000b,
            identity_attributes: RESIDENT_SIGNER,
            identity_hash: 0x000b,
            activated_secret: None,
            quote: Statement::of(QUOTE),
            quoted_bank: 0x000b,
            quoted_bits: [0x81, 0, 1],
            quoted_twice: false,
            quoted_values: None,
            pcr_values: values,
            certify: Statement::of(CERTIFY),
            certified_name: None,
            channel: channel(),
            session: Session::Vouched,
        }
    }
}

/// What the server asked for, and sees.
pub(crate) fn expectation() -> JoinExpectation {
    JoinExpectation {
        nonce: sha256(b"the nonce of this challenge"),
        secret: SecretBytes::new(vec![0x5e; 32]),
        pcrs: vec![0, 7, 16],
        channel: channel(),
        now: NOW,
        vouched: None,
    }
}

pub(crate) fn channel() -> Channel {
    Channel {
        trust_domain: "example.org".to_owned(),
        server_key: b"the server's key".to_vec(),
        exporter: vec![0xe0; 32],
    }
}

/// The answer to [`expectation`], and the references that trust its keys by pins.
pub(crate) fn forge(script: &Script) -> (JoinEvidence, References) {
    let expected = expectation();
    let [endorsement, ak, identity, session, other] =
        [(); 5].map(|()| KeyPair::generate(Algorithm::EcdsaP256).unwrap());
    let ek_public = if script.endorsed {
        endorsement_public(script.ek_attributes, &endorsement)
    } else {
        Vec::new()
    };
    let signing = |name_algorithm, attributes, [scheme, hash]: [u16; 2], key: &KeyPair| {
        [
            &public(name_algorithm, attributes, &[])[..],
            &[0, 0x10],
            &scheme.to_be_bytes(),
            &hash.to_be_bytes(),
            &curve_and_point(key),
        ]
        .concat()
    };
    let ak_public = signing(
        script.ak_name_algorithm,
        script.ak_attributes,
        [script.ak_scheme, script.ak_hash],
        &ak,
    );
    let identity_public = signing(
        0x000b,
        script.identity_attributes,
        [0x0018, script.identity_hash],
        &identity,
    );
    let (ak_name, identity_name) = (name(&ak_public), name(&identity_public));
    let signer = name(&[&script.ak_hierarchy.to_be_bytes(), &ak_name[..]].concat());

    let bank = [
        &script.quoted_bank.to_be_bytes()[..],
        &[3],
        &script.quoted_bits,
    ]
    .concat();
    let count = 1 + u32::from(script.quoted_twice);
    let values = script.quoted_values.as_ref().unwrap_or(&script.pcr_values);
    let quoted = [
        &count.to_be_bytes()[..],
        &bank.repeat(count as usize),
        &sized(&sha256(&values.concat())),
    ]
    .concat();
    let by = |statement: &Statement, bytes: &[u8]| {
        let key = if statement.signed_by_another {
            &other
        } else {
            &ak
        };
        tpm_signature(key, bytes)
    };
    let certified = script.certified_name.as_ref().unwrap_or(&identity_name);
    let certified = [sized(certified), sized(&identity_name)].concat();
    let body = |kind| match kind {
        CERTIFY => certified.clone(),
        QUOTE => quoted.clone(),
        _ => Vec::new(),
    };
    let quote = statement(
        &script.quote,
        &signer,
        &expected.nonce,
        &body(script.quote.kind),
    );
    // Written out, not computed by the code under test.
    let transcript = transcript(&[
        b"trilith-join-v1",
        script.channel.trust_domain.as_bytes(),
        &script.channel.server_key,
        &script.channel.exporter,
        &expected.nonce,
        &ek_public,
        &ak_name,
        identity.public_key().spki_der(),
        &sha256(&quote),
    ]);
    let certify = statement(
        &script.certify,
        &signer,
        &sha256(&transcript),
        &body(script.certify.kind),
    );
    let mut answer = JoinAnswer {
        activated_secret: script.activated_secret.clone().unwrap_or_else(|| {
            match script.endorsed {
                true => expected.secret.expose().to_vec(),
                false => Vec::new(),
            }
        }),
        quote_signature: by(&script.quote, &quote),
        certify_signature: by(&script.certify, &certify),
        quote,
        certify,
        pcr_values: script.pcr_values.clone(),
        ..JoinAnswer::default()
    };
    if script.session != Session::None {
        let spki = session.public_key().spki_der();
        let boot = Boot {
            reset_count: 7 - u32::from(script.session == Session::AnotherBoot),
            restart_count: 0,
        };
        let vouched = match script.session {
            Session::AnotherKey => other.public_key().spki_der(),
            _ => spki,
        };
        let vouch = attest_tpm::vouch_message(vouched, boot, &expected.nonce);
        answer.vouch = tpm_signature(&identity, &vouch);
        answer.session_key = match script.session {
            Session::Missing => Vec::new(),
            Session::Garbage => b"no key".to_vec(),
            _ => spki.to_vec(),
        };
        let signed = match script.session {
            Session::Unproven => [0; 32],
            _ => sha256(&transcript),
        };
        answer.session_key_proof = session.sign(&signed).unwrap();
    }
    let references = References {
        pinned_ek: vec![sha256(&ek_public)],
        pinned_ak: vec![sha256(&ak_public)],
        ..References::default()
    };
    let request = JoinRequest {
        ek_public,
        ek_certificate: Vec::new(),
        ak_public,
        ak_certificate: Vec::new(),
        identity_public,
    };
    (JoinEvidence { request, answer }, references)
}

/// Template L-2 with these attributes.
pub(crate) fn endorsement_public(attributes: u32, key: &KeyPair) -> Vec<u8> {
    let aes_128_cfb: &[u8] = &[0, 6, 0, 128, 0, 0x43];
    [
        &public(0x000b, attributes, &POLICY_A),
        aes_128_cfb,
        &[0, 0x10],
        &curve_and_point(key),
    ]
    .concat()
}

pub(crate) fn public(name_algorithm: u16, attributes: u32, policy: &[u8]) -> Vec<u8> {
    [
        &[0, 0x23][..],
        &name_algorithm.to_be_bytes(),
        &attributes.to_be_bytes(),
        &sized(policy),
    ]
    .concat()
}

pub(crate) fn curve_and_point(key: &KeyPair) -> Vec<u8> {
    let (x, y) = key.public_key().xy().unwrap();
    [&[0, 3, 0, 0x10][..], &sized(x), &sized(y)].concat()
}

fn name(bytes: &[u8]) -> Vec<u8> {
    [&[0, 0x0b][..], &sha256(bytes)].concat()
}

pub(crate) fn statement(
    statement: &Statement,
    signer: &[u8],
    qualifying: &[u8],
    body: &[u8],
) -> Vec<u8> {
    [
        &statement.magic.to_be_bytes()[..],
        &statement.kind.to_be_bytes(),
        &sized(signer),
        &sized(statement.qualifying.as_deref().unwrap_or(qualifying)),
        &statement.clock.to_be_bytes(),
        &statement.reset_count.to_be_bytes(),
        &0u32.to_be_bytes(),
        &[1],
        &statement.firmware.to_be_bytes(),
        body,
    ]
    .concat()
}

fn transcript(fields: &[&[u8]]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|field| {
            let length = (field.len() as u32).to_be_bytes();
            length.into_iter().chain(field.iter().copied())
        })
        .collect()
}

pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// `TPMT_SIGNATURE` of ECDSA with SHA-256.
pub(crate) fn tpm_signature(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    testkit::chip::tpmt_signature(&key.sign(message).unwrap())
}
