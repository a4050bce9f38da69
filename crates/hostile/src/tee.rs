//! What confidential machines present. Real reports are affirmed at their own time, and nothing else is
//! affirmed in their place.

use crate::seeds;
use attest_tee::azure::Hcl;
use attest_tee::intel::{Body, Collateral, CollateralBytes, Quote, Roots, TcbPolicy, TcbStatus};
use attest_tee::snp::{Generation, Policy, Report, Tcb};
use attest_tee::{Code, Revocation, nitro, sgx, snp, tdx};
use crypto::hex;
use facts::{Outcome, Timestamp, Verdict};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// A verdict with findings states no facts, and one without states some.
fn is_affirmed(verdict: &Verdict) -> bool {
    let affirmed = verdict.outcome() == Outcome::Affirmed;
    assert_eq!(affirmed, verdict.findings.is_empty());
    assert_eq!(affirmed, !verdict.facts.is_empty());
    affirmed
}

/// 1 January 2024.
const SNP_TIME: Timestamp = seeds::at(1_704_067_200);
/// 21 June 2025.
const TDX_TIME: Timestamp = seeds::at(1_750_464_000);

struct Snp {
    report: Vec<u8>,
    key: Vec<u8>,
    references: snp::References,
}

static SNP: LazyLock<Option<Snp>> = LazyLock::new(|| {
    let generations = Generation::ALL.into_iter();
    let one = Snp {
        report: seeds::file("snp/trustee-milan-report.bin")?,
        key: seeds::file("snp/trustee-milan-vcek.der")?,
        references: snp::References {
            roots: snp::Roots::amd().ok()?,
            revocation: Revocation::IfPresent,
            generations: generations.map(|one| (one, Tcb::default())).collect(),
            code: Code::LeftToPolicy,
            policy: Policy::default(),
        },
    };
    assert!(
        is_affirmed(&one.judge(&one.report)),
        "a recorded report is good"
    );
    Some(one)
});

impl Snp {
    fn judge(&self, report: &[u8]) -> Verdict {
        let evidence = snp::Evidence {
            report,
            key: &self.key,
            crl: None,
        };
        let report_data = Report::parse(report).map_or([0; 64], |report| report.report_data);
        let expected = snp::Expectation {
            report_data,
            now: SNP_TIME,
        };
        snp::verify(&evidence, &expected, &self.references)
    }
}

/// An SEV-SNP report: only the one that the chip signed is affirmed.
pub(crate) fn snp(bytes: &[u8]) {
    let _refused = snp::certificates(bytes);
    if let Some(good) = &*SNP {
        let affirmed = is_affirmed(&good.judge(bytes));
        assert!(
            !affirmed || bytes == good.report,
            "a report that no chip made"
        );
    } else {
        let _refused = Report::parse(bytes);
    }
}

pub(crate) fn snp_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::folder("snp", "-report.bin");
    let hex = seeds::text("snp/virtee-milan-report.hex");
    all.extend(hex.and_then(|text| hex::decode(text.trim()).ok()));
    all.extend(seeds::folder("snp", "vcek.der"));
    let mut made = vec![0; 1184];
    made[0] = 3;
    all.push(made);
    all
}

struct Tdx {
    quote: Vec<u8>,
    collateral: Collateral,
    references: tdx::References,
}

static TDX: LazyLock<Option<Tdx>> = LazyLock::new(|| {
    let bytes = collateral("tdx/phala/tdx_quote_collateral.json")?;
    let roots = Roots::intel().ok()?;
    let one = Tdx {
        quote: seeds::file("tdx/phala/tdx_quote")?,
        collateral: Collateral::open(&bytes, &roots).expect("recorded collateral is good"),
        references: tdx::References {
            roots,
            tcb: TcbPolicy {
                accepted: TcbStatus::PUBLISHED.into_iter().collect::<BTreeSet<_>>(),
                minimum_evaluation: 0,
            },
            code: Code::LeftToPolicy,
            ..tdx::References::default()
        },
    };
    assert!(
        is_affirmed(&one.judge(&one.quote)),
        "a recorded quote is good"
    );
    Some(one)
});

