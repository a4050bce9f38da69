//! Event logs of confidential machines.

use crate::evidence::{folder, outcome};
use crate::forge_intel::with_registers;
use attest_tee::intel::{Body, Quote};
use attest_tee::tdx::replay;
use expect_test::expect;

#[test]
fn a_recorded_log_gives_the_registers_of_its_quote() {
    let Some(all) = folder("attest_tee::ccel", &["tdx"]) else {
        return;
    };
    let log = all.read("tdx/cos-113/ccel_data.dat");
    let quote = all.read("tdx/cos-113/quote.dat");
    let Body::Td(report) = Quote::parse(&quote).unwrap().body else {
        panic!("a trust domain's");
    };
    assert_eq!(replay(&log).unwrap(), report.rtmr);
    // Every byte of a digest counts; what the events say is not read.
    let mut changed = log[..18_101].to_vec();
    assert_eq!(replay(&changed).unwrap(), report.rtmr);
    let mut noticed = 0;
    for at in 0..changed.len() {
        changed[at] ^= 1;
        noticed += usize::from(replay(&changed).ok() != Some(report.rtmr));
        changed[at] ^= 1;
    }
    let extending = 43;
    assert!(noticed > extending * 48, "{noticed}");
    let ovmf = replay(&all.read("tdx/ccel_ovmf.dat")).unwrap();
    expect!["8566f998 775b9f6b 94eaf7a7 00000000"]
        .assert_eq(&ovmf.map(|rtmr| crypto::hex::encode(&rtmr[..4])).join(" "));
}

/// A log with one event for each (register, type, digest byte).
fn log(events: &[(u32, u32, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let spec = [
        b"Spec ID Event03\0".as_slice(),
        &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 0x30, 0, 0],
    ]
    .concat();
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([0; 20]);
    bytes.extend((spec.len() as u32).to_le_bytes());
    bytes.extend(spec);
    for (register, kind, digest) in events {
        bytes.extend(register.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend([0x0c, 0]);
        bytes.extend([*digest; 48]);
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(b"hi");
    }
    bytes
}

fn extended(digests: &[u8]) -> [u8; 48] {
    digests.iter().fold([0; 48], |register, digest| {
        crypto::sha384(&[register, [*digest; 48]].concat())
    })
}

#[test]
fn registers_are_extended_in_order_and_informative_events_are_not() {
    let bytes = log(&[(0, 4, 9), (1, 4, 1), (1, 3, 9), (2, 4, 2), (1, 13, 3)]);
    let expected = [extended(&[1, 3]), extended(&[2]), [0; 48], [0; 48]];
    assert_eq!(replay(&bytes).unwrap(), expected);
    for padding in [[0xff; 64], [0; 64]] {
        assert_eq!(replay(&[&bytes[..], &padding].concat()).unwrap(), expected);
    }
    let refused = replay(&log(&[(5, 4, 1)])).unwrap_err();
    assert_eq!(refused.code, "TEE-TDX-CCEL-STRUCTURE");
    for cut in 0..bytes.len() {
        // Whole events remain, or nothing does.
        if let Ok(replayed) = replay(&bytes[..cut]) {
            assert_ne!(replayed, expected, "{cut}");
        }
    }
}

#[test]
fn a_log_of_another_boot_refuses_the_quote() {
    let good = with_registers(&[extended(&[1]), [0; 48], [0; 48], [0; 48]]);
    let judge = |log: &[u8]| outcome(&good.judge_with_log(log)).join(" ");
    assert_eq!(judge(&log(&[(1, 4, 1)])), "");
    assert_eq!(judge(&log(&[(1, 4, 2)])), "TEE-TDX-CCEL");
    assert_eq!(
        judge(&log(&[(1, 4, 1), (4, 4, 1), (2, 4, 1)])),
        "TEE-TDX-CCEL TEE-TDX-CCEL"
    );
    assert_eq!(judge(b"noise"), "TEE-TDX-CCEL-STRUCTURE");
}
