//! Policies: what reads as one, what is refused and on which line, and when a quorum is reached.

use crate::support::{Memory, SERVER, cosigned, issuance_record, pq_witness, witness};
use ledger::{Code, Cosigner, LogKey, Note, Policy};

const TIME: u64 = 1_795_312_969;

/// `witness` lines of w11, w12, … and of pq15.
fn witnesses(extra: &str) -> String {
    let mut text = String::new();
    for seed in 11..15 {
        let key = witness(seed).key().to_string();
        text.push_str(&format!("witness w{seed} {key} https://w{seed}.example/\n"));
    }
    text.push_str(&format!("witness pq15 {}\n", pq_witness(15).key()));
    text + extra
}

fn note() -> String {
    let mut ledger = Memory::new(SERVER, 1);
    ledger.append(issuance_record());
    ledger.note()
}

fn reached(policy: &str, by: &[&Cosigner]) -> bool {
    let policy: Policy = policy.parse().unwrap();
    let note = Note::parse(&cosigned(&note(), by, TIME)).unwrap();
    let quorum = policy.judge(&note).unwrap();
    let known = by
        .iter()
        .filter(|one| policy.witnesses().iter().any(|it| &it.key == one.key()));
    assert_eq!(quorum.cosignatures.len(), known.count());
    assert!(quorum.cosignatures.iter().all(|one| one.time == TIME));
    quorum.reached
}

#[test]
fn a_quorum_is_what_its_groups_say() {
    let (w11, w12, w13, pq15) = (witness(11), witness(12), witness(13), pq_witness(15));
    let stranger = witness(16);
    for (policy, by, expected) in [
        ("quorum none\n", vec![], true),
        ("quorum w11\n", vec![&w11], true),
        ("quorum w11\n", vec![&w12, &stranger], false),
        ("quorum pq15\n", vec![&pq15], true),
        ("group g any w11 w12\nquorum g\n", vec![&w12], true),
        ("group g any w11 w12\nquorum g\n", vec![&w13], false),
        ("group g all w11 w12\nquorum g\n", vec![&w11], false),
        ("group g all w11 w12\nquorum g\n", vec![&w12, &w11], true),
        (
            "group g 2 w11 w12 pq15\nquorum g\n",
            vec![&pq15, &w11],
            true,
        ),
        (
            "group g 2 w11 w12 pq15\nquorum g\n",
            vec![&w11, &stranger],
            false,
        ),
        // Two of one organisation are not one of each.
        (
            "group x 2 w11 w12 w13\ngroup y any w14 pq15\ngroup both all x y\nquorum both\n",
            vec![&w11, &w12, &w13],
            false,
        ),
        (
            "group x 2 w11 w12 w13\ngroup y any w14 pq15\ngroup both all x y\nquorum both\n",
            vec![&w11, &w13, &pq15],
            true,
        ),
        // A group that is not in the quorum adds nothing.
        (
            "group x any w11\ngroup y any w12\nquorum y\n",
            vec![&w11],
            false,
        ),
        // The member's name may be a word of the syntax.
        (
            "group any 1 w11\ngroup 2 all any w12\nquorum 2\n",
            vec![&w11, &w12],
            true,
        ),
    ] {
        let text = witnesses(policy);
        assert_eq!(reached(&text, &by), expected, "{policy}");
        // Without a last newline, and with the whitespace that is allowed.
        let spaced = text
            .replace(' ', "\t ")
            .replace('\n', " \n\n \t# quorum none\n");
        assert_eq!(reached(spaced.trim_end(), &by), expected);
    }
}

#[test]
fn a_line_of_a_witness_that_does_not_verify_spoils_the_note() {
    let text = witnesses("group g any w11 w12\nquorum g\n");
    let policy: Policy = text.parse().unwrap();
    let note = Note::parse(&cosigned(&note(), &[&witness(11), &witness(12)], TIME)).unwrap();
    assert!(policy.judge(&note).unwrap().reached);
    let mut forged = note.clone();
    forged.signatures[2].bytes[20] ^= 1;
    assert_eq!(
        policy.judge(&forged).unwrap_err().code(),
        "LEDGER-NOTE-SIGNATURE"
    );
    let mut twice = note.clone();
    twice.signatures.push(note.signatures[1].clone());
    assert_eq!(
        policy.judge(&twice).unwrap_err().code(),
        "LEDGER-NOTE-SIGNATURE"
    );
    // A line of w11 is none of w12, whatever it says.
    let mut renamed = note;
    renamed.signatures[1].name = "witness.example/w13".to_owned();
    renamed.signatures[2].bytes[20] ^= 1;
    renamed.signatures[2].id ^= 1;
    let quorum = policy.judge(&renamed).unwrap();
    assert!(!quorum.reached && quorum.cosignatures.is_empty());
}

