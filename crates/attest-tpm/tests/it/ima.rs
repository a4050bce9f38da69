//! IMA lists: recorded ones against their quotes, written ones of every template, and lists that lie.

use crate::evidence::{codes, folder, read};
use crate::measure::{BOOTS, Lab, Pcrs, lab, quote};
use attest_tpm::Quoted;
use attest_tpm::ima::{
    BootAggregate, Exempt, File, Kind, List, Measured, Progress, References, Seen, Violations,
    judge, verify,
};
use attest_tpm::reference::{Value, Window};
use crypto::{Hash, hex, sha256};
use expect_test::expect;
use facts::{Source, Timestamp};
use std::fmt::Write as _;

const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);
const APP: &str = "a224f1352eb5cba6a311e882ee8f4d8a2b0c4ab067bfa3b1233aea8ecb3328f4";

/// One entry of a written list: what the kernel would extend and print.
#[derive(Clone)]
pub(crate) struct Line {
    pcr: u32,
    template: String,
    sha1: Vec<u8>,
    data: Vec<u8>,
}

fn fields(fields: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for field in fields {
        data.extend((field.len() as u32).to_le_bytes());
        data.extend(*field);
    }
    data
}

fn line(template: &str, data: &[&[u8]]) -> Line {
    let data = fields(data);
    Line {
        pcr: 10,
        template: template.to_owned(),
        sha1: Hash::Sha1.digest(&[&data]),
        data,
    }
}

fn digest(name: &str, content: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b":\0", &sha256(content)].concat()
}

/// A file that is what its name says.
fn file(path: &str) -> Line {
    let digest = digest("sha256", path.as_bytes());
    line("ima-sig", &[&digest, format!("{path}\0").as_bytes(), &[]])
}

/// The aggregate of PCRs that are all zero.
fn aggregate() -> Line {
    let digest = digest("sha256", &[0; 320]);
    line("ima-sig", &[&digest, b"boot_aggregate\0", &[]])
}

fn violation(path: &str) -> Line {
    let digest = [b"sha256:\0".as_slice(), &[0; 32]].concat();
    let mut line = line("ima-sig", &[&digest, format!("{path}\0").as_bytes(), &[]]);
    line.sha1 = vec![0; 20];
    line
}

fn write(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend(line.pcr.to_le_bytes());
        bytes.extend(&line.sha1);
        bytes.extend((line.template.len() as u32).to_le_bytes());
        bytes.extend(line.template.as_bytes());
        bytes.extend((line.data.len() as u32).to_le_bytes());
        bytes.extend(&line.data);
    }
    bytes
}

fn extended(lines: &[Line]) -> [u8; 32] {
    lines.iter().fold([0; 32], |value, line| {
        let digest = if line.sha1 == [0; 20] {
            [0xff; 32]
        } else {
            sha256(&line.data)
        };
        sha256(&[value, digest].concat())
    })
}

/// A quote of these lines in boot `reset`, with PCRs 0 to 9 that are zero.
fn quoted(lines: &[Line], reset: u32) -> Quoted {
    let mut pcrs: Pcrs = (0..10).map(|pcr| (pcr, [0; 32])).collect();
    pcrs.insert(10, extended(lines));
    quote(&pcrs, reset)
}

fn verified(lines: &[Line], quoted: &Quoted) -> Measured<'static> {
    round(lines, 0, quoted, None).unwrap()
}

/// One round: the lines from `first` on, as the agent sends them.
fn round(
    lines: &[Line],
    first: u64,
    quoted: &Quoted,
    before: Option<&Progress>,
) -> Result<Measured<'static>, String> {
    let bytes: &'static [u8] = Vec::leak(write(&lines[first as usize..]));
    let list = List::parse_binary(bytes, first).map_err(|one| one.code.into_owned())?;
    verify(list, quoted, before).map_err(|findings| codes(&findings).join(" "))
}

