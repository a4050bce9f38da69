//! Bundles that are put together from documents, one laid over another, and written.

use super::{Bundle, File, Intel, PlatformName, Snp};
use crate::artefact::{Anchors, Artefact, Endorsement};
use crate::intel::{Ca, CollateralBytes};
use crate::snp;
use attest::x509;
use facts::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One document of a bundle, for people. Nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As commands take it, where they do.
    pub name: String,
    /// `None`: it does not say, or cannot be read.
    pub until: Option<Timestamp>,
}

impl Bundle {
    /// This one over another, which counts where this one has nothing.
    #[must_use]
    pub fn over(mut self, beneath: Arc<Self>) -> Self {
        self.beneath = Some(beneath);
        self
    }

    /// Takes documents in, each in the place of an earlier one. Collateral of a platform comes about once its
    /// four documents are there, of which one key has to have signed the two that one chain leads to.
    pub fn take_in(&mut self, endorsements: &[Endorsement]) {
        for one in endorsements {
            let body = || one.answer.body.clone();
            match &one.artefact {
                Artefact::SnpKey { chip, tcb, .. } => {
                    self.keys.insert((Some(*chip), *tcb), vec![body()]);
                }
                Artefact::SnpCrl { .. } => {
                    if let Ok(list) = x509::parse_list(&one.answer.body) {
                        self.crls.insert(list.issuer().as_raw().to_vec(), body());
                    }
                }
                Artefact::TcbInfo { .. }
                | Artefact::QeIdentity { .. }
                | Artefact::PckCrl { .. }
                | Artefact::IntelRootCrl => {}
            }
        }
        self.intel.extend(platforms(endorsements));
    }

    /// Whether nothing here can be this document now. Of Intel's nothing is looked at: they count together.
    #[must_use]
    pub fn lacks(&self, artefact: &Artefact, anchors: &Anchors, now: Timestamp) -> bool {
        match (artefact, anchors) {
            (Artefact::SnpKey { chip, tcb, .. }, _) => {
                self.keys_of(&(Some(*chip), *tcb)).is_empty()
            }
            (Artefact::SnpCrl { generation }, Anchors::Amd(roots)) => !self
                .snp_crl(roots, *generation)
                .and_then(|der| roots.list(*generation, der).ok())
                .is_some_and(|list| list.is_current(now)),
            _ => true,
        }
    }

    /// The file that [`Bundle::parse`] reads, of this bundle alone.
    ///
    /// # Errors
    /// `serde_json`'s, which do not happen for what a bundle holds.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let base64 = |bytes: &Vec<u8>| crypto::base64::encode(bytes);
        let file = File {
            version: 1,
            snp: Snp {
                keys: self.keys.values().flatten().map(base64).collect(),
                chains: self.chains.clone(),
                crls: self.crls.values().map(base64).collect(),
            },
            intel: self.intel.iter().map(written).collect(),
        };
        serde_json::to_vec_pretty(&file)
    }

    /// What is in it, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let keys = self.keys.iter().flat_map(|((chip, tcb), keys)| {
            keys.iter().map(move |der| Listed {
                name: key_name(der, *chip, *tcb),
                until: x509::parse(der)
                    .ok()
                    .and_then(|one| at(one.validity().not_after.timestamp())),
            })
        });
        let lists = self.crls.values().map(|der| Listed {
            name: list_name(der),
            until: next_update(der),
        });
        let intel = self.intel.iter().flat_map(|((tdx, fmspc, ca), bytes)| {
            let until = [
                json_until(&bytes.tcb_info, "tcbInfo"),
                json_until(&bytes.qe_identity, "enclaveIdentity"),
                next_update(&bytes.pck_crl),
                next_update(&bytes.root_crl),
            ];
            Artefact::of_platform(*tdx, *fmspc, *ca)
                .into_iter()
                .zip(until)
                .map(|(artefact, until)| Listed {
                    name: artefact.to_string(),
                    until,
                })
        });
        keys.chain(lists).chain(intel).collect()
    }
}

