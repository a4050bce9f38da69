//! An offline bundle of endorsements: certificates of report keys, revocation lists, Intel's collateral.
//!
//! One JSON file, filled wherever there is a network. It is not trusted: all that counts in it is signed
//! by a vendor, and is checked where it is used. Who can write to it can withhold, not forge.

mod fill;

pub use fill::Listed;

use crate::intel::{Ca, CollateralBytes};
use crate::snp::{self, Generation, Report, Roots};
use attest::x509;
use facts::Finding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A fleet's worth of certificates.
const LONGEST: usize = 64 << 20;
/// Entries of each kind.
const MOST: usize = 100_000;

/// What stands in the file. Binary members are base 64, answers of services stand as they came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// 1.
    version: u32,
    #[serde(default)]
    snp: Snp,
    #[serde(default)]
    intel: Vec<Intel>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snp {
    /// VCEK and VLEK certificates.
    #[serde(default)]
    keys: Vec<String>,
    /// PEM: intermediates that AMD's roots signed, beyond those that are shipped.
    #[serde(default)]
    chains: Vec<String>,
    /// Revocation lists.
    #[serde(default)]
    crls: Vec<String>,
}

/// One platform's collateral.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intel {
    /// `sgx` or `tdx`.
    tee: String,
    /// Twelve hexadecimal digits.
    fmspc: String,
    /// `platform` or `processor`.
    ca: String,
    tcb_info: String,
    qe_identity: String,
    signing_chain: String,
    pck_crl: String,
    pck_crl_chain: String,
    root_crl: String,
}

/// Whose report key: a chip's (its id as reports have it) or some provider's, and at which TCB.
type KeyName = (Option<[u8; 64]>, [u8; 8]);
/// For trust domains or enclaves, of which platforms, by which authority.
type PlatformName = (bool, [u8; 6], Ca);

/// Endorsements that were read, by what they are looked up by.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    keys: BTreeMap<KeyName, Vec<Vec<u8>>>,
    chains: Vec<String>,
    /// By the raw name of the issuer.
    crls: BTreeMap<Vec<u8>, Vec<u8>>,
    intel: BTreeMap<PlatformName, CollateralBytes>,
    /// Counts where there is nothing above.
    beneath: Option<Arc<Self>>,
}

impl Bundle {
    /// Reads a file of at most 64 MiB and 100,000 entries of a kind.
    ///
    /// # Errors
    /// `TEE-BUNDLE-STRUCTURE`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        read(bytes).map_err(unreadable)
    }

    /// The certificates that may be of the key that signed `report`, DER. There is one for a chip at a
    /// TCB, and one of each provider.
    #[must_use]
    pub fn snp_keys(&self, report: &Report) -> &[Vec<u8>] {
        let chip = (report.signing_key() == "vcek").then_some(report.chip_id);
        self.keys_of(&(chip, report.reported_tcb))
    }

    fn keys_of(&self, name: &KeyName) -> &[Vec<u8>] {
        match (self.keys.get(name), &self.beneath) {
            (Some(keys), _) => keys,
            (None, Some(beneath)) => beneath.keys_of(name),
            (None, None) => &[],
        }
    }

    /// The revocation list of the generation's root in `roots`, DER.
    #[must_use]
    pub fn snp_crl(&self, roots: &Roots, generation: Generation) -> Option<&[u8]> {
        self.list_of(&roots.subject(generation)?)
    }

    fn list_of(&self, issuer: &[u8]) -> Option<&[u8]> {
        let below = || self.beneath.as_ref()?.list_of(issuer);
        self.crls.get(issuer).map(Vec::as_slice).or_else(below)
    }

    /// Adds the intermediates of the bundle to `roots`, whose roots have to have signed them.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`.
    pub fn extend(&self, roots: &mut Roots) -> Result<(), Finding> {
        self.chains.iter().try_for_each(|pem| roots.extend(pem))?;
        self.beneath
            .as_ref()
            .map_or(Ok(()), |beneath| beneath.extend(roots))
    }

    /// As [`Bundle::extend`], where nobody answers for the bundle: what hangs below no root of `roots` is
    /// left out. The others are returned, PEM.
    pub fn offer(&self, roots: &mut Roots) -> Vec<&str> {
        let chains = self.chains.iter().map(String::as_str);
        let mut taken: Vec<&str> = chains.filter(|pem| roots.extend(pem).is_ok()).collect();
        if let Some(beneath) = &self.beneath {
            taken.extend(beneath.offer(roots));
        }
        taken
    }

    /// Of what [`Endorsed::blobs`](crate::endorsed::Endorsed::blobs) kept of SEV-SNP: the certificate of a report's
    /// key and the revocation list, DER, and intermediates, PEM; each empty where none was used.
    ///
    /// # Errors
    /// `TEE-BUNDLE-STRUCTURE`.
    pub fn kept(key: &[u8], list: &[u8], chains: &[u8]) -> Result<Self, Finding> {
        let binary = |der: &[u8]| match der {
            [] => Vec::new(),
            der => vec![crypto::base64::encode(der)],
        };
        let chains = String::from_utf8_lossy(chains);
        let file = File {
            version: 1,
            snp: Snp {
                keys: binary(key),
                chains: if chains.is_empty() {
                    Vec::new()
                } else {
                    vec![chains.into_owned()]
                },
                crls: binary(list),
            },
            intel: Vec::new(),
        };
        built(file).map_err(unreadable)
    }

    /// The collateral for a platform.
    #[must_use]
    pub fn collateral(&self, tdx: bool, fmspc: [u8; 6], ca: Ca) -> Option<&CollateralBytes> {
        let below = || self.beneath.as_ref()?.collateral(tdx, fmspc, ca);
        self.intel.get(&(tdx, fmspc, ca)).or_else(below)
    }
}