/// One entry of every template, for tests of the parser.
pub(crate) fn every_template() -> Vec<u8> {
    let (ng, path) = (digest("sha256", b"x"), b"/usr/bin/x\0");
    let ngv2 = [b"verity:".as_slice(), &ng].concat();
    let buffer = digest("sha256", b"root=/dev/vda");
    let lines = [
        line("ima-ng", &[&ng, path]),
        line("ima-ngv2", &[&ngv2, path]),
        line("ima-sig", &[&ng, path, &[3, 2, 4]]),
        line("ima-sigv2", &[&ngv2, path, &[]]),
        line("ima-modsig", &[&ng, path, &[], &ng, &[0x30, 0x82]]),
        line("ima-buf", &[&buffer, b"kexec-cmdline\0", b"root=/dev/vda"]),
        line(
            "evm-sig",
            &[&ng, path, &[], &[], &[], &[], &[0; 4], &[0; 4], &[0; 2]],
        ),
        line("d-ng|n-ng|sig", &[&ng, path, &[]]),
    ];
    let mut bytes = write(&lines);
    // The oldest one has no lengths before its digest and data.
    let old = [&[5; 20][..], b"/bin/old"].concat();
    let mut hashed = old.clone();
    hashed.resize(276, 0);
    bytes.extend(10u32.to_le_bytes());
    bytes.extend(Hash::Sha1.digest(&[&hashed]));
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(b"ima");
    bytes.extend(&old[..20]);
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(b"/bin/old");
    bytes
}

