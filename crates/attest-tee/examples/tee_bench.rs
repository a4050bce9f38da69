//! Measures verifications of recorded evidence a second on one core: SEV-SNP (`attest.snp_per_s`), TDX
//! (`attest.tdx_per_s`) and Nitro (`attest.nitro_per_s`), each beside the bare signature checks that it
//! cannot do without, in the same run. Prints one JSON object a line; exits 1 when a verdict is not
//! what it should be. `--quick` measures less.
//!
//! Everything is done anew each time, from the bytes that a machine and a bundle bring; a row beside
//! the figures keeps Intel's collateral open, as a server does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a benchmark stops at the first surprise"
)]

use attest_tee::intel::{Body, Collateral, CollateralBytes, Quote};
use attest_tee::snp::{Generation, Report, Tcb};
use attest_tee::{Code, Revocation, intel, nitro, snp, tdx};
use crypto::chain::{self, Hash, Kind};
use crypto::{KeyPair, Signer as _};
use facts::{Outcome, Timestamp, Verdict};
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};

/// 2025-06-21, when the recorded collateral counted; the VCEK is valid then too.
const JUNE_2025: Timestamp = Timestamp::from_secs(1_750_464_000);

fn main() -> ExitCode {
    let (Ok(plan), Some(all)) = (Plan::from_arguments(), testkit::evidence()) else {
        let usage = "[--only ID]... [--quick]; TRILITH_EVIDENCE names the folder of evidence";
        std::io::Write::write_all(&mut std::io::stderr(), usage.as_bytes()).unwrap();
        return ExitCode::FAILURE;
    };
    let time = Duration::from_millis(if plan.quick { 200 } else { 3000 });
    let mut good = true;
    if plan.wants("attest.snp_per_s") {
        good &= bench_snp(&all, time);
    }
    if plan.wants("attest.tdx_per_s") {
        good &= bench_tdx(&all, time);
    }
    if plan.wants("attest.nitro_per_s") {
        good &= bench_nitro(&all, time);
    }
    ExitCode::from(u8::from(!good))
}

fn read(all: &Path, name: &str) -> Vec<u8> {
    std::fs::read(all.join(name)).unwrap()
}

