//! Bytes from nowhere and near misses: nothing panics, nothing is affirmed.

use crate::der::Certificate;
use crate::forge_intel::{self, Platform};
use crate::forge_nitro::Enclave;
use crate::forge_snp::Machine;
use attest_tee::azure::Hcl;
use attest_tee::intel::{Collateral, CollateralBytes, Quote, Roots, platform};
use attest_tee::nitro::Document;
use attest_tee::snp::{Generation, Report, certificates};
use attest_tee::{Bundle, nitro, snp, tdx};
use facts::{Outcome, Verdict};
use proptest::prelude::*;
use std::sync::LazyLock;

static PLATFORM: LazyLock<Platform> = LazyLock::new(|| Platform::tdx(5));
type Judge = Box<dyn Fn(&[u8], Option<&[u8]>) -> Verdict + Send + Sync>;
static JUDGE: LazyLock<Judge> = LazyLock::new(|| Box::new(PLATFORM.judge_of()));
static QUOTE: LazyLock<Vec<u8>> = LazyLock::new(|| PLATFORM.quote());
static ENCLAVE: LazyLock<Enclave> = LazyLock::new(Enclave::new);
static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| ENCLAVE.document());
static ROOTS: LazyLock<Roots> = LazyLock::new(|| PLATFORM.roots());
static MACHINE: LazyLock<Machine> = LazyLock::new(|| Machine::new(Generation::Turin));
static REPORT: LazyLock<Vec<u8>> = LazyLock::new(|| MACHINE.signed_report());
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| MACHINE.key_certificate());
static LIST: LazyLock<Vec<u8>> = LazyLock::new(|| MACHINE.crl().unwrap());

/// Valid structures with some bytes replaced get further into a parser than noise does.
fn mutated(valid: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    (
        prop::collection::vec((0..valid.len(), any::<u8>()), 0..6),
        0..=valid.len(),
        prop::collection::vec(any::<u8>(), 0..8),
        any::<bool>(),
    )
        .prop_map(|(changes, cut, tail, whole)| {
            let mut bytes = valid.to_vec();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if !whole {
                bytes.truncate(cut);
                bytes.extend(tail);
            }
            bytes
        })
}

pub(crate) fn read_all(bytes: &[u8]) {
    drop(Report::parse(bytes));
    drop(certificates(bytes));
    drop(Quote::parse(bytes));
    drop(platform(bytes, &Roots::default(), forge_intel::now()));
    drop(Document::parse(bytes));
    drop(Hcl::parse(bytes));
    drop(Bundle::parse(bytes));
    drop(tdx::replay(bytes));
    drop(attest::x509::parse(bytes));
    drop(attest::x509::parse_list(bytes));
    let text = String::from_utf8_lossy(bytes);
    drop(attest::x509::pem(&text));
    drop(snp::Roots::default().add(Generation::Milan, &text));
    drop(nitro::Roots::from_pem(&text));
    let collateral = CollateralBytes {
        tcb_info: text.clone().into_owned(),
        qe_identity: text.clone().into_owned(),
        signing_chain: text.clone().into_owned(),
        pck_crl_chain: text.into_owned(),
        pck_crl: bytes.to_vec(),
        root_crl: bytes.to_vec(),
    };
    assert!(Collateral::open(&collateral, &ROOTS).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn readers_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        read_all(&bytes);
    }

    #[test]
    fn readers_survive_near_misses_of_quotes(bytes in mutated(&QUOTE)) {
        read_all(&bytes);
        let verdict = JUDGE(&bytes, None);
        // Zeros after its end, and a chain spelled otherwise, are the same quote.
        let same = verdict.outcome() == Outcome::Affirmed;
        prop_assert!(!same || Quote::parse(&bytes).is_ok());
    }

    #[test]
    fn readers_survive_near_misses_of_documents(bytes in mutated(&DOCUMENT)) {
        read_all(&bytes);
        let verdict = ENCLAVE.judge_document(&bytes);
        prop_assert_eq!(verdict.outcome() == Outcome::Affirmed, bytes == *DOCUMENT);
    }

    #[test]
    fn readers_survive_near_misses_of_reports_and_keys(
        report in mutated(&REPORT),
        key in mutated(&KEY),
        list in mutated(&LIST),
    ) {
        read_all(&key);
        read_all(&list);
        let good = report == *REPORT && key == *KEY && list == *LIST;
        let references = snp::References { roots: MACHINE.roots(), ..MACHINE.references.clone() };
        let evidence = snp::Evidence { report: &report, key: &key, crl: Some(&list) };
        let verdict = snp::verify(&evidence, &MACHINE.expectation, &references);
        prop_assert_eq!(verdict.outcome() == Outcome::Affirmed, good);
    }

    #[test]
    fn collateral_of_other_shapes_is_refused(
        text in "(\\{|\\}|\\[|\\]|\"tcbInfo\"|\"enclaveIdentity\"|\"signature\"|:|,|\"00\"|[0-9]|null){0,40}"
    ) {
        let mut bytes = PLATFORM.collateral();
        bytes.tcb_info.clone_from(&text);
        prop_assert!(Collateral::open(&bytes, &PLATFORM.roots()).is_err());
        let mut bytes = PLATFORM.collateral();
        bytes.qe_identity = text;
        prop_assert!(Collateral::open(&bytes, &PLATFORM.roots()).is_err());
    }
}

/// What an extension that only vendors write may hold, around the shapes that it has.
#[test]
fn extensions_of_every_length_are_read_or_refused() {
    let (oid, critical, value) = forge_intel::sgx_extension([5; 16], 300, [0xf0; 6]);
    for cut in 0..value.len() {
        let mut one = Platform::tdx(4);
        one.pck.extensions = vec![(oid.clone(), critical, value[..cut].to_vec())];
        assert!(platform(&one.quote(), &one.roots(), forge_intel::now()).is_err());
    }
    let mut twice = Certificate::leaf("x", "x", 1);
    twice.extensions = vec![(oid.clone(), false, value.clone()), (oid, false, value)];
    let der = twice.sign(&forge_intel::PCK, &forge_intel::PCK);
    assert_eq!(
        attest::x509::parse(&der).map(drop),
        Err("an extension twice")
    );
}