#[test]
fn every_recorded_list_replays_to_its_quote() {
    let mut seen = String::new();
    for name in BOOTS {
        let Some(Lab { folder, quoted, .. }) = lab("attest_tpm::recorded_boots", name) else {
            return;
        };
        let bytes = read(&folder, "ima.bin");
        let measured = verify(List::parse_binary(&bytes, 0).unwrap(), &quoted, None).unwrap();
        let _ = writeln!(
            seen,
            "{name}: {} entries, {} pending, aggregate {:?}, first file {}",
            measured.entries().len(),
            measured.pending(),
            measured.boot_aggregate(),
            measured.entries()[1].path,
        );
        // The text form holds the same list, entry for entry.
        let path = folder.join("ima.txt");
        if let Ok(text) = std::fs::read_to_string(path) {
            let list = List::parse_ascii(&text, 0).unwrap();
            let again = verify(list, &quoted, None).unwrap();
            for (text, binary) in again.entries().iter().zip(measured.entries()) {
                assert_eq!(
                    (&text.path, &text.digest, &text.template),
                    (&binary.path, &binary.digest, &binary.template)
                );
            }
            assert_eq!(again.progress(), measured.progress());
        }
        // A list of another boot is none of this one.
        let mut other = quoted.clone();
        other.clock.reset_count += 1;
        let changed = verify(
            List::parse_binary(&bytes, 1).unwrap_or_else(|one| panic!("{one}")),
            &other,
            Some(&measured.progress()),
        );
        assert_eq!(codes(&changed.unwrap_err()), ["IMA-GAP"]);
    }
    expect![[r#"
        direct-kernel-no-secureboot: 40 entries, 0 pending, aggregate Matches, first file /bin/busybox
        fsverity-ima-ngv2: 40 entries, 0 pending, aggregate Matches, first file /bin/busybox
        shim-grub-debian-signed-ms-keys: 40 entries, 0 pending, aggregate Matches, first file /bin/busybox
        uki-612-ipe-secureboot: 40 entries, 0 pending, aggregate Matches, first file /bin/busybox
        uki-own-keys-secureboot: 40 entries, 0 pending, aggregate Matches, first file /bin/busybox
        uki-signed-but-tampered-cmdline: 40 entries, 0 pending, aggregate Matches, first file /bin/busybox
    "#]].assert_eq(&seen);
}

/// The list was read later than the quote was made: what the quote reaches is verified, the rest waits.
/// Its last entry is of fs-verity, and becomes known when a quote reaches it.
#[test]
fn a_list_that_has_grown_is_verified_as_far_as_the_quote_reaches() {
    let Some(Lab { folder, quoted, .. }) = lab("attest_tpm::recorded_boots", "fsverity-ima-ngv2")
    else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("ima3.txt")).unwrap();
    let list = List::parse_ascii(&text, 0).unwrap();
    let all: Vec<_> = list.entries().to_vec();
    let first = verify(list, &quoted, None).unwrap();
    assert_eq!((first.entries().len(), first.pending()), (40, 18));
    let mut seen = Seen::new([1; 32]);
    seen.extend(first.progress().boot(), first.files());
    let app: [u8; 32] = hex::decode(APP).unwrap().try_into().unwrap();
    assert!(!seen.has(Kind::Verity, &app));

    // The next quote, by a key of software, of the PCR as the kernel would have extended it.
    let mut pcrs: Pcrs = quoted
        .pcrs
        .iter()
        .map(|(pcr, value)| (pcr, *value))
        .collect();
    let mut value = pcrs[&10];
    for line in text.lines().skip(40) {
        let list = List::parse_ascii(line, 0).unwrap();
        value = sha256(&[value, sha256(&template_data(line))].concat());
        drop(list);
    }
    pcrs.insert(10, value);
    let next = quote(&pcrs, quoted.clock.reset_count);
    let before = first.progress();
    let rest: Vec<&str> = text.lines().skip(40).collect();
    let list = List::parse_ascii(&rest.join("\n"), 40).unwrap();
    let second = verify(list, &next, Some(&before)).unwrap();
    assert_eq!((second.fresh().len(), second.pending()), (18, 0));
    assert_eq!(second.progress().entries(), 58);
    seen.extend(second.progress().boot(), second.files());
    assert!(seen.has(Kind::Verity, &app));
    let measured = all.iter().find(|entry| entry.digest == app).unwrap();
    assert_eq!(measured.path, "/mnt/app");
    assert!(!seen.has(Kind::Content, &app), "it is no digest of content");
}

/// What the kernel hashed for a line of the text form, written out here.
fn template_data(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').collect();
    let (name, digest) = words[3].rsplit_once(':').unwrap();
    let digest = [name.as_bytes(), b":\0", &hex::decode(digest).unwrap()].concat();
    let path = format!("{}\0", words[4]);
    match words[2] {
        "ima-ngv2" => fields(&[&digest, path.as_bytes()]),
        "ima-sig" => fields(&[&digest, path.as_bytes(), &[]]),
        other => panic!("{other}"),
    }
}

/// Lists of other projects, without a quote: each entry's template hash is of what was read.
#[test]
fn lists_of_other_projects_are_read_entry_for_entry() {
    let Some(folder) = folder("attest_tpm::ima_lists", "ima") else {
        return;
    };
    let mut seen = String::new();
    for name in [
        "keylime-ima-log-sha256",
        "rust-keylime-ascii_runtime_measurements",
    ] {
        let text = String::from_utf8(read(&folder, name)).unwrap();
        let list = List::parse_ascii(&text, 0).unwrap();
        let count = list.entries().len();
        let last = list.entries().last().unwrap().path.clone();
        // Nothing amounts to this value; what is wrong with an entry would be said beside it.
        let refused = verify(list, &quote(&[(10, [3; 32])].into(), 1), None).unwrap_err();
        let _ = writeln!(
            seen,
            "{name}: {count} entries to {last}, {:?}",
            codes(&refused)
        );
    }
    expect![[r#"
        keylime-ima-log-sha256: 2 entries to /data, ["IMA-REPLAY"]
        rust-keylime-ascii_runtime_measurements: 826 entries to /bin/cp, ["IMA-REPLAY"]
    "#]]
    .assert_eq(&seen);
}

#[test]
fn every_template_is_read_and_nothing_else() {
    let bytes = every_template();
    let list = List::parse_binary(&bytes, 7).unwrap();
    let mut seen = String::new();
    for entry in list.entries() {
        let _ = writeln!(
            seen,
            "{} {} {:?} {} of {}{}",
            entry.index,
            entry.template,
            entry.kind,
            entry.hash.map_or("-", Hash::name),
            entry.path,
            if entry.is_signed { ", signed" } else { "" }
        );
    }
    expect![[r#"
        7 ima-ng Content sha256 of /usr/bin/x
        8 ima-ngv2 Verity sha256 of /usr/bin/x
        9 ima-sig Content sha256 of /usr/bin/x, signed
        10 ima-sigv2 Verity sha256 of /usr/bin/x
        11 ima-modsig Content sha256 of /usr/bin/x, signed
        12 ima-buf Content sha256 of kexec-cmdline
        13 evm-sig Content sha256 of /usr/bin/x
        14 d-ng|n-ng|sig Content sha256 of /usr/bin/x
        15 ima Content sha1 of /bin/old
    "#]]
    .assert_eq(&seen);
    let (ng, path) = (digest("sha256", b"x"), b"/x\0".as_slice());
    let bad: &[(&str, Line)] = &[
        ("unknown template", line("ima-future", &[&ng, path])),
        ("no digest", line("n-ng|sig", &[path, &[]])),
        // The name of a template is not measured: read so, the signature would be the path.
        ("another order", line("d-ng|sig|n-ng", &[&ng, &[], path])),
        ("a signature for a path", line("d-ng|sig", &[&ng, path])),
        ("two paths", line("d-ng|n-ng|n-ng", &[&ng, path, path])),
        ("a field less", line("ima-sig", &[&ng, path])),
        ("a field more", line("ima-ng", &[&ng, path, &[]])),
        ("a digest without a name", line("ima-ng", &[&[5; 20], path])),
        (
            "a digest without itself",
            line("ima-ng", &[b"sha256:\0", path]),
        ),
        (
            "a kind that is not known",
            line("ima-ngv2", &[&[b"disk:".as_slice(), &ng].concat(), path]),
        ),
        (
            "a path that ends twice",
            line("ima-ng", &[&ng, b"/x\0/y\0"]),
        ),
        (
            "a path that is too long",
            line("ima-ng", &[&ng, &[b'x'; 4096]]),
        ),
        (
            "a buffer of another digest",
            line("ima-buf", &[&ng, path, b"y"]),
        ),
    ];
    for (what, line) in bad {
        let bytes = write(std::slice::from_ref(line));
        let refused = List::parse_binary(&bytes, 0).unwrap_err();
        assert_eq!(refused.code, "IMA-STRUCTURE", "{what}");
    }
    // Lengths beyond the end, at each place where one stands.
    let whole = write(&[file("/x")]);
    for (at, value) in [(24, 257u32), (24, u32::MAX), (35, u32::MAX), (39, u32::MAX)] {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let refused = List::parse_binary(&bytes, 0).unwrap_err();
        assert_eq!(refused.code, "IMA-STRUCTURE", "{at}");
    }
    for cut in 1..whole.len() {
        let refused = List::parse_binary(&whole[..cut], 0).unwrap_err();
        assert_eq!(refused.code, "IMA-STRUCTURE", "{cut}");
    }
    let too_long = vec![0; attest_tpm::ima::LONGEST + 1];
    assert_eq!(
        List::parse_binary(&too_long, 0).unwrap_err().code,
        "IMA-SIZE"
    );
}

/// An entry with a signature at its end has two digests. That of the file without it was not measured as
/// the file's: nothing is judged by it.
#[test]
fn the_digest_of_a_modsig_entry_is_that_of_the_whole_file() {
    let (whole, unsigned) = (digest("sha256", b"whole"), digest("sha256", b"unsigned"));
    let entry = |digests: [&[u8]; 2]| {
        let [whole, unsigned] = digests;
        line("ima-modsig", &[whole, b"/x\0", &[], unsigned, &[0x30]])
    };
    let lines = [aggregate(), entry([&whole, &unsigned])];
    let measured = verified(&lines, &quoted(&lines, 1));
    let entry = &measured.entries()[1];
    assert_eq!(
        (entry.digest.as_slice(), entry.is_signed),
        (&sha256(b"whole")[..], true)
    );
    let listed = |content: &str| {
        let references = References::new([listed("/x", content, "x 1")]);
        judge(&measured, &references, NOW)
            .map(drop)
            .map_err(|one| one[0].code.clone())
    };
    assert_eq!(listed("whole"), Ok(()));
    assert_eq!(listed("unsigned"), Err("IMA-FILE".into()));
}

/// As many entries as fit are not read one and all: each costs memory.
#[test]
fn a_list_of_more_entries_than_are_read_is_refused() {
    let entry = write(&[line("ima-ng", &[b"sha256:\0x", b"/\0"])]);
    let list = entry.repeat(500_001);
    assert!(list.len() <= attest_tpm::ima::LONGEST);
    let refused = List::parse_binary(&list, 0).unwrap_err();
    assert_eq!(refused.code, "IMA-SIZE");
    let most = List::parse_binary(&list[entry.len()..], 0).unwrap();
    assert_eq!(most.entries().len(), 500_000);
}

/// Each byte of a written list, changed: the list is refused, or the change is in what no digest covers.
#[test]
fn a_changed_byte_of_a_list_is_noticed() {
    let lines = [
        aggregate(),
        file("/bin/a"),
        violation("/bin/b"),
        file("/bin/c"),
    ];
    let quoted = quoted(&lines, 1);
    let good = verified(&lines, &quoted);
    let mut bytes = write(&lines);
    let mut unnoticed = Vec::new();
    for at in 0..bytes.len() {
        bytes[at] ^= 0x01;
        if let Ok(list) = List::parse_binary(&bytes, 0)
            && let Ok(measured) = verify(list, &quoted, None)
        {
            assert_eq!(measured.progress(), good.progress());
            for (changed, good) in measured.entries().iter().zip(good.entries()) {
                if !good.is_violation() {
                    assert_eq!((&changed.path, &changed.digest), (&good.path, &good.digest));
                }
            }
            unnoticed.push(at);
        }
        bytes[at] ^= 0x01;
    }
    // Only inside the violation, whose data the kernel does not extend.
    let start = write(&lines[..2]).len();
    let end = write(&lines[..3]).len();
    assert!(
        unnoticed.iter().all(|at| (start..end).contains(at)),
        "{unnoticed:?}"
    );
    for cut in 1..bytes.len() {
        let result = List::parse_binary(&bytes[..cut], 0);
        let refused = result
            .map_err(|one| vec![one])
            .and_then(|list| verify(list, &quoted, None));
        assert!(refused.is_err(), "{cut}");
    }
}

#[test]
fn rounds_verify_only_what_is_new_and_nothing_is_skipped() {
    let all: Vec<Line> = std::iter::once(aggregate())
        .chain((0..9).map(|number| file(&format!("/bin/{number}"))))
        .collect();
    let one = verified(&all[..4], &quoted(&all[..4], 1));
    assert_eq!(one.boot_aggregate(), BootAggregate::Matches);
    let before = one.progress();
    let later = quoted(&all, 1);
    let next = |lines: &[Line], first, quoted: &Quoted, before| {
        round(lines, first, quoted, before)
            .map(|measured| (measured.fresh().len(), measured.pending()))
    };
    // Only what is new; all of it again; nothing new; the list ahead of its quote.
    assert_eq!(next(&all, 4, &later, Some(&before)), Ok((6, 0)));
    assert_eq!(next(&all, 0, &later, Some(&before)), Ok((6, 0)));
    assert_eq!(
        next(&all[..4], 4, &quoted(&all[..4], 1), Some(&before)),
        Ok((0, 0))
    );
    assert_eq!(
        next(&all, 4, &quoted(&all[..6], 1), Some(&before)),
        Ok((2, 4))
    );
    let refused = |code: &str| Err(code.to_owned());
    assert_eq!(next(&all, 5, &later, Some(&before)), refused("IMA-GAP"));
    assert_eq!(next(&all, 3, &later, Some(&before)), refused("IMA-GAP"));
    assert_eq!(next(&all, 4, &later, None), refused("IMA-GAP"));
    // After a restart the list begins anew, whatever was known.
    let restarted = quoted(&all[..2], 2);
    assert_eq!(next(&all, 4, &restarted, Some(&before)), refused("IMA-GAP"));
    assert_eq!(next(&all[..2], 0, &restarted, Some(&before)), Ok((2, 0)));
    // Within a boot it does not shrink.
    let earlier = quoted(&all[..2], 1);
    assert_eq!(
        next(&all, 0, &earlier, Some(&before)),
        refused("IMA-REWOUND")
    );
    // An entry left out, put elsewhere or added.
    let mut left_out = all.clone();
    left_out.remove(6);
    assert_eq!(
        next(&left_out, 4, &later, Some(&before)),
        refused("IMA-REPLAY")
    );
    let mut swapped = all.clone();
    swapped.swap(5, 6);
    assert_eq!(
        next(&swapped, 4, &later, Some(&before)),
        refused("IMA-REPLAY")
    );
    let mut added = all.clone();
    added.insert(5, file("/bin/evil"));
    assert_eq!(
        next(&added, 4, &later, Some(&before)),
        refused("IMA-REPLAY")
    );
}

#[test]
fn lists_that_lie_are_refused_by_what_they_lie_about() {
    type Change = fn(&mut Vec<Line>);
    let cases: &[(&str, Change)] = &[
        ("the truth", |_| {}),
        ("no aggregate first", |lines| drop(lines.remove(0))),
        ("an aggregate of another boot", |lines| {
            let digest = digest("sha256", b"other PCRs");
            lines[0] = line("ima-sig", &[&digest, b"boot_aggregate\0", &[]]);
        }),
        ("a violation in place of the aggregate", |lines| {
            lines[0] = violation("boot_aggregate");
        }),
        ("an aggregate of SHA-1, which is not compared", |lines| {
            let digest = [b"sha1:\0".as_slice(), &[5; 20]].concat();
            lines[0] = line("ima-sig", &[&digest, b"boot_aggregate\0", &[]]);
        }),
        ("the template's hash of another entry", |lines| {
            lines[1].sha1 = lines[2].sha1.clone();
        }),
        ("another PCR", |lines| lines[1].pcr = 11),
    ];
    let mut seen = String::new();
    for (what, change) in cases {
        let mut lines = vec![aggregate(), file("/bin/a"), file("/bin/b")];
        change(&mut lines);
        let result = round(&lines, 0, &quoted(&lines, 1), None);
        let result = result.map(|measured| format!("{:?}", measured.boot_aggregate()));
        let _ = writeln!(seen, "{what}: {}", result.unwrap_or_else(|code| code));
    }
    let lines = [aggregate(), file("/bin/a")];
    let without = quote(&Pcrs::from([(0, [0; 32])]), 1);
    let result = round(&lines, 0, &without, None).unwrap_err();
    let _ = writeln!(seen, "PCR 10 was not quoted: {result}");
    let alone = quote(&Pcrs::from([(10, extended(&lines))]), 1);
    let alone = round(&lines, 0, &alone, None).unwrap().boot_aggregate();
    let _ = writeln!(seen, "PCR 10 alone was quoted: {alone:?}");
    // A violation is what the kernel says, and the list cannot take it back.
    let hidden = [aggregate(), violation("/bin/a")];
    let shown = [aggregate(), file("/bin/a")];
    for (what, list, truth) in [
        ("a violation is shown as a file", &shown, &hidden),
        ("a file is shown as a violation", &hidden, &shown),
    ] {
        let result = round(list, 0, &quoted(truth, 1), None).unwrap_err();
        let _ = writeln!(seen, "{what}: {result}");
    }
    expect![[r#"
        the truth: Matches
        no aggregate first: IMA-BOOT-AGGREGATE
        an aggregate of another boot: IMA-BOOT-AGGREGATE
        a violation in place of the aggregate: IMA-BOOT-AGGREGATE
        an aggregate of SHA-1, which is not compared: Unknown
        the template's hash of another entry: IMA-TEMPLATE
        another PCR: IMA-PCR
        PCR 10 was not quoted: IMA-UNQUOTED
        PCR 10 alone was quoted: Unknown
        a violation is shown as a file: IMA-REPLAY
        a file is shown as a violation: IMA-REPLAY
    "#]]
    .assert_eq(&seen);
}

fn listed(path: &str, content: &str, label: &str) -> Value<File> {
    let file = File {
        kind: Kind::Content,
        hash: Hash::Sha256,
        digest: sha256(content.as_bytes()).to_vec(),
        path: Some(path.into()),
    };
    Value::new(file, label, "bookworm InRelease")
}

#[test]
fn every_file_that_ran_is_judged_by_its_digest_place_and_time() {
    let sha1 = line(
        "ima-sig",
        &[
            &[b"sha1:\0".as_slice(), &[5; 20]].concat(),
            b"/bin/sha1\0",
            &[],
        ],
    );
    let verity = [b"verity:".as_slice(), &digest("sha256", b"tree")].concat();
    let fake = digest("sha256", b"evil");
    let lines = [
        aggregate(),
        file("/bin/good"),
        file("/bin/unlisted"),
        file("/bin/updated"),
        file("/bin/expired"),
        file("/bin/moved"),
        file("/opt/site/tool"),
        file("/opt/sitemap"),
        violation("/opt/site/log"),
        sha1,
        line("ima-ngv2", &[&verity, b"/mnt/app\0"]),
        line("ima-sig", &[&fake, b"boot_aggregate\0", &[]]),
    ];
    let mut expired = listed("/bin/expired", "/bin/expired", "expired 1");
    expired.window = Window {
        not_before: None,
        not_after: Some(Timestamp::from_secs(1)),
    };
    let weak = Value::new(
        File {
            kind: Kind::Content,
            hash: Hash::Sha1,
            digest: vec![5; 20],
            path: None,
        },
        "weak 1",
        "a test",
    );
    let tree = Value::new(
        File {
            kind: Kind::Verity,
            hash: Hash::Sha256,
            digest: sha256(b"tree").to_vec(),
            path: None,
        },
        "app 1",
        "a test",
    );
    let mut references = References::new([
        listed("/bin/good", "/bin/good", "good 1"),
        listed("/bin/updated", "an older one", "updated 1"),
        listed("/usr/bin/moved", "/bin/moved", "moved 1"),
        expired,
        weak,
        tree,
    ]);
    references.exempt.push(Exempt {
        path: "/opt/site".to_owned(),
        label: "built here".to_owned(),
    });
    let measured = verified(&lines, &quoted(&lines, 1));
    let refused = judge(&measured, &references, NOW).unwrap_err();
    let text: Vec<String> = refused.iter().map(ToString::to_string).collect();
    expect![[r#"
        IMA-FILE: entry 2 (/bin/unlisted): a file ran that is not among the reference values; expected a file of a package that is listed; none is at this path; saw sha256:1a15cb8cf1712360e1541daa430e0e171d2ce47f190764a0f6c4e27285c54d1d; next: if it is to be allowed, run trilith refs import with its package or file
        IMA-FILE: entry 3 (/bin/updated): a file ran that is not among the reference values; expected sha256:2c1b18cee3a44289d4ff32309624e78713a51b324b64d37063ee23c8ac096e0a of updated 1 (bookworm InRelease), which comes nearest; saw sha256:29c0e1bc5cb92c7e6792ebc116b5193d5a09738a688fbbf42d6e1d57ae6efd71; next: if it is to be allowed, run trilith refs import with its package or file
        IMA-EXPIRED: entry 4 (/bin/expired): its reference value does not count at this time; expected a value that counts at 2026-11-24T06:00:00.000Z; saw that of expired 1 (bookworm InRelease): it counted until 1970-01-01T00:00:01.000Z; next: update the package, or run trilith refs import with this version
        IMA-PATH: entry 5 (/bin/moved): a known file runs from another place; expected /usr/bin/moved of moved 1 (bookworm InRelease); saw /bin/moved; next: if it is to be allowed there, run trilith refs import with this path
        IMA-FILE: entry 7 (/opt/sitemap): a file ran that is not among the reference values; expected a file of a package that is listed; none is at this path; saw sha256:39590a5e1dcab96dfd3a5d6937fa6c33318b6a07b85b0345d39f856cf56ff8a9; next: if it is to be allowed, run trilith refs import with its package or file
        IMA-VIOLATION: entry 8 (/opt/site/log): the file was written to while it was measured; expected a file that nobody writes to while it runs; saw a violation; next: find out what writes to it; restart the machine, which clears the list
        IMA-FILE: entry 9 (/bin/sha1): a file ran that is not among the reference values; expected a file of a package that is listed; none is at this path; saw sha1:0505050505050505050505050505050505050505; next: if it is to be allowed, run trilith refs import with its package or file
        IMA-FILE: entry 11 (boot_aggregate): a file ran that is not among the reference values; expected a file of a package that is listed; none is at this path; saw sha256:b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73; next: if it is to be allowed, run trilith refs import with its package or file"#]].assert_eq(&text.join("\n"));

    references.violations = Violations::Allow;
    let refused = judge(&measured, &references, NOW).unwrap_err();
    assert!(!codes(&refused).contains(&"IMA-VIOLATION"));
    // Judged is what is new; what was judged before is not judged again.
    let good = [aggregate(), file("/bin/good"), violation("/bin/x")];
    let measured = verified(&good, &quoted(&good, 1));
    let approved = judge(&measured, &references, NOW).unwrap();
    assert!(approved.labels().contains("good 1"));
    let mut facts = measured.facts(Source::Hardware, NOW);
    facts.extend(approved.facts(Source::Hardware, NOW).iter().cloned());
    expect![[r#"
        machine.ima.entries = 3 (hardware)
        machine.ima.state = approved (verified)
        machine.ima.violations = 1 (hardware)
    "#]]
    .assert_eq(&crate::boots::lines(&facts));
    let mut more = good.to_vec();
    more.push(file("/bin/unlisted"));
    let next = round(&more, 3, &quoted(&more, 1), Some(&measured.progress())).unwrap();
    assert_eq!(next.progress().violations(), 1, "of the rounds before");
    assert_eq!(
        codes(&judge(&next, &references, NOW).unwrap_err()),
        ["IMA-FILE"]
    );
}

/// A machine that runs something else altogether does not fill the ledger.
#[test]
fn thousands_of_unlisted_files_make_few_findings() {
    let lines: Vec<Line> = std::iter::once(aggregate())
        .chain((0..3000).map(|number| file(&format!("/x/{number}"))))
        .collect();
    let measured = verified(&lines, &quoted(&lines, 1));
    let refused = judge(&measured, &References::default(), NOW).unwrap_err();
    assert_eq!(refused.len(), 16);
    assert!(
        refused[15]
            .message
            .ends_with("; 2984 more entries are not allowed")
    );
}

/// SHA-1 can be made to collide, and another boot is another list.
#[test]
fn what_was_seen_is_known_by_digest_within_its_boot() {
    let sha1 = line(
        "ima-sig",
        &[
            &[b"sha1:\0".as_slice(), &[5; 20]].concat(),
            b"/bin/sha1\0",
            &[],
        ],
    );
    let buffer = digest("sha256", b"root=/dev/vda");
    let lines = [
        aggregate(),
        file("/bin/a"),
        sha1,
        violation("/bin/b"),
        file("/bin/a"),
        line("ima-buf", &[&buffer, b"kexec-cmdline\0", b"root=/dev/vda"]),
    ];
    let mut seen = Seen::new([1; 32]);
    let has = |seen: &Seen, digest: &[u8; 32]| seen.has(Kind::Content, digest);
    assert!(!has(&seen, &sha256(b"/bin/a")));
    let first = verified(&lines, &quoted(&lines, 1));
    seen.extend(first.progress().boot(), first.files());
    assert!(has(&seen, &sha256(b"/bin/a")));
    // What a violation says was not measured, and SHA-1 says nothing.
    assert!(!has(&seen, &[0; 32]));
    // A buffer is no file, though its content might be one's.
    assert!(!has(&seen, &sha256(b"root=/dev/vda")));
    assert_eq!(first.files().count(), 3);
    let restarted = [aggregate(), file("/bin/b")];
    let second = verified(&restarted, &quoted(&restarted, 2));
    seen.extend(second.progress().boot(), second.files());
    assert!(!has(&seen, &sha256(b"/bin/a")));
    assert!(has(&seen, &sha256(b"/bin/b")));
    assert_eq!(seen.boot().unwrap().reset_count, 2);
}
