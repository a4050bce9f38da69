//! Certificates in packs: each is that of its issuance, and led to a root when it was used.

use crate::kit::{Domain, NOW, key, serial};
use crypto::Algorithm;
use ledger::body::{Body as _, Issuance, SessionStart};
use ledger::pack::{CertificateCheck as _, PackRecord, Trust};
use ledger::{Decimal, Digest, Origin, Record, Stamp};
use spiffe::LeafParams;
use spiffe::recorded::{Certificates, fitting};

const ISSUANCE: u64 = 4;

struct World {
    domain: Domain,
    params: LeafParams,
    issuance: Issuance,
    /// Beginnings of sessions, in seconds from now.
    sessions: Vec<i64>,
    trust: Trust,
}

impl World {
    fn new() -> Self {
        let domain = Domain::new("example.org");
        let workload = key(Algorithm::EcdsaP256);
        let params = domain.leaf_params("payments/api", workload.as_ref());
        let trust = Trust {
            trust_domain: "example.org".to_owned(),
            ledger_key: domain.ledger_key().clone(),
            x509_authorities: vec![domain.root.certificate().to_vec()],
            policy: None,
        };
        Self {
            issuance: domain.issuance(&params),
            domain,
            params,
            sessions: vec![0],
            trust,
        }
    }

    fn records(&self) -> Vec<PackRecord> {
        let record = |checkpoint, index, record: Record| PackRecord {
            checkpoint,
            index,
            record,
            answers: true,
        };
        let at = |seconds: i64| Stamp {
            wall: NOW.as_millis().checked_add_signed(seconds * 1_000).unwrap(),
            mono: 0,
        };
        let server = self.domain.ledger_key().origin();
        let issuance = self.issuance.record().seal(server, ISSUANCE, at(-30));
        let mut records = vec![record(0, ISSUANCE, issuance.unwrap())];
        let gateway = Origin::new("example.org/gateway/pg").unwrap();
        for (index, seconds) in (0..).zip(&self.sessions) {
            let start = SessionStart {
                session: format!("s{index}"),
                spiffe_id: self.params.spiffe_id.to_string(),
                serial: self.params.serial.to_string(),
                issuance: Some(Decimal(ISSUANCE)),
                resource: "postgres:shop".to_owned(),
                role: "r".to_owned(),
                application: String::new(),
                claimed_on_behalf_of: Vec::new(),
                on_behalf_of: Vec::new(),
            };
            let start = start.record().seal(&gateway, index, at(*seconds));
            records.push(record(1, index, start.unwrap()));
        }
        records
    }

    fn check(&self, certificates: &[Vec<u8>]) -> Result<Vec<Option<u64>>, (usize, String)> {
        let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        Certificates.check(&certificates, &self.records(), &self.trust)
    }

    /// Which of the certificates does not belong, and why.
    fn refused(&self, certificates: &[Vec<u8>]) -> (usize, String) {
        self.check(certificates).unwrap_err()
    }
}

#[test]
fn an_svid_with_or_without_its_receipt_is_that_of_its_issuance() {
    let world = World::new();
    for mut chain in [
        world.domain.recorded_chain(&world.params),
        world.domain.chain(&world.params),
    ] {
        assert_eq!(world.check(&chain), Ok(vec![Some(ISSUANCE), None]));
        chain.reverse();
        assert_eq!(world.check(&chain), Ok(vec![None, Some(ISSUANCE)]));
    }
    assert_eq!(world.check(&[]), Ok(Vec::new()));
}

#[test]
fn what_is_not_the_certificate_of_the_record_is_named() {
    let mut world = World::new();
    let chain = world.domain.recorded_chain(&world.params);
    let (leaf, issuing) = (&chain[0], &chain[1]);
    // Of a key that the record is not of.
    let thief = key(Algorithm::EcdsaP256);
    let stolen = LeafParams {
        public_key: thief.public_key().clone(),
        ..world.domain.leaf_params("payments/api", thief.as_ref())
    };
    let stolen = world.domain.chain(&stolen);
    let (at, why) = world.refused(&[leaf.clone(), issuing.clone(), stolen[0].clone()]);
    assert_eq!(at, 2);
    assert!(
        why.contains("no issuance of the pack commits to it"),
        "{why}"
    );
    // Signed by nobody: the content is that of the record.
    let mut unsigned = leaf.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    let (at, why) = world.refused(&[issuing.clone(), unsigned]);
    assert!(at == 1 && why.starts_with("SVID-PATH"), "{at} {why}");
    // Without the authority between it and the root.
    let (at, why) = world.refused(std::slice::from_ref(leaf));
    assert!(at == 0 && why.starts_with("SVID-PATH"), "{at} {why}");
    // An authority of nobody here.
    let other = Domain::new("example.org");
    let foreign = other.issuing.certificate().to_vec();
    let (at, why) = world.refused(&[leaf.clone(), issuing.clone(), foreign]);
    assert!(
        at == 2 && why.contains("no SVID of the pack rests on it"),
        "{at} {why}"
    );
    let (at, why) = world.refused(&[b"no certificate".to_vec()]);
    assert!(at == 0 && why.starts_with("SVID-PARSE"), "{at} {why}");
    // Whoever trusts another root, or none.
    world.trust.x509_authorities = vec![other.root.certificate().to_vec()];
    assert!(world.refused(&chain).1.starts_with("SVID-PATH"));
    world.trust.x509_authorities.clear();
    assert!(world.refused(&chain).1.contains("`trilith trust`"));
}