impl Tdx {
    fn judge(&self, quote: &[u8]) -> Verdict {
        let expected = tdx::Expectation {
            report_data: report_data(quote).unwrap_or([0; 64]),
            now: TDX_TIME,
        };
        let evidence = tdx::Evidence {
            quote,
            event_log: None,
        };
        tdx::verify(&evidence, &self.collateral, &expected, &self.references)
    }
}

fn report_data(quote: &[u8]) -> Option<[u8; 64]> {
    match Quote::parse(quote).ok()?.body {
        Body::Td(report) => Some(report.report_data),
        Body::Enclave(_) => None,
    }
}

/// As dcap-qvl keeps it: the signed JSON apart from its signature.
fn collateral(name: &str) -> Option<CollateralBytes> {
    let json = seeds::json(name)?;
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let bytes = |name: &str| hex::decode(&text(name)?).ok();
    let signed = |member: &str, name: &str| {
        let signature = text(&format!("{name}_signature"))?;
        Some(format!(
            "{{\"{member}\":{},\"signature\":\"{signature}\"}}",
            text(name)?
        ))
    };
    Some(CollateralBytes {
        tcb_info: signed("tcbInfo", "tcb_info")?,
        qe_identity: signed("enclaveIdentity", "qe_identity")?,
        signing_chain: text("tcb_info_issuer_chain")?,
        pck_crl: bytes("pck_crl")?,
        pck_crl_chain: text("pck_crl_issuer_chain")?,
        root_crl: bytes("root_ca_crl")?,
    })
}

/// A quote of TDX or SGX: affirmed only with the body that the quoting enclave signed. Its chain is text,
/// which has more than one spelling.
pub(crate) fn tdx(bytes: &[u8]) {
    let parsed = Quote::parse(bytes);
    let _refused = tdx::replay(bytes);
    let (Ok(parsed), Some(good)) = (parsed, &*TDX) else {
        return;
    };
    if is_affirmed(&good.judge(bytes)) {
        let signed = Quote::parse(&good.quote).expect("recorded");
        assert!(parsed.body == signed.body, "a quote that no enclave made");
    }
}

pub(crate) fn tdx_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::files(&[
        "tdx/phala/tdx_quote",
        "tdx/phala/sgx_quote",
        "tdx/quote_v5_sample.dat",
        "tdx/sgx_occlum_quote.dat",
        "azure/tdx-vtpm/td-quote.bin",
        "tdx/ccel_ovmf.dat",
    ]);
    let mut made = vec![0; 1024];
    made[..4].copy_from_slice(&[4, 0, 2, 0]);
    made[4] = 0x81;
    all.push(made);
    all
}

struct Sgx {
    quote: Vec<u8>,
    collateral: Collateral,
    references: sgx::References,
}

static SGX: LazyLock<Option<Sgx>> = LazyLock::new(|| {
    let bytes = collateral("tdx/phala/sgx_quote_collateral.json")?;
    let roots = Roots::intel().ok()?;
    let one = Sgx {
        quote: seeds::file("tdx/phala/sgx_quote")?,
        collateral: Collateral::open(&bytes, &roots).expect("recorded collateral is good"),
        references: sgx::References {
            roots,
            tcb: TcbPolicy {
                accepted: TcbStatus::PUBLISHED.into_iter().collect::<BTreeSet<_>>(),
                minimum_evaluation: 0,
            },
            code: Code::LeftToPolicy,
        },
    };
    assert!(
        is_affirmed(&one.judge(&one.quote)),
        "a recorded quote is good"
    );
    Some(one)
});

impl Sgx {
    fn judge(&self, quote: &[u8]) -> Verdict {
        let report_data = match Quote::parse(quote).map(|quote| quote.body) {
            Ok(Body::Enclave(report)) => report.report_data,
            _ => [0; 64],
        };
        let expected = sgx::Expectation {
            report_data,
            now: TDX_TIME,
        };
        sgx::verify(quote, &self.collateral, &expected, &self.references)
    }
}