#[test]
fn what_is_no_policy_is_refused_by_its_line() {
    let key = |seed: u8| witness(seed).key().to_string();
    let renamed = Cosigner::new("other.example/w", crate::support::fixed_key(11)).unwrap();
    let log = Memory::new(SERVER, 1).key().to_string();
    let other_log = ledger::LedgerKey::new("o", crate::support::fixed_key(1).public_key().clone());
    let many = |line: &dyn Fn(u8) -> String| (0..33).map(line).collect::<String>();
    for (text, expected) in [
        (String::new(), "no line says"),
        ("# quorum none\n".to_owned(), "no line says"),
        (
            "quorum none\nquorum none\n".to_owned(),
            "line 2: there is a quorum",
        ),
        ("quorum\n".to_owned(), "line 1: expected `quorum <name>`"),
        ("quorum none none\n".to_owned(), "line 1: expected"),
        ("quorum w\n".to_owned(), "line 1: no witness or group \"w\""),
        ("Quorum none\n".to_owned(), "line 1: expected `log, witness"),
        ("quorum none\r\n".to_owned(), "line 1: byte 0x0d"),
        ("# \u{7f}\nquorum none\n".to_owned(), "line 1: byte 0x7f"),
        ("log\nquorum none\n".to_owned(), "line 1: expected `log"),
        ("log x\nquorum none\n".to_owned(), "line 1: the log's key"),
        (
            format!("log {log} u v\nquorum none\n"),
            "line 1: expected `log",
        ),
        (
            format!("log {log}\nlog {}\nquorum none\n", other_log.unwrap()),
            "line 2: the same key",
        ),
        (
            "witness w\nquorum none\n".to_owned(),
            "line 1: expected `witness",
        ),
        (format!("witness w {log}\nquorum w\n"), "line 1: the key"),
        (
            format!(
                "witness w {}\nwitness v {}\nquorum w\n",
                key(11),
                renamed.key()
            ),
            "line 2: the same key",
        ),
        (
            format!("witness w {}\nwitness w {}\nquorum w\n", key(11), key(12)),
            "line 2: the name \"w\" is taken",
        ),
        (
            format!("witness none {}\nquorum none\n", key(11)),
            "line 1: the name \"none\"",
        ),
        (
            format!("witness w {}\ngroup w any w\nquorum w\n", key(11)),
            "line 2: the name \"w\" is taken",
        ),
        (
            witnesses("group g any\nquorum g\n"),
            "line 6: expected `group",
        ),
        (
            witnesses("group g 0 w11\nquorum g\n"),
            "line 6: the threshold",
        ),
        (
            witnesses("group g 2 w11\nquorum g\n"),
            "line 6: the threshold",
        ),
        (
            witnesses("group g 01 w11\nquorum g\n"),
            "line 6: the threshold",
        ),
        (
            witnesses("group g +1 w11\nquorum g\n"),
            "line 6: the threshold",
        ),
        (
            witnesses("group g any none\nquorum g\n"),
            "line 6: no witness or group \"none\"",
        ),
        (
            witnesses("group g any g\nquorum g\n"),
            "line 6: no witness or group \"g\"",
        ),
        (
            witnesses("group g any h\ngroup h any w11\nquorum g\n"),
            "line 6: no witness or group \"h\"",
        ),
        (
            witnesses("group g 2 w11 w11\nquorum g\n"),
            "line 6: \"w11\" is a member already",
        ),
        // One witness cannot count twice by way of two groups.
        (
            witnesses("group g any w11\ngroup h any w11\nquorum g\n"),
            "line 7: \"w11\" is a member already",
        ),
        (
            many(&|seed| format!("witness w{seed} {}\n", key(seed + 20))) + "quorum none\n",
            "line 33: more than 32 witnesses",
        ),
    ] {
        let error = text.parse::<Policy>().unwrap_err();
        assert_eq!(error.code(), "LEDGER-POLICY");
        assert!(error.to_string().starts_with(expected), "{text}\n{error}");
    }
    // As many as the specification asks for.
    let all: String = (0..32)
        .map(|seed| format!("witness w{seed} {}\n", key(seed + 20)))
        .collect();
    let names: String = (0..32).map(|seed| format!(" w{seed}")).collect();
    let policy: Policy = format!("{all}group g all{names}\nquorum g\n")
        .parse()
        .unwrap();
    assert_eq!(policy.witnesses().len(), 32);
}

#[test]
fn names_are_octets() {
    let line = |name: &[u8]| {
        let key = witness(11).key().to_string();
        [b"witness ", name, b" ", key.as_bytes(), b"\nquorum "].concat()
    };
    // U+212A KELVIN SIGN is not K, and neither is one octet of it.
    let kelvin = "\u{212a}".as_bytes();
    Policy::parse(&[&line(kelvin), kelvin, b"\n"].concat()).unwrap();
    Policy::parse(&[&line(b"\xe2"), &b"\xe2\n# \xff"[..]].concat()).unwrap();
    for other in [&b"K"[..], b"\xe2", b"\xe2\x84"] {
        assert!(Policy::parse(&[&line(kelvin), other].concat()).is_err());
    }
}

