//! A machine that goes on attesting, as bytes: what passes, and each lie against its own check.

use crate::evidence::codes;
use crate::forge::{
    QUOTE, RESIDENT_SIGNER, RESTRICTED, Statement, curve_and_point, public, sized, statement,
    tpm_signature,
};
use attest_tpm::PcrSelection;
use attest_tpm::continuous::{Answer, Standing, verify};
use attest_tpm::ima::{File, Kind, References, Round, after};
use attest_tpm::reference::Value;
use crypto::{Algorithm, Hash, KeyPair, hex, sha256};
use facts::{Finding, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);
const PCRS: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
const NONCE: [u8; 32] = [7; 32];

/// A chip of software, and the list of its kernel.
struct Machine {
    key: KeyPair,
    clock: u64,
    reset_count: u32,
    firmware: u64,
    pcrs: [[u8; 32]; 15],
    list: Vec<Vec<u8>>,
}

impl Machine {
    fn boot() -> Self {
        let mut machine = Self {
            key: KeyPair::generate(Algorithm::EcdsaP256).unwrap(),
            clock: 99,
            reset_count: 7,
            firmware: 5,
            pcrs: [[0; 32]; 15],
            list: Vec::new(),
        };
        machine.measure("boot_aggregate", sha256(&[0; 320]));
        machine.run("/usr/bin/a");
        machine
    }

    fn extend(&mut self, pcr: usize, digest: [u8; 32]) {
        self.pcrs[pcr] = sha256(&[self.pcrs[pcr], digest].concat());
    }

    fn measure(&mut self, path: &str, digest: [u8; 32]) {
        let mut data = Vec::new();
        for field in [
            [b"sha256:\0".as_slice(), &digest].concat(),
            format!("{path}\0").into_bytes(),
        ] {
            data.extend(u32::try_from(field.len()).unwrap().to_le_bytes());
            data.extend(field);
        }
        let mut entry = 10_u32.to_le_bytes().to_vec();
        entry.extend(Hash::Sha1.digest(&[&data]));
        entry.extend(6_u32.to_le_bytes());
        entry.extend(b"ima-ng");
        entry.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        entry.extend(&data);
        self.extend(10, sha256(&data));
        self.list.push(entry);
    }

    fn run(&mut self, path: &str) {
        self.measure(path, sha256(path.as_bytes()));
    }

    fn quote(&self, nonce: &[u8; 32]) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
        let values: Vec<Vec<u8>> = self.pcrs.iter().map(|value| value.to_vec()).collect();
        let quoted = [
            &1_u32.to_be_bytes()[..],
            &[0, 0x0b, 3, 0xff, 0x7f, 0],
            &sized(&sha256(&values.concat())),
        ]
        .concat();
        let said = Statement {
            clock: self.clock,
            reset_count: self.reset_count,
            firmware: self.firmware,
            ..Statement::of(QUOTE)
        };
        let quote = statement(&said, b"\0\x0bsigner", nonce, &quoted);
        let signature = tpm_signature(&self.key, &quote);
        (quote, signature, values)
    }

    fn public(&self) -> Vec<u8> {
        [
            &public(0x000b, RESIDENT_SIGNER | RESTRICTED, &[])[..],
            &[0, 0x10, 0, 0x18, 0, 0x0b],
            &curve_and_point(&self.key),
        ]
        .concat()
    }

    /// As it is read back from its evidence.
    fn stands(&self) -> Standing {
        let (quote, _, values) = self.quote(&[1; 32]);
        Standing::kept(&self.public(), &quote, &values.concat()).unwrap()
    }

    fn answer(&self, first: usize) -> Answer {
        let (quote, quote_signature, pcr_values) = self.quote(&NONCE);
        Answer {
            quote,
            quote_signature,
            pcr_values,
            ima_first: u64::try_from(first).unwrap(),
            ima_list: self.list[first..].concat(),
        }
    }
}

fn allowed(paths: &[&str]) -> References {
    let files = paths.iter().map(|path| {
        let file = File {
            kind: Kind::Content,
            hash: Hash::Sha256,
            digest: sha256(path.as_bytes()).to_vec(),
            path: None,
        };
        Value::new(file, *path, "test")
    });
    References::new(files)
}

fn ask(
    answer: &Answer,
    before: &Standing,
    references: Option<&References>,
) -> Result<(Standing, Round), Vec<Finding>> {
    let selection = PcrSelection::new(&PCRS).unwrap();
    verify(answer, &NONCE, &selection, before, references, NOW)
}

fn refused(answer: &Answer, before: &Standing, references: &References) -> String {
    let findings = ask(answer, before, Some(references)).err().unwrap();
    codes(&findings).join(" ")
}

