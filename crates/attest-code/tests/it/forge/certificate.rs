//! Authorities with two certificates, and the leaves that they issue.

use super::der::{
    bits, ecdsa, element, extension, integer, name, octets, oid, sequence, utc, utf8,
};
use super::{COMMIT, Deployment, GITHUB, THEN, WORKFLOW, key};
use crypto::{Algorithm, KeyPair, PublicKey, Signer as _, sha256};
use facts::Timestamp;

const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

/// An authority: its intermediate's key, and its chain, the intermediate first.
pub(crate) struct Issuer {
    pub(crate) key: KeyPair,
    pub(crate) name: Vec<u8>,
    pub(crate) chain: Vec<Vec<u8>>,
    root_key: KeyPair,
    root_name: Vec<u8>,
}

/// What an intermediate is; the default is as it should be.
pub(crate) struct IntermediateScript {
    pub(crate) ca: bool,
    pub(crate) key_usage: Option<u8>,
    pub(crate) purpose: Option<&'static str>,
    pub(crate) not_after: Timestamp,
    pub(crate) signed_by_another: bool,
    pub(crate) path_length: Option<u8>,
    pub(crate) critical_stranger: bool,
}

impl Default for IntermediateScript {
    fn default() -> Self {
        Self {
            ca: true,
            key_usage: Some(0x06),
            purpose: Some("code"),
            not_after: Timestamp::from_secs(2_000_000_000),
            signed_by_another: false,
            path_length: Some(0),
            critical_stranger: false,
        }
    }
}

fn purpose(word: &str) -> &'static str {
    match word {
        "code" => CODE_SIGNING,
        "time" => TIME_STAMPING,
        _ => "1.3.6.1.5.5.7.3.1",
    }
}