#[test]
fn what_the_record_says_otherwise_is_named() {
    let other = Digest::of(b"other");
    type Lie = fn(&mut Issuance, Digest);
    let lies: [(&str, Lie); 5] = [
        ("SVID-RECEIPT-ISSUER", |one, other| one.issuer = other),
        ("SVID-RECEIPT-KEY", |one, other| one.key = other),
        ("SVID-RECEIPT-SERIAL", |one, _| one.serial = "a1".to_owned()),
        ("SVID-RECEIPT-VALIDITY", |one, _| one.not_after += 3_600),
        ("SVID-RECEIPT-ID", |one, _| one.spiffe_id.push('x')),
    ];
    for (code, lie) in lies {
        let mut world = World::new();
        lie(&mut world.issuance, other);
        let chain = world.domain.recorded_chain(&world.params);
        let (at, why) = world.refused(&chain);
        assert!(at == 0 && why.starts_with(code), "{code}: {why}");
    }
}

#[test]
fn a_certificate_is_good_at_each_time_that_a_session_began_with_it() {
    let mut world = World::new();
    let chain = world.domain.recorded_chain(&world.params);
    for (sessions, code) in [
        (vec![0, 3_599], None),
        (vec![0, 4_000], Some("SVID-EXPIRED")),
        (vec![-100, 0], Some("SVID-NOT-YET-VALID")),
        // Where none began it is the record's own time that counts.
        (vec![], None),
    ] {
        world.sessions = sessions;
        match (world.check(&chain), code) {
            (Ok(_), None) => {}
            (Err((0, why)), Some(code)) => assert!(why.starts_with(code), "{why}"),
            other => panic!("{:?}: {other:?}", world.sessions),
        }
    }
    // An authority that was no longer one: its own time is looked at as well.
    world.params = LeafParams {
        serial: serial(),
        not_after: NOW.plus_secs(60 * 86_400),
        ..world.params
    };
    world.issuance = world.domain.issuance(&world.params);
    world.sessions = vec![0, 31 * 86_400];
    let chain = world.domain.recorded_chain(&world.params);
    assert!(world.refused(&chain).1.starts_with("SVID-PATH"));
}

/// What a server puts into a pack by itself is never what makes its reader refuse the pack.
#[test]
fn nothing_is_put_into_a_pack_that_its_reader_refuses() {
    let mut world = World::new();
    let chain = world.domain.recorded_chain(&world.params);
    let [leaf, issuing] = [chain[0].clone(), chain[1].clone()];
    let good = [leaf.clone(), issuing.clone()];
    assert_eq!(
        fitting(std::slice::from_ref(&good), &world.records(), &world.trust),
        chain
    );

    let other = Domain::new("example.org");
    let mut unsigned = leaf.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    let foreign = other
        .recorded_chain(&other.leaf_params("payments/api", key(Algorithm::EcdsaP256).as_ref()));
    let chains = [
        [unsigned, issuing.clone()],
        [leaf.clone(), other.issuing.certificate().to_vec()],
        [foreign[0].clone(), foreign[1].clone()],
        [b"no certificate".to_vec(), issuing.clone()],
        // An authority in the place of the SVID.
        [issuing.clone(), issuing],
        good.clone(),
    ];
    let fit = fitting(&chains, &world.records(), &world.trust);
    assert_eq!(fit, chain);
    assert!(world.check(&fit).is_ok());

    let none = |world: &World| {
        fitting(std::slice::from_ref(&good), &world.records(), &world.trust).is_empty()
    };
    // Whose clock was ahead, so that the SVID had ended.
    world.sessions = vec![0, 4_000];
    assert!(none(&world));
    world.sessions = vec![0];
    world.trust.x509_authorities = vec![other.root.certificate().to_vec()];
    assert!(none(&world));
    world.trust.x509_authorities.clear();
    assert!(none(&world));
}
