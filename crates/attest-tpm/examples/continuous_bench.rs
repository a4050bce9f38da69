//! What a machine costs that proves itself by its TPM, on one core.
//!
//! - `attest.tpm_full_per_s`: a quote, an event log of 30 KB and an IMA list of 5,000 entries, verified and
//!   judged a second: what a join brings, its key and channel apart.
//! - `attest.ima_incremental_per_s`: answers of machines that go on attesting, each with one new entry.
//!
//! Each stands beside the bare P-256 check of the quote's signature in the same run. The reference values
//! hold 50,000 files. Prints one JSON line a row; exits 1 when something is not judged as it should be.
//! `--quick` measures less.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops at the first surprise"
)]

use attest_tpm::PcrSelection;
use attest_tpm::boot;
use attest_tpm::continuous::{Answer, Standing, verify};
use attest_tpm::eventlog::{Kind as Event, Log};
use attest_tpm::ima::{File, Kind, References, Sent, round};
use attest_tpm::reference::Value;
use attest_tpm::structure::verify_quote;
use crypto::{Hash, Signer as _, sha256};
use facts::{Source, Timestamp};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};
use testkit::chip::{Chip, event_log};

const FULL: &str = "attest.tpm_full_per_s";
const INCREMENTAL: &str = "attest.ima_incremental_per_s";
const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);
const PCRS: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
const FILES: u32 = 50_000;
const ENTRIES: u32 = 5_000;
const LOG: usize = 30_000;
const WHAT: &str = "P-256 signatures checked/s, same core and run";

fn main() -> ExitCode {
    let Ok(plan) = Plan::from_arguments() else {
        return ExitCode::FAILURE;
    };
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
    let mut good = true;
    if plan.wants(FULL) {
        good &= full(&references, time);
    }
    if plan.wants(INCREMENTAL) {
        good &= incremental(&references, time);
    }
    ExitCode::from(u8::from(!good))
}

/// All that a quote vouches for.
fn full(references: &References, time: Duration) -> bool {
    let mut chip = Chip::new().unwrap();
    let mut log = event_log();
    for number in 0_u32.. {
        if log.len() > LOG {
            break;
        }
        // Some are of variables, as most of a real log is.
        let data = [number.to_be_bytes().as_slice(), &[7; 200]].concat();
        chip.boot_event(&mut log, number % 8, Event::IPL.0, &data);
    }
    chip.start_kernel();
    for number in 1..ENTRIES {
        run(&mut chip, number);
    }
    let quote = chip.quote(&[7; 32]).unwrap();
    let selection = PcrSelection::new(&PCRS).unwrap();
    let key = chip.key().public_key();
    let list = chip.list_from(0);
    let judge = |log: &[u8], list: &[u8]| -> Option<u64> {
        let (attested, signature) = (black_box(&quote.attested), &quote.signature);
        let quoted = verify_quote(
            attested,
            signature,
            key,
            &[7; 32],
            &selection,
            &quote.values,
        )
        .ok()?;
        let log = Log::parse(log).ok()?;
        let booted = boot::verify(&log, &quoted.pcrs).ok()?;
        let sent = Sent { first: 0, list };
        let listed = round(sent, &quoted, None, Some(references), NOW).ok()?;
        let facts = booted.facts(Source::Hardware, NOW).iter().count();
        let more = listed.facts(Source::Hardware, NOW).iter().count();
        let entries = listed.progress()?.entries();
        (facts > 0 && more > 0).then_some(entries)
    };
    let bare = || key.verify(black_box(&quote.attested), &quote.der).unwrap();
    let (before, mut good) = (per_second(time / 4, bare), true);
    let ours = per_second(time, || {
        good &= judge(&log, &list) == Some(u64::from(ENTRIES));
    });
    let bare = f64::midpoint(before, per_second(time / 4, bare));
    row(FULL, ours, "machines/s", Some((bare, WHAT))).unwrap();
    // Another digest in the log, and a file that is not listed, are seen.
    let mut other = log.clone();
    other[90] ^= 1;
    good &= judge(&other, &list).is_none();
    let mut evil = list.clone();
    let last = evil.len() - 20;
    evil[last] ^= 1;
    good && judge(&log, &evil).is_none()
}

/// One new entry of the list.
fn incremental(references: &References, time: Duration) -> bool {
    let mut chip = Chip::booted().unwrap();
    for number in 0..200 {
        run(&mut chip, number);
    }
    let selection = PcrSelection::new(&PCRS).unwrap();
    let judge = |answer: &Answer, before: &Standing| {
        verify(answer, &[7; 32], &selection, before, Some(references), NOW)
    };
    let kept = chip.quote(&[0; 32]).unwrap();
    let stands = Standing::kept(&chip.public(), &kept.attested, &kept.values.concat()).unwrap();
    let (before, _) = judge(&answer(&chip, 0).0, &stands).unwrap();
    let known = chip.list().len();
    run(&mut chip, 200);
    let (grown, der) = answer(&chip, known);
    let key = chip.key().public_key();
    let bare = || key.verify(black_box(&grown.quote), &der).unwrap();
    let (bare_before, mut good) = (per_second(time / 4, bare), true);
    let ours = per_second(time, || {
        let judged = judge(black_box(&grown), &before);
        good &= judged.is_ok_and(|(after, round)| {
            round.fresh() == 1 && after.list().is_some_and(|list| list.entries() == 202)
        });
    });
    let bare = f64::midpoint(bare_before, per_second(time / 4, bare));
    row(INCREMENTAL, ours, "answers/s", Some((bare, WHAT))).unwrap();
    chip.measure("/tmp/evil", [1; 32]);
    good && judge(&answer(&chip, known).0, &before).is_err()
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

fn run(chip: &mut Chip, number: u32) {
    let path = format!("/usr/lib/x86_64-linux-gnu/lib{number}.so");
    chip.measure(&path, content(number));
}

/// The answer with the list from entry `first` on, and its signature as DER.
fn answer(chip: &Chip, first: usize) -> (Answer, Vec<u8>) {
    let quote = chip.quote(&[7; 32]).unwrap();
    let answer = Answer {
        quote: quote.attested,
        quote_signature: quote.signature,
        pcr_values: quote.values,
        ima_first: u64::try_from(first).unwrap(),
        ima_list: chip.list_from(first),
    };
    (answer, quote.der)
}
