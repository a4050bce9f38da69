//! What a kernel measured since it booted: the list of IMA in both of its forms.

use crate::seeds;
use crate::tpm::RECORDED;
use attest_tpm::ima::{Entry, List, after, verify};
use testkit::chip::ima_entry;

/// The binary form: what is read is all of it, in pieces as well, and no quote stands behind another list.
pub(crate) fn binary(bytes: &[u8]) {
    let Ok(list) = List::parse_binary(bytes, 0) else {
        return;
    };
    let count = list.entries().len();
    assert!(
        35 * count <= bytes.len(),
        "{count} entries of {} bytes",
        bytes.len()
    );
    for (entries, index) in [(count / 2, 0_u64), (count, 7)] {
        let from = u64::try_from(entries).unwrap();
        let rest = after(bytes, from).expect("it has as many");
        let rest = List::parse_binary(rest, index).expect("the rest of a list is one");
        assert_eq!(rest.entries().len(), count - entries);
        let both = list.entries().iter().skip(entries).zip(rest.entries());
        for (whole, rest) in both {
            assert_eq!((&whole.path, &whole.digest), (&rest.path, &rest.digest));
        }
    }
    let beyond = u64::try_from(count).unwrap() + 1;
    assert!(after(bytes, beyond).is_none());
    for boot in RECORDED.iter() {
        if let Ok(measured) = verify(list.clone(), &boot.quoted, None) {
            let good = List::parse_binary(&boot.list, 0).expect("a recorded list");
            let good = verify(good, &boot.quoted, None).expect("it is of its quote");
            let said = |entries: &[Entry<'_>]| -> Vec<(String, Vec<u8>)> {
                let pair = |one: &Entry<'_>| (one.path.clone(), one.digest.clone());
                entries.iter().map(pair).collect()
            };
            assert_eq!(said(measured.entries()), said(good.entries()));
        }
    }
}

pub(crate) fn binary_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::of_boots("ima.bin");
    // Whole lists are long; their beginnings are as good to begin with.
    let beginnings: Vec<_> = all.iter().filter_map(|list| beginning(list, 12)).collect();
    all.extend(beginnings);
    let entry = |template, path, violated| ima_entry(template, path, [7; 32], violated).0;
    all.push(entry("ima-ng", "/usr/bin/a", false));
    all.push(entry("ima-ng", "/usr/bin/a", true));
    all.push(entry("ima-sig", "/usr/bin/a", false));
    all
}

fn beginning(list: &[u8], entries: u64) -> Option<Vec<u8>> {
    let rest = after(list, entries)?;
    Some(list.get(..list.len() - rest.len())?.to_vec())
}

/// The text form: a line an entry, and its digest bound by the template's hash to what the kernel hashed.
pub(crate) fn ascii(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Ok(list) = List::parse_ascii(text, u64::MAX - 3) else {
        return;
    };
    assert_eq!(list.entries().len(), text.lines().count());
    for boot in RECORDED.iter() {
        let list = List::parse_ascii(text, 0).expect("as before");
        if let Ok(measured) = verify(list, &boot.quoted, None) {
            let good = List::parse_binary(&boot.list, 0).expect("a recorded list");
            let good = verify(good, &boot.quoted, None).expect("it is of its quote");
            assert_eq!(measured.entries().len(), good.entries().len());
        }
    }
}

pub(crate) fn ascii_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::of_boots("ima.txt");
    all.extend(seeds::folder("ima", ""));
    let first = |text: &Vec<u8>| -> Option<Vec<u8>> {
        let text = str::from_utf8(text).ok()?;
        Some(
            text.split_inclusive('\n')
                .take(8)
                .collect::<String>()
                .into_bytes(),
        )
    };
    let beginnings: Vec<_> = all.iter().filter_map(first).collect();
    all.extend(beginnings);
    let digest = "ab".repeat(20);
    all.push(format!("10 {digest} ima-ng sha1:{digest} /init\n").into_bytes());
    all
}