impl Issuer {
    /// `purposes`: the extended key usage of the intermediate, `code` or `time`.
    pub(crate) fn new(organisation: &str, purposes: &[&'static str]) -> Self {
        let root_key = key(Algorithm::EcdsaP384);
        let root_name = name(organisation, "root");
        let intermediate = key(Algorithm::EcdsaP384);
        let mut issuer = Self {
            name: name(organisation, "intermediate"),
            key: intermediate,
            chain: Vec::new(),
            root_key,
            root_name,
        };
        let root = issuer.root(None);
        let script = IntermediateScript {
            purpose: purposes.first().copied(),
            ..IntermediateScript::default()
        };
        issuer.chain = vec![issuer.intermediate(&script), root];
        issuer
    }

    /// The root, which may limit how many authorities lie below it.
    pub(crate) fn root(&self, path_length: Option<u8>) -> Vec<u8> {
        let mut constraints = vec![1, 1, 0xff];
        constraints.extend(path_length.map_or_else(Vec::new, |limit| vec![2, 1, limit]));
        let extensions = [
            extension("2.5.29.15", true, &[3, 2, 1, 0x06]),
            extension("2.5.29.19", true, &sequence(&[&constraints])),
        ];
        let validity = (
            Timestamp::from_secs(1_600_000_000),
            Timestamp::from_secs(2_000_000_000),
        );
        issue(
            &self.root_name,
            &self.root_name,
            self.root_key.public_key(),
            validity,
            &extensions,
            &self.root_key,
        )
    }

    pub(crate) fn intermediate(&self, script: &IntermediateScript) -> Vec<u8> {
        let mut constraints = Vec::new();
        if script.ca {
            constraints.extend([1, 1, 0xff]);
        }
        if let Some(limit) = script.path_length.filter(|_| script.ca) {
            constraints.extend([2, 1, limit]);
        }
        let mut extensions = vec![extension("2.5.29.19", true, &sequence(&[&constraints]))];
        if let Some(bits) = script.key_usage {
            extensions.push(extension("2.5.29.15", true, &[3, 2, 1, bits]));
        }
        if script.critical_stranger {
            extensions.push(extension("1.3.6.1.4.1.99999.1", true, &[5, 0]));
        }
        if let Some(word) = script.purpose {
            let usage = sequence(&[&oid(purpose(word))]);
            extensions.push(extension("2.5.29.37", false, &usage));
        }
        let another = key(Algorithm::EcdsaP384);
        let signer = if script.signed_by_another {
            &another
        } else {
            &self.root_key
        };
        issue(
            &self.name,
            &self.root_name,
            self.key.public_key(),
            (Timestamp::from_secs(1_700_000_000), script.not_after),
            &extensions,
            signer,
        )
    }
}

/// What a leaf says.
pub(crate) struct LeafScript {
    pub(crate) algorithm: Algorithm,
    pub(crate) names: Vec<Name>,
    /// Extension .8, and the older .1.
    pub(crate) issuer: Option<&'static str>,
    pub(crate) raw_issuer: Option<&'static str>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) ca: bool,
    pub(crate) key_usage: u8,
    pub(crate) purposes: Vec<&'static str>,
    pub(crate) critical_stranger: bool,
    pub(crate) repeated_extension: bool,
    pub(crate) by_stranger: bool,
    pub(crate) sct: SctScript,
    pub(crate) repository: &'static str,
    pub(crate) commit: &'static str,
    pub(crate) reference: &'static str,
}

pub(crate) enum Name {
    Email(&'static str),
    Uri(&'static str),
    /// Fulcio's user name.
    Other(&'static str),
}

/// What the certificate log's timestamp is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SctScript {
    Good,
    Absent,
    ByStranger,
    /// The log's id, somebody else's signature.
    Forged,
    /// Of another certificate.
    OfAnother,
    /// Under another authority's key.
    OfAnotherIssuer,
    /// From before the log counted.
    Early,
    Garbage,
}

impl Default for LeafScript {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::EcdsaP256,
            names: vec![Name::Uri(WORKFLOW)],
            issuer: Some(GITHUB),
            raw_issuer: Some(GITHUB),
            not_before: THEN.minus_secs(5),
            not_after: THEN.plus_secs(595),
            ca: false,
            key_usage: 0x80,
            purposes: vec!["code"],
            critical_stranger: false,
            repeated_extension: false,
            by_stranger: false,
            sct: SctScript::Good,
            repository: "https://github.com/acme/payments",
            commit: COMMIT,
            reference: "refs/tags/v1.4.2",
        }
    }
}

pub(crate) fn leaf(deployment: &Deployment, script: &LeafScript, holder: &KeyPair) -> Vec<u8> {
    let issuer = if script.by_stranger {
        &deployment.stranger
    } else {
        &deployment.authority
    };
    let validity = (script.not_before, script.not_after);
    let build = |extensions: &[Vec<u8>]| {
        let subject = sequence(&[]);
        issue(
            &subject,
            &issuer.name,
            holder.public_key(),
            validity,
            extensions,
            &issuer.key,
        )
    };
    let mut extensions = extensions(script);
    let Some(list) = sct_list(deployment, script, issuer, |extra| {
        let mut with = extensions.clone();
        with.extend(extra);
        tbs(
            &sequence(&[]),
            &issuer.name,
            holder.public_key(),
            validity,
            &with,
            true,
        )
    }) else {
        return build(&extensions);
    };
    extensions.push(extension("1.3.6.1.4.1.11129.2.4.2", false, &octets(&list)));
    build(&extensions)
}

fn extensions(script: &LeafScript) -> Vec<Vec<u8>> {
    let purposes: Vec<Vec<u8>> = script
        .purposes
        .iter()
        .map(|word| oid(purpose(word)))
        .collect();
    let purposes: Vec<&[u8]> = purposes.iter().map(Vec::as_slice).collect();
    let mut list = vec![
        extension("2.5.29.15", true, &[3, 2, 0, script.key_usage]),
        extension("2.5.29.37", false, &sequence(&purposes)),
    ];
    if script.ca {
        list.push(extension("2.5.29.19", true, &sequence(&[&[1, 1, 0xff]])));
    }
    let names: Vec<Vec<u8>> = script
        .names
        .iter()
        .map(|name| match name {
            Name::Email(text) => element(0x81, &[text.as_bytes()]),
            Name::Uri(text) => element(0x86, &[text.as_bytes()]),
            Name::Other(text) => element(
                0xa0,
                &[
                    &oid("1.3.6.1.4.1.57264.1.7"),
                    &element(0xa0, &[&utf8(text)]),
                ],
            ),
        })
        .collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    if !names.is_empty() {
        list.push(extension("2.5.29.17", true, &sequence(&names)));
    }
    if let Some(issuer) = script.raw_issuer {
        list.push(extension("1.3.6.1.4.1.57264.1.1", false, issuer.as_bytes()));
    }
    if let Some(issuer) = script.issuer {
        list.push(extension("1.3.6.1.4.1.57264.1.8", false, &utf8(issuer)));
    }
    for (arc, text) in [
        (12, script.repository),
        (13, script.commit),
        (14, script.reference),
    ] {
        if !text.is_empty() {
            let kind = format!("1.3.6.1.4.1.57264.1.{arc}");
            list.push(extension(&kind, false, &utf8(text)));
        }
    }
    if script.critical_stranger {
        list.push(extension("1.3.6.1.4.1.99999.1", true, &[5, 0]));
    }
    if script.repeated_extension {
        list.push(extension(
            "1.3.6.1.4.1.57264.1.8",
            false,
            &utf8("https://evil.test"),
        ));
    }
    list
}

fn sct_list(
    deployment: &Deployment,
    script: &LeafScript,
    issuer: &Issuer,
    tbs: impl Fn(Vec<Vec<u8>>) -> Vec<u8>,
) -> Option<Vec<u8>> {
    let at = match script.sct {
        SctScript::Absent => return None,
        SctScript::Garbage => return Some(vec![0, 9, 1, 2, 3]),
        // 2024, before any log of the deployment counted.
        SctScript::Early => Timestamp::from_secs(1_710_000_000),
        _ => script.not_before,
    };
    let stranger = key(Algorithm::EcdsaP256);
    let log = &deployment.certificate_log;
    let (named, signing) = match script.sct {
        SctScript::ByStranger => (&stranger, &stranger),
        SctScript::Forged => (log, &stranger),
        _ => (log, log),
    };
    let extra = if script.sct == SctScript::OfAnother {
        vec![extension("1.3.6.1.4.1.57264.1.20", false, &utf8("another"))]
    } else {
        Vec::new()
    };
    let authority = if script.sct == SctScript::OfAnotherIssuer {
        &deployment.stranger
    } else {
        issuer
    };
    let tbs = tbs(extra);
    let length = tbs.len() as u32;
    let message = [
        &[0, 0][..],
        &at.as_millis().to_be_bytes(),
        &[0, 1],
        &sha256(authority.key.public_key().spki_der()),
        &length.to_be_bytes()[1..],
        &tbs,
        &[0, 0],
    ]
    .concat();
    let signature = signing.sign(&message).unwrap();
    let sct = [
        &[0][..],
        &sha256(named.public_key().spki_der()),
        &at.as_millis().to_be_bytes(),
        &[0, 0, 4, 3],
        &(signature.len() as u16).to_be_bytes(),
        &signature,
    ]
    .concat();
    let one = [&(sct.len() as u16).to_be_bytes()[..], &sct].concat();
    Some([&(one.len() as u16).to_be_bytes()[..], &one].concat())
}

fn tbs(
    subject: &[u8],
    issuer: &[u8],
    holder: &PublicKey,
    (from, until): (Timestamp, Timestamp),
    extensions: &[Vec<u8>],
    sha384: bool,
) -> Vec<u8> {
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    sequence(&[
        &element(0xa0, &[&integer(&[2])]),
        &serial(holder),
        &ecdsa(sha384),
        issuer,
        &sequence(&[&utc(from), &utc(until)]),
        subject,
        holder.spki_der(),
        &element(0xa3, &[&sequence(&extensions)]),
    ])
}

/// Of the holder's key, so that a token can name its certificate.
pub(crate) fn serial(holder: &PublicKey) -> Vec<u8> {
    integer(&[&[0x41], &sha256(holder.spki_der())[..15]].concat())
}

/// A certificate, signed by a P-256 or P-384 key with the hash that goes with it.
pub(crate) fn issue(
    subject: &[u8],
    issuer: &[u8],
    holder: &PublicKey,
    validity: (Timestamp, Timestamp),
    extensions: &[Vec<u8>],
    signer: &KeyPair,
) -> Vec<u8> {
    let sha384 = signer.public_key().algorithm() == Algorithm::EcdsaP384;
    let tbs = tbs(subject, issuer, holder, validity, extensions, sha384);
    let signature = signer.sign(&tbs).unwrap();
    sequence(&[&tbs, &ecdsa(sha384), &bits(&signature)])
}

/// A leaf for time stamping.
pub(crate) fn stamping_leaf(
    issuer: &Issuer,
    common: &str,
    holder: &PublicKey,
    validity: (Timestamp, Timestamp),
    purposes: &[&str],
    critical: bool,
) -> Vec<u8> {
    let purposes: Vec<Vec<u8>> = purposes.iter().map(|word| oid(purpose(word))).collect();
    let purposes: Vec<&[u8]> = purposes.iter().map(Vec::as_slice).collect();
    let extensions = [
        extension("2.5.29.15", true, &[3, 2, 7, 0x80]),
        extension("2.5.29.37", critical, &sequence(&purposes)),
    ];
    let subject = name("time.forged.test", common);
    issue(
        &subject,
        &issuer.name,
        holder,
        validity,
        &extensions,
        &issuer.key,
    )
}