/// How often `once` runs in a second, on this core.
fn per_second(time: Duration, mut once: impl FnMut()) -> f64 {
    for _ in 0..3 {
        once();
    }
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < time {
        once();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Verdicts a second, the bare checks before and after them; false if a verdict is not affirmed.
fn compare(
    id: &str,
    time: Duration,
    judge: impl Fn() -> Verdict,
    bare: impl Fn(),
    what: &str,
) -> bool {
    if judge().outcome() != Outcome::Affirmed {
        return false;
    }
    let before = per_second(time / 4, &bare);
    let mut good = true;
    let ours = per_second(time, || good &= judge().outcome() == Outcome::Affirmed);
    let after = per_second(time / 4, &bare);
    let reference = f64::midpoint(before, after);
    row(id, ours, "verifications/s", Some((reference, what))).unwrap();
    good
}

fn bench_snp(all: &Path, time: Duration) -> bool {
    let report = read(all, "snp/trustee-milan-report.bin");
    let key = read(all, "snp/trustee-milan-vcek.der");
    let references = snp::References {
        roots: snp::Roots::amd().unwrap(),
        revocation: Revocation::IfPresent,
        generations: vec![(Generation::Milan, Tcb::default())],
        code: Code::LeftToPolicy,
        ..snp::References::default()
    };
    let expected = snp::Expectation {
        report_data: Report::parse(&report).unwrap().report_data,
        now: JUNE_2025,
    };
    let evidence = snp::Evidence {
        report: &report,
        key: &key,
        crl: None,
    };
    let chain = attest::x509::pem(include_str!("../data/amd/milan.pem")).unwrap();
    let issuer = attest::x509::parse(&chain[0]).unwrap();
    let certificate = attest::x509::parse(&key).unwrap();
    let mut signature = Vec::new();
    for number in [&report[0x2a0..0x2d0], &report[0x2e8..0x318]] {
        signature.extend(number.iter().rev());
    }
    compare(
        "attest.snp_per_s",
        time,
        || snp::verify(&evidence, &expected, &references),
        || {
            chain::verify(
                Kind::RsaPss,
                Hash::Sha384,
                &issuer.public_key().subject_public_key.data,
                certificate.tbs_certificate.as_ref(),
                &certificate.signature_value.data,
            )
            .unwrap();
            let point = &certificate.public_key().subject_public_key.data;
            chain::verify_fixed(Kind::P384, point, &report[..0x2a0], &signature).unwrap();
        },
        "one RSA-PSS 4096 and one P-384 check",
    )
}

fn collateral(all: &Path) -> CollateralBytes {
    let text = read(all, "tdx/phala/tdx_quote_collateral.json");
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    let bytes = |name: &str| crypto::hex::decode(&text(name)).unwrap();
    let signed = |member: &str, name: &str| {
        let (body, signature) = (text(name), text(&format!("{name}_signature")));
        format!("{{\"{member}\":{body},\"signature\":\"{signature}\"}}")
    };
    CollateralBytes {
        tcb_info: signed("tcbInfo", "tcb_info"),
        qe_identity: signed("enclaveIdentity", "qe_identity"),
        signing_chain: text("tcb_info_issuer_chain"),
        pck_crl: bytes("pck_crl"),
        pck_crl_chain: text("pck_crl_issuer_chain"),
        root_crl: bytes("root_ca_crl"),
    }
}

fn bench_tdx(all: &Path, time: Duration) -> bool {
    let quote = read(all, "tdx/phala/tdx_quote");
    let Body::Td(report) = Quote::parse(&quote).unwrap().body else {
        return false;
    };
    let bytes = collateral(all);
    let references = tdx::References {
        roots: intel::Roots::intel().unwrap(),
        code: Code::LeftToPolicy,
        ..tdx::References::default()
    };
    let expected = tdx::Expectation {
        report_data: report.report_data,
        now: JUNE_2025,
    };
    let evidence = tdx::Evidence {
        quote: &quote,
        event_log: None,
    };
    let open = || Collateral::open(&bytes, &references.roots).unwrap();
    let check = bare(Kind::P256);
    let whole = compare(
        "attest.tdx_per_s",
        time,
        || tdx::verify(&evidence, &open(), &expected, &references),
        || (0..9).for_each(|_| check()),
        "nine P-256 checks",
    );
    let kept = open();
    whole
        & compare(
            "attest.tdx_kept_collateral_per_s",
            time,
            || tdx::verify(&evidence, &kept, &expected, &references),
            || (0..3).for_each(|_| check()),
            "three P-256 checks",
        )
}

fn bench_nitro(all: &Path, time: Duration) -> bool {
    let bytes = read(all, "nitro/yawn-attestation.cose");
    let document = nitro::Document::parse(&bytes).unwrap();
    let references = nitro::References {
        roots: nitro::Roots::aws().unwrap(),
        code: Code::LeftToPolicy,
    };
    let expected = nitro::Expectation {
        nonce: None,
        user_data: None,
        public_key: document.public_key.map(<[u8]>::to_vec),
        max_age: 60,
        now: document.timestamp,
    };
    let check = bare(Kind::P384);
    compare(
        "attest.nitro_per_s",
        time,
        || nitro::verify(&bytes, &expected, &references),
        || (0..5).for_each(|_| check()),
        "five P-384 checks",
    )
}

/// One check of a signature over a certificate's worth of bytes, the key parsed each time as a
/// verifier has to.
fn bare(kind: Kind) -> impl Fn() {
    let (algorithm, hash) = match kind {
        Kind::P384 => (crypto::Algorithm::EcdsaP384, Hash::Sha384),
        _ => (crypto::Algorithm::EcdsaP256, Hash::Sha256),
    };
    let key = KeyPair::generate(algorithm).unwrap();
    let message = vec![7; 600];
    let signature = key.sign(&message).unwrap();
    move || {
        let point = black_box(key.public_key().raw());
        chain::verify(kind, hash, point, &message, &signature).unwrap();
    }
}