#[test]
fn a_note_opens_for_a_log_of_the_policy_by_either_kind_of_key() {
    let pq_log = Cosigner::new("pq.example/log", crate::support::fixed_pq_key(5)).unwrap();
    let ledger = Memory::new(SERVER, 1);
    let text = format!(
        "log {} https://log.example/\nlog {}\n{}",
        ledger.key(),
        pq_log.key(),
        witnesses("quorum w11\n")
    );
    let policy: Policy = text.parse().unwrap();
    assert_eq!(policy.to_string(), text);
    assert_eq!(
        policy.logs()[0].url.as_deref(),
        Some("https://log.example/")
    );
    assert!(matches!(policy.logs()[1].key, LogKey::Cosigner(_)));
    let (opened, quorum) = policy
        .open(&cosigned(&ledger.note(), &[&witness(11)], TIME))
        .unwrap();
    assert_eq!((opened.size, quorum.reached), (0, true));
    let (_, quorum) = policy.open(&ledger.note()).unwrap();
    assert!(!quorum.reached);

    let root = crypto::base64::encode(&[7; 32]);
    let of_pq = |origin: &str| {
        let note = format!("{origin}\n5\n{root}\n\n\u{2014} x AAAAAAA=\n");
        cosigned(&note, &[&pq_log, &witness(11)], TIME)
    };
    assert_eq!(policy.open(&of_pq("pq.example/log")).unwrap().0.size, 5);
    // A log speaks for its own origin only, and the origin's log has to sign.
    assert_eq!(
        policy.open(&of_pq(SERVER)).unwrap_err().code(),
        "LEDGER-NOTE-UNSIGNED"
    );
    assert_eq!(
        policy.open(&of_pq("x")).unwrap_err().code(),
        "LEDGER-CHECKPOINT-ORIGIN"
    );
    let unsigned = cosigned(
        &format!("pq.example/log\n5\n{root}\n\n\u{2014} x AAAAAAA=\n"),
        &[&witness(11)],
        TIME,
    );
    assert_eq!(
        policy.open(&unsigned).unwrap_err().code(),
        "LEDGER-NOTE-UNSIGNED"
    );
}

#[test]
fn a_quorum_has_seen_a_checkpoint_when_the_last_that_it_needs_had() {
    let policy: Policy = format!(
        "witness a {}\nwitness b {}\nwitness c {}\ngroup g 2 a b c\nquorum g\n",
        witness(11).key(),
        witness(12).key(),
        pq_witness(15).key(),
    )
    .parse()
    .unwrap();
    let note = note();
    let judged = |lines: &[(&ledger::Cosigner, u64)]| {
        let mut note = note.clone();
        for (witness, time) in lines {
            note = cosigned(&note, &[witness], *time);
        }
        let quorum = policy.judge(&Note::parse(&note).unwrap()).unwrap();
        (quorum.reached, quorum.time)
    };
    let (a, b, c) = (witness(11), witness(12), pq_witness(15));
    assert_eq!(judged(&[]), (false, None));
    assert_eq!(judged(&[(&a, 900)]), (false, None));
    // One that is fresh does not make the other fresh.
    assert_eq!(judged(&[(&a, 900), (&b, 100)]), (true, Some(100)));
    assert_eq!(
        judged(&[(&a, 900), (&b, 100), (&c, 500)]),
        (true, Some(500))
    );
}

#[test]
fn a_line_of_a_clock_that_is_ahead_counts_for_nobody_who_asks_by_now() {
    let policy: Policy = format!(
        "witness a {}\nwitness b {}\ngroup g 1 a b\nquorum g\n",
        witness(11).key(),
        witness(12).key(),
    )
    .parse()
    .unwrap();
    let (a, b) = (witness(11), witness(12));
    let judged = |lines: &[(&ledger::Cosigner, u64)], until: u64| {
        let mut note = note();
        for (witness, time) in lines {
            note = cosigned(&note, &[witness], *time);
        }
        let note = Note::parse(&note).unwrap();
        let quorum = policy.judge_by(&note, until).unwrap();
        (quorum.reached, quorum.time)
    };
    // Years ahead: alone it is none, and beside another it neither spoils that nor makes it fresh.
    assert_eq!(judged(&[(&a, 90_000)], 560), (false, None));
    assert_eq!(judged(&[(&a, 90_000), (&b, 500)], 560), (true, Some(500)));
    assert_eq!(
        judged(&[(&a, 90_000), (&b, 500)], u64::MAX),
        (true, Some(90_000))
    );
    assert_eq!(judged(&[(&b, 560)], 560), (true, Some(560)));
}