/// The platforms of which all four documents are there.
fn platforms(endorsements: &[Endorsement]) -> BTreeMap<PlatformName, CollateralBytes> {
    let mut complete = BTreeMap::new();
    let text = |one: &Endorsement| String::from_utf8(one.answer.body.clone()).ok();
    let find = |artefact: &Artefact| endorsements.iter().find(|one| one.artefact == *artefact);
    let Some(root) = find(&Artefact::IntelRootCrl) else {
        return complete;
    };
    for info in endorsements {
        let Artefact::TcbInfo { tdx, fmspc } = info.artefact else {
            continue;
        };
        let identity = find(&Artefact::QeIdentity { tdx });
        let Some(identity) = identity.filter(|one| same_signer(one, info)) else {
            continue;
        };
        for ca in [Ca::Platform, Ca::Processor] {
            let Some(list) = find(&Artefact::PckCrl { ca }) else {
                continue;
            };
            let (Some(tcb_info), Some(qe_identity)) = (text(info), text(identity)) else {
                continue;
            };
            let bytes = CollateralBytes {
                tcb_info,
                qe_identity,
                signing_chain: info.answer.chain.clone(),
                pck_crl: list.answer.body.clone(),
                pck_crl_chain: list.answer.chain.clone(),
                root_crl: root.answer.body.clone(),
            };
            complete.insert((tdx, fmspc, ca), bytes);
        }
    }
    complete
}

fn same_signer(one: &Endorsement, other: &Endorsement) -> bool {
    let first = |one: &Endorsement| x509::pem(&one.answer.chain).ok()?.into_iter().next();
    first(one).is_some_and(|der| Some(der) == first(other))
}

fn written((name, bytes): (&PlatformName, &CollateralBytes)) -> Intel {
    let (tdx, fmspc, ca): (bool, [u8; 6], Ca) = *name;
    Intel {
        tee: if tdx { "tdx" } else { "sgx" }.to_owned(),
        fmspc: crypto::hex::encode(&fmspc),
        ca: ca.word().to_owned(),
        tcb_info: bytes.tcb_info.clone(),
        qe_identity: bytes.qe_identity.clone(),
        signing_chain: bytes.signing_chain.clone(),
        pck_crl: crypto::base64::encode(&bytes.pck_crl),
        pck_crl_chain: bytes.pck_crl_chain.clone(),
        root_crl: crypto::base64::encode(&bytes.root_crl),
    }
}

fn key_name(der: &[u8], chip: Option<[u8; 64]>, tcb: [u8; 8]) -> String {
    match (chip, snp::generation(der)) {
        (Some(chip), Some(generation)) => Artefact::SnpKey {
            generation,
            chip,
            tcb,
        }
        .to_string(),
        _ => format!("snp-key of a provider at {}", crypto::hex::encode(&tcb)),
    }
}

/// AMD names its roots by their generations.
fn list_name(der: &[u8]) -> String {
    let issuer = x509::parse_list(der).map(|one| crate::crl::title(one.issuer()));
    let issuer = issuer.unwrap_or_default();
    let known = snp::Generation::ALL
        .into_iter()
        .find(|one| issuer.strip_prefix("ARK-") == Some(one.name()));
    known.map_or_else(
        || format!("snp-crl of {issuer}"),
        |generation| Artefact::SnpCrl { generation }.to_string(),
    )
}

fn at(seconds: i64) -> Option<Timestamp> {
    u64::try_from(seconds).ok().map(Timestamp::from_secs)
}

fn next_update(der: &[u8]) -> Option<Timestamp> {
    at(x509::parse_list(der).ok()?.next_update()?.timestamp())
}

fn json_until(text: &str, member: &str) -> Option<Timestamp> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    crate::time::parse(value.get(member)?.get("nextUpdate")?.as_str()?)
}