#[test]
fn each_round_verifies_what_is_new_and_nothing_else() {
    let mut machine = Machine::boot();
    let references = allowed(&["/usr/bin/a", "/usr/bin/b"]);
    let before = machine.stands();
    let (first, round) = ask(&machine.answer(0), &before, Some(&references)).unwrap();
    assert_eq!((round.fresh(), first.list().unwrap().entries()), (2, 2));
    machine.run("/usr/bin/b");
    let (second, round) = ask(&machine.answer(2), &first, Some(&references)).unwrap();
    assert_eq!((round.fresh(), second.list().unwrap().entries()), (1, 3));
    // The whole list again: what was judged before is not judged now.
    let (_, round) = ask(&machine.answer(0), &second, Some(&allowed(&[]))).unwrap();
    assert_eq!(round.fresh(), 0);
    // Judged anew, it is.
    let anew = second.clone().anew();
    assert_eq!(
        refused(&machine.answer(0), &anew, &allowed(&["/usr/bin/a"])),
        "IMA-FILE"
    );
    // Nothing new, nothing sent.
    let (_, round) = ask(&machine.answer(3), &second, Some(&references)).unwrap();
    assert_eq!(round.fresh(), 0);
    // Entries that come behind the quote wait.
    let mut early = machine.answer(2);
    machine.run("/tmp/later");
    early.ima_list.extend(&machine.list[3]);
    let (third, round) = ask(&early, &first, Some(&references)).unwrap();
    assert_eq!((round.fresh(), third.list().unwrap().entries()), (1, 3));
    assert_eq!(refused(&machine.answer(3), &third, &references), "IMA-FILE");
}

#[test]
fn each_lie_meets_its_own_check() {
    let mut machine = Machine::boot();
    let references = allowed(&["/usr/bin/a", "/usr/bin/b", "/usr/bin/c"]);
    let (before, _) = ask(&machine.answer(0), &machine.stands(), Some(&references)).unwrap();
    machine.run("/usr/bin/b");
    machine.run("/usr/bin/c");
    let good = machine.answer(2);
    ask(&good, &before, Some(&references)).unwrap();

    let lie = |change: &dyn Fn(&mut Answer)| {
        let mut answer = good.clone();
        change(&mut answer);
        refused(&answer, &before, &references)
    };
    let [b, c] = [machine.list[2].clone(), machine.list[3].clone()];
    assert_eq!(lie(&|answer| answer.ima_list.clear()), "IMA-LIST-MISSING");
    assert_eq!(
        lie(&|answer| answer.ima_list = [c.clone(), b.clone()].concat()),
        "IMA-REPLAY"
    );
    assert_eq!(lie(&|answer| answer.ima_list.clone_from(&b)), "IMA-REPLAY");
    assert_eq!(lie(&|answer| answer.ima_first = 3), "IMA-GAP");
    assert_eq!(lie(&|answer| answer.ima_list.truncate(80)), "IMA-STRUCTURE");
    let stranger = Machine::boot();
    let other = tpm_signature(&stranger.key, &good.quote);
    assert_eq!(
        lie(&|answer| answer.quote_signature.clone_from(&other)),
        "TPM-QUOTE-SIGNATURE"
    );
    let (quote, signature, values) = machine.quote(&[8; 32]);
    let old = |answer: &mut Answer| {
        answer.quote.clone_from(&quote);
        answer.quote_signature.clone_from(&signature);
        answer.pcr_values.clone_from(&values);
    };
    assert_eq!(lie(&old), "TPM-QUOTE-NONCE");
    assert_eq!(
        lie(&|answer| answer.pcr_values[10] = vec![0; 32]),
        "TPM-QUOTE-DIGEST"
    );

    let reboot = Machine {
        reset_count: 8,
        ..machine
    };
    assert_eq!(
        refused(&reboot.answer(2), &before, &references),
        "ATTEST-REBOOTED"
    );
    let mut changed = Machine {
        reset_count: 7,
        ..reboot
    };
    changed.extend(7, [1; 32]);
    changed.extend(14, [1; 32]);
    let codes = refused(&changed.answer(2), &before, &references);
    assert_eq!(codes, "ATTEST-PCR-CHANGED ATTEST-PCR-CHANGED");
}

#[test]
fn a_chip_whose_clock_or_firmware_goes_back_is_refused() {
    let mut machine = Machine::boot();
    let references = allowed(&["/usr/bin/a"]);
    (machine.clock, machine.firmware) = (5_000, 7);
    let (before, _) = ask(&machine.answer(0), &machine.stands(), Some(&references)).unwrap();
    machine.clock = 4_999;
    let back = refused(&machine.answer(2), &before, &references);
    assert_eq!(back, "TPM-CLOCK-BACK");
    (machine.clock, machine.firmware) = (5_000, 6);
    let older = refused(&machine.answer(2), &before, &references);
    assert_eq!(older, "TPM-FIRMWARE-BACK");
    // What it counted last is what counts, and not what it joined with.
    (machine.clock, machine.firmware) = (9_000, 8);
    let (later, _) = ask(&machine.answer(2), &before, Some(&references)).unwrap();
    (machine.clock, machine.firmware) = (6_000, 7);
    let both = refused(&machine.answer(2), &later, &references);
    assert_eq!(both, "TPM-CLOCK-BACK TPM-FIRMWARE-BACK");
}