fn unreadable(problem: &'static str) -> Finding {
    Finding::new(
        "TEE-BUNDLE-STRUCTURE",
        "the bundle of endorsements cannot be read",
    )
    .expected("a JSON file of version 1; see docs/attestation/snp.md")
    .observed(problem)
    .next("make the bundle again")
}

fn read(bytes: &[u8]) -> Result<Bundle, &'static str> {
    if bytes.len() > LONGEST {
        return Err("more than 64 MiB");
    }
    built(serde_json::from_slice(bytes).map_err(|_| "JSON of another shape")?)
}

fn built(file: File) -> Result<Bundle, &'static str> {
    if file.version != 1 {
        return Err("another version than 1");
    }
    let most = [
        file.snp.keys.len(),
        file.snp.chains.len(),
        file.snp.crls.len(),
        file.intel.len(),
    ];
    if most.into_iter().any(|count| count > MOST) {
        return Err("more than 100000 entries of a kind");
    }
    let mut bundle = Bundle {
        chains: file.snp.chains,
        ..Bundle::default()
    };
    for text in &file.snp.keys {
        let der = binary(text)?;
        bundle.keys.entry(snp::named(&der)?).or_default().push(der);
    }
    for text in &file.snp.crls {
        let der = binary(text)?;
        let issuer = x509::parse_list(&der)?.issuer().as_raw().to_vec();
        bundle.crls.insert(issuer, der);
    }
    for one in file.intel {
        let (name, bytes) = platform(one)?;
        bundle.intel.insert(name, bytes);
    }
    Ok(bundle)
}

fn binary(text: &str) -> Result<Vec<u8>, &'static str> {
    crypto::base64::decode(text).map_err(|_| "not base 64")
}

fn platform(one: Intel) -> Result<(PlatformName, CollateralBytes), &'static str> {
    let tdx = match one.tee.as_str() {
        "tdx" => true,
        "sgx" => false,
        _ => return Err("an unknown kind of machine"),
    };
    let ca = match one.ca.as_str() {
        "platform" => Ca::Platform,
        "processor" => Ca::Processor,
        _ => return Err("an unknown authority"),
    };
    let fmspc = crypto::hex::decode(&one.fmspc)
        .ok()
        .and_then(|fmspc| fmspc.as_array().copied())
        .ok_or("an FMSPC that has not twelve digits")?;
    let bytes = CollateralBytes {
        pck_crl: binary(&one.pck_crl)?,
        root_crl: binary(&one.root_crl)?,
        tcb_info: one.tcb_info,
        qe_identity: one.qe_identity,
        signing_chain: one.signing_chain,
        pck_crl_chain: one.pck_crl_chain,
    };
    Ok(((tdx, fmspc, ca), bytes))
}