/// An enclave's quote: affirmed only with the body that the quoting enclave signed, and never as a trust
/// domain's.
pub(crate) fn sgx(bytes: &[u8]) {
    let (Ok(parsed), Some(good)) = (Quote::parse(bytes), &*SGX) else {
        return;
    };
    if is_affirmed(&good.judge(bytes)) {
        let signed = Quote::parse(&good.quote).expect("recorded");
        assert!(parsed.body == signed.body, "a quote that no enclave made");
        if let Some(domain) = &*TDX {
            assert!(!is_affirmed(&domain.judge(bytes)), "taken for another kind");
        }
    }
}

pub(crate) fn sgx_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::files(&["tdx/phala/sgx_quote", "tdx/sgx_occlum_quote.dat"]);
    let mut made = vec![0; 1024];
    made[..4].copy_from_slice(&[3, 0, 2, 0]);
    all.push(made);
    all
}

struct Nitro {
    document: Vec<u8>,
    expected: nitro::Expectation,
    references: nitro::References,
}

static NITRO: LazyLock<Option<Nitro>> = LazyLock::new(|| {
    let document = seeds::file("nitro/yawn-attestation.cose")?;
    let said = nitro::Document::parse(&document).expect("a recorded document");
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let expected = nitro::Expectation {
        nonce: owned(said.nonce),
        user_data: owned(said.user_data),
        public_key: owned(said.public_key),
        max_age: 60,
        now: said.timestamp.plus_secs(1),
    };
    let references = nitro::References {
        roots: nitro::Roots::aws().ok()?,
        code: Code::LeftToPolicy,
    };
    let verdict = nitro::verify(&document, &expected, &references);
    assert!(is_affirmed(&verdict), "a recorded document is good");
    Some(Nitro {
        document,
        expected,
        references,
    })
});

/// A Nitro document in `COSE_Sign1`: what is read lies within it, and only what was signed is affirmed.
pub(crate) fn nitro(bytes: &[u8]) {
    if let Ok(document) = nitro::Document::parse(bytes) {
        let parts = [document.nonce, document.user_data, document.public_key];
        let held: usize = parts.into_iter().flatten().map(<[u8]>::len).sum();
        assert!(held + document.module_id.len() + 48 * document.pcrs.len() <= bytes.len());
    }
    if let Some(good) = &*NITRO {
        let verdict = nitro::verify(bytes, &good.expected, &good.references);
        let affirmed = is_affirmed(&verdict);
        assert!(
            !affirmed || bytes == good.document,
            "a document that nobody signed"
        );
    }
}

pub(crate) fn nitro_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::folder("nitro", ".cose");
    all.extend(seeds::folder("nitro", ".bin"));
    all.extend(seeds::folder("corim", ".cbor"));
    // An empty document under an empty header.
    all.push(
        [
            &[
                0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x41, 0xa0, 0x58, 96,
            ][..],
            &[7; 96],
        ]
        .concat(),
    );
    all
}

/// A paravisor's report: what is read lies within it, and the hardware has to have signed its digest.
pub(crate) fn hcl(bytes: &[u8]) {
    let Ok(report) = Hcl::parse(bytes) else {
        return;
    };
    assert!(report.report.len() + report.runtime.len() <= bytes.len());
    let digest = crypto::sha256(report.runtime);
    assert_eq!(report.report_data()[..32], digest);
    assert_eq!(report.report_data()[32..], [0; 32]);
    if report.kind == attest_tee::azure::Kind::Snp {
        snp(report.report);
    }
}

pub(crate) fn hcl_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::folder("azure", "hcl-report-snp.bin");
    all.extend(seeds::files(&[
        "azure/kinvolk-hcl-report-tdx.bin",
        "azure/snp-vtpm/hcl-report.bin",
        "azure/tdx-vtpm/hcl-report.bin",
    ]));
    all.push([b"HCLA".as_slice(), &[0; 1500]].concat());
    all
}