#[test]
fn pcr_11_goes_on_by_the_words_of_systemd_and_by_nothing_else() {
    let mut machine = Machine::boot();
    let before = machine.stands();
    machine.extend(11, sha256(b"sysinit"));
    machine.extend(11, sha256(b"ready"));
    let (after, _) = ask(&machine.answer(0), &before, None).unwrap();
    // What booted is judged by what the join quoted: it is no other boot for being further on.
    assert_eq!(after.booted().value(11), before.booted().value(11));
    assert_ne!(after.pcrs().value(11), before.pcrs().value(11));
    machine.extend(11, sha256(b"shutdown"));
    ask(&machine.answer(2), &after, None).unwrap();
    machine.extend(11, sha256(b"anything"));
    let references = allowed(&["/usr/bin/a"]);
    assert_eq!(
        refused(&machine.answer(2), &after, &references),
        "ATTEST-PCR-CHANGED"
    );
}

#[test]
fn without_references_a_list_may_be_kept_until_some_of_it_was_sent() {
    let mut machine = Machine::boot();
    let before = machine.stands();
    let mut silent = machine.answer(0);
    silent.ima_list.clear();
    let (still, _) = ask(&silent, &before, None).unwrap();
    assert!(still.list().is_none());
    let references = allowed(&["/usr/bin/a"]);
    assert_eq!(refused(&silent, &before, &references), "IMA-LIST-MISSING");
    let (known, _) = ask(&machine.answer(0), &before, None).unwrap();
    machine.run("/tmp/x");
    let mut silent = machine.answer(0);
    silent.ima_list.clear();
    let findings = ask(&silent, &known, None).err().unwrap();
    assert_eq!(codes(&findings), ["IMA-LIST-MISSING"]);
}

#[test]
fn every_byte_of_an_answer_counts() {
    let mut machine = Machine::boot();
    let references = allowed(&["/usr/bin/a", "/usr/bin/b"]);
    let (before, _) = ask(&machine.answer(0), &machine.stands(), Some(&references)).unwrap();
    machine.run("/usr/bin/b");
    let good = machine.answer(2);
    let parts: [fn(&mut Answer) -> &mut Vec<u8>; 4] = [
        |answer| &mut answer.quote,
        |answer| &mut answer.quote_signature,
        |answer| &mut answer.pcr_values[10],
        |answer| &mut answer.ima_list,
    ];
    // The name of a template is not measured, and `ima-ng` is read like its neighbours.
    let name = 28..34;
    for (number, part) in parts.into_iter().enumerate() {
        for at in 0..part(&mut good.clone()).len() {
            if number == 3 && name.contains(&at) {
                continue;
            }
            let mut answer = good.clone();
            part(&mut answer)[at] ^= 1;
            let shown = hex::encode(&[u8::try_from(number).unwrap()]);
            assert!(
                ask(&answer, &before, Some(&references)).is_err(),
                "part {shown} byte {at}"
            );
        }
    }
}

#[test]
fn what_was_kept_is_read_back_whole_or_not_at_all() {
    let machine = Machine::boot();
    let (quote, _, values) = machine.quote(&[1; 32]);
    let (public, values) = (machine.public(), values.concat());
    let kept = |public: &[u8], quote: &[u8], values: &[u8]| {
        Standing::kept(public, quote, values).map_err(|finding| finding.code.into_owned())
    };
    let standing = kept(&public, &quote, &values).unwrap();
    assert_eq!(standing.boot().reset_count, 7);
    assert_eq!(standing.pcrs().value(10), Some(&machine.pcrs[10]));
    for bad in [
        kept(&public[1..], &quote, &values),
        kept(&public, &quote[1..], &values),
        kept(&public, &quote, &values[1..]),
        kept(&public, &quote, &[0; 480]),
        kept(&public, &quote, &[]),
    ] {
        assert_eq!(bad.err().as_deref(), Some("ATTEST-EVIDENCE"));
    }
}

#[test]
fn the_part_of_a_list_behind_an_entry_is_found_without_reading_what_it_says() {
    let machine = Machine::boot();
    let list = machine.list.concat();
    assert_eq!(after(&list, 0), Some(list.as_slice()));
    assert_eq!(after(&list, 1), Some(machine.list[1].as_slice()));
    assert_eq!(after(&list, 2), Some(&[][..]));
    assert_eq!(after(&list, 3), None);
    assert_eq!(after(&list[..list.len() - 1], 2), None);
    assert_eq!(after(&[0xff; 64], 1), None);
}
