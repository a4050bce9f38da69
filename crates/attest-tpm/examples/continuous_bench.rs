//! `attest.ima_incremental_per_s`: answers of machines that go on attesting, verified and judged a second on
//! one core, each with one new entry of its IMA list, beside the bare P-256 check of the quote's signature
//! in the same run. The reference values hold 50,000 files. Prints one JSON line; exits 1 when an answer is
//! not judged as it should be. `--quick` measures less.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

use attest_tpm::PcrSelection;
use attest_tpm::continuous::{Answer, Standing, verify};
use attest_tpm::ima::{File, Kind, References};
use attest_tpm::reference::Value;
use crypto::{Algorithm, Hash, KeyPair, Signer as _, sha256};
use facts::Timestamp;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};

const ID: &str = "attest.ima_incremental_per_s";
const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);
const PCRS: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
const FILES: u32 = 50_000;

fn main() -> ExitCode {
    let Ok(plan) = Plan::from_arguments() else {
        return ExitCode::FAILURE;
    };
    if !plan.wants(ID) {
        return ExitCode::SUCCESS;
    }
    let time = Duration::from_millis(if plan.quick { 200 } else { 3000 });
    let references = References::new((0..FILES).map(|number| {
        let file = File {
            kind: Kind::Content,
            hash: Hash::Sha256,
            digest: content(number).to_vec(),
            path: None,
        };
        Value::new(file, "package 1.0", "a release")
    }));
    let mut machine = Machine::boot();
    for number in 0..200 {
        machine.run(number);
    }
    let selection = PcrSelection::new(&PCRS).unwrap();
    let judge = |answer: &Answer, nonce: &[u8; 32], before: &Standing| {
        verify(answer, nonce, &selection, before, Some(&references), NOW)
    };
    let (answer, nonce, _) = machine.answer(0);
    let (before, _) = judge(&answer, &nonce, &machine.stands()).unwrap();
    let known = machine.list.len();
    machine.run(200);
    let (answer, nonce, der) = machine.answer(known);

    let bare = || {
        let key = machine.key.public_key();
        key.verify(black_box(&answer.quote), &der).unwrap();
    };
    let (bare_before, mut good) = (per_second(time / 4, bare), true);
    let ours = per_second(time, || {
        let judged = judge(black_box(&answer), &nonce, &before);
        good &= judged.is_ok_and(|(after, round)| {
            round.fresh() == 1 && after.list().is_some_and(|list| list.entries() == 202)
        });
    });
    let bare = f64::midpoint(bare_before, per_second(time / 4, bare));
    let what = "P-256 signatures checked/s, same core and run";
    row(ID, ours, "answers/s", Some((bare, what))).unwrap();
    machine.list.pop();
    machine.measure("/tmp/evil", [1; 32]);
    let (evil, nonce, _) = machine.answer(known);
    good &= judge(&evil, &nonce, &before).is_err();
    ExitCode::from(u8::from(!good))
}

fn per_second(time: Duration, mut once: impl FnMut()) -> f64 {
    for _ in 0..3 {
        once();
    }
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        once();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn content(number: u32) -> [u8; 32] {
    sha256(&number.to_be_bytes())
}

/// A chip of software, and the list of its kernel.
struct Machine {
    key: KeyPair,
    pcr_10: [u8; 32],
    list: Vec<Vec<u8>>,
}

impl Machine {
    fn boot() -> Self {
        let mut machine = Self {
            key: KeyPair::generate(Algorithm::EcdsaP256).unwrap(),
            pcr_10: [0; 32],
            list: Vec::new(),
        };
        machine.measure("boot_aggregate", sha256(&[0; 320]));
        machine
    }

    fn run(&mut self, number: u32) {
        self.measure(
            &format!("/usr/lib/x86_64-linux-gnu/lib{number}.so"),
            content(number),
        );
    }

    fn measure(&mut self, path: &str, digest: [u8; 32]) {
        let mut data = Vec::new();
        for field in [
            [b"sha256:\0".as_slice(), &digest].concat(),
            format!("{path}\0").into_bytes(),
            Vec::new(),
        ] {
            data.extend(u32::try_from(field.len()).unwrap().to_le_bytes());
            data.extend(field);
        }
        let mut entry = 10_u32.to_le_bytes().to_vec();
        entry.extend(Hash::Sha1.digest(&[&data]));
        entry.extend(7_u32.to_le_bytes());
        entry.extend(b"ima-sig");
        entry.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        entry.extend(&data);
        self.pcr_10 = sha256(&[self.pcr_10, sha256(&data)].concat());
        self.list.push(entry);
    }

    fn values(&self) -> Vec<Vec<u8>> {
        let value = |pcr: u32| if pcr == 10 { self.pcr_10 } else { [0; 32] };
        PCRS.iter().map(|pcr| value(*pcr).to_vec()).collect()
    }

    /// `TPMS_ATTEST`
    fn quote(&self, nonce: &[u8; 32]) -> Vec<u8> {
        [
            &0xff54_4347_u32.to_be_bytes()[..],
            &0x8018_u16.to_be_bytes(),
            &sized(b"signer"),
            &sized(nonce),
            &[0; 8],
            &7_u32.to_be_bytes(),
            &0_u32.to_be_bytes(),
            &[1],
            &[0; 8],
            &1_u32.to_be_bytes(),
            &[0, 0x0b, 3, 0xff, 0x7f, 0],
            &sized(&sha256(&self.values().concat())),
        ]
        .concat()
    }

    fn stands(&self) -> Standing {
        let (x, y) = self.key.public_key().xy().unwrap();
        let public = [
            &[0, 0x23, 0, 0x0b][..],
            // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
            &0x0005_0072_u32.to_be_bytes(),
            &[0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10],
            &sized(x),
            &sized(y),
        ]
        .concat();
        Standing::kept(&public, &self.quote(&[0; 32]), &self.values().concat()).unwrap()
    }

    /// The answer with the list from entry `first` on, its nonce, and the signature as DER.
    fn answer(&self, first: usize) -> (Answer, [u8; 32], Vec<u8>) {
        let nonce = [7; 32];
        let quote = self.quote(&nonce);
        let der = self.key.sign(&quote).unwrap();
        let r_length = usize::from(der[3]);
        let unsigned = |number: &[u8]| sized(number.strip_prefix(&[0]).unwrap_or(number));
        let answer = Answer {
            quote_signature: [
                &[0, 0x18, 0, 0x0b][..],
                &unsigned(&der[4..4 + r_length]),
                &unsigned(&der[6 + r_length..]),
            ]
            .concat(),
            quote,
            pcr_values: self.values(),
            ima_first: u64::try_from(first).unwrap(),
            ima_list: self.list[first..].concat(),
        };
        (answer, nonce, der)
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
