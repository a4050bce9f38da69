//! Certificates in a pack: is each the one whose issuance the pack has, and was it good when it was used?
//!
//! An SVID is that of its issuance by every field that the record has, and by the digest of its content. It leads to
//! a root of the reader's trust file, over the certificates of authorities beside it, at each time that counts: when
//! sessions began with it, or when it was recorded, where none did. The receipt within it is not read, because the
//! record stands in the pack under the pack's own checkpoint.

use crate::x509::committed;
use crate::{Bundle, TrustDomain, X509Svid, receipt};
use facts::{Finding, Timestamp};
use ledger::body::{Issuance, SessionStart, SvidKind};
use ledger::pack::{CertificateCheck, PackRecord, Trust};
use std::collections::{BTreeMap, BTreeSet};

/// Authorities beside an SVID, at most: a chain has eight certificates.
const MOST_AUTHORITIES: usize = 7;

/// Reads certificates of packs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Certificates;

/// An issuance of the pack, and the first and the last time at which its SVID has to be good.
struct Issued {
    index: u64,
    issuance: Issuance,
    first: Timestamp,
    last: Timestamp,
}

impl CertificateCheck for Certificates {
    fn check(
        &self,
        certificates: &[&[u8]],
        records: &[PackRecord],
        trust: &Trust,
    ) -> Result<Vec<Option<u64>>, (usize, String)> {
        let bundle = bundle(trust).map_err(|why| (0, why))?;
        let issued = issued(records);
        let (mut svids, mut authorities) = (Vec::new(), Vec::new());
        for (at, der) in certificates.iter().enumerate() {
            let digest = committed(der).map_err(|finding| (at, finding.to_string()))?;
            match issued.get(&digest) {
                Some(issued) => svids.push((at, *der, issued)),
                None => authorities.push((at, *der)),
            }
        }
        let mut used = BTreeSet::new();
        let mut found = vec![None; certificates.len()];
        for (at, der, issued) in svids {
            let above = authorities.iter().map(|(_, der)| *der);
            let chain: Vec<&[u8]> = std::iter::once(der).chain(above).collect();
            used.extend(
                good(&chain, issued, &bundle).map_err(|finding| (at, finding.to_string()))?,
            );
            if let Some(place) = found.get_mut(at) {
                *place = Some(issued.index);
            }
        }
        match authorities.iter().find(|(_, der)| !used.contains(*der)) {
            None => Ok(found),
            Some((at, _)) => Err((
                *at,
                "no issuance of the pack commits to it, and no SVID of the pack rests on it"
                    .to_owned(),
            )),
        }
    }
}

/// Of `chains`, each an SVID and the authority that issued it, DER, what a pack with `records` may have: every one that
/// [`Certificates`] takes by `trust`, as far as the authorities are not more than it takes beside an SVID.
#[must_use]
pub fn fitting(chains: &[[Vec<u8>; 2]], records: &[PackRecord], trust: &Trust) -> Vec<Vec<u8>> {
    let Ok(bundle) = bundle(trust) else {
        return Vec::new();
    };
    let issued = issued(records);
    let mut authorities: BTreeSet<&[u8]> = BTreeSet::new();
    let mut fit = Vec::new();
    for [leaf, authority] in chains {
        let of = committed(leaf).ok().and_then(|digest| issued.get(&digest));
        let Some(of) = of else {
            continue;
        };
        let full = authorities.len() >= MOST_AUTHORITIES;
        if full && !authorities.contains(authority.as_slice()) {
            continue;
        }
        let used = good(&[leaf, authority], of, &bundle);
        if used.is_ok_and(|used| used.contains(authority)) {
            authorities.insert(authority);
            fit.push(leaf.clone());
        }
    }
    fit.extend(authorities.into_iter().map(<[u8]>::to_vec));
    fit
}

fn bundle(trust: &Trust) -> Result<Bundle, String> {
    let domain = TrustDomain::new(&trust.trust_domain).map_err(|error| error.to_string())?;
    let mut bundle = Bundle::new(domain);
    if trust.x509_authorities.is_empty() {
        return Err(
            "the trust file has no root certificates: `x509_authorities`, as `trilith trust` prints them"
                .to_owned(),
        );
    }
    for root in &trust.x509_authorities {
        let added = bundle.add_x509_authority(root);
        added.map_err(|error| format!("a root certificate of the trust file: {error}"))?;
    }
    Ok(bundle)
}

/// The issuances of X.509-SVIDs, by what they commit to.
fn issued(records: &[PackRecord]) -> BTreeMap<[u8; 32], Issued> {
    let mut sessions: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for item in records {
        let Ok(start) = item.record.expect_body::<SessionStart>() else {
            continue;
        };
        if let Some(issuance) = start.issuance {
            let wall = item.record.stamp().wall;
            let times = sessions.entry(issuance.0).or_insert((wall, wall));
            *times = (times.0.min(wall), times.1.max(wall));
        }
    }
    let of_server = records.iter().filter(|item| item.checkpoint == 0);
    let issuances = of_server.filter_map(|item| {
        let issuance: Issuance = item.record.expect_body().ok()?;
        let wall = item.record.stamp().wall;
        let (first, last) = sessions.get(&item.index).copied().unwrap_or((wall, wall));
        let issued = Issued {
            index: item.index,
            first: Timestamp::from_millis(first),
            last: Timestamp::from_millis(last),
            issuance,
        };
        (issued.issuance.kind == SvidKind::X509).then_some((issued.issuance.tbs.0, issued))
    });
    issuances.collect()
}

/// The certificates of authorities that it took.
fn good(chain: &[&[u8]], issued: &Issued, bundle: &Bundle) -> Result<Vec<Vec<u8>>, Finding> {
    let svid = X509Svid::parse(chain)?;
    let (validated, mut used) = svid.validate_chain(bundle, issued.first)?;
    receipt::is_of(&issued.issuance, &validated)?;
    if issued.last != issued.first {
        used.extend(svid.validate_chain(bundle, issued.last)?.1);
    }
    Ok(used)
}
