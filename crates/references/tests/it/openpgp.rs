//! Who signed: right signatures, and each way in which one is wrong. `gpgv` judges the same.

use crate::forge::{Forged, How, MADE, SIGNED, packet};
use facts::Timestamp;
use references::debian::Release;
use references::openpgp::{Keyring, verify};
use std::process::Command;

const NOW: Timestamp = Timestamp::from_secs(SIGNED as u64 + 60);
const TEXT: &str = "Origin: Test\n- a dash\n-----BEGIN nothing-----\nwith space  \n\nend";

/// What is wrong with it, if anything.
fn judged(forged: &Forged, now: Timestamp) -> Result<(), String> {
    let keyring = Keyring::parse(&forged.keyring()).map_err(|finding| finding.observed.unwrap())?;
    verify(forged.message(TEXT).as_bytes(), &keyring, now)
        .map(|signed| {
            assert_eq!(signed.by.len(), 1);
            assert_eq!(signed.by[0].user, "Forged <forged@example.org>");
            // What is read is what was signed: without the trailing spaces.
            let lines: Vec<&str> = TEXT.lines().map(str::trim_end).collect();
            assert_eq!(signed.text, format!("{}\n", lines.join("\n")));
        })
        .map_err(|finding| finding.observed.unwrap())
}

/// What gpgv says of the same message, today: what was wrong, if anything; nothing if there is no gpgv.
fn gpgv(forged: &Forged) -> Option<Result<(), String>> {
    let Ok([gpgv]) = testkit::tools(["gpgv"]) else {
        testkit::skip("references::gpgv", "gpgv is not installed");
        return None;
    };
    let folder = testkit::temp_dir().unwrap();
    let keyring = folder.path().join("keyring.gpg");
    let message = folder.path().join("message");
    std::fs::write(&keyring, forged.keyring()).unwrap();
    std::fs::write(&message, forged.message(TEXT)).unwrap();
    let output = Command::new(gpgv)
        .args(["--status-fd", "1"])
        .arg("--homedir")
        .arg(folder.path())
        .arg("--keyring")
        .arg(&keyring)
        .arg(&message)
        .output()
        .unwrap();
    if String::from_utf8_lossy(&output.stdout).contains("[GNUPG:] GOODSIG") {
        return Some(Ok(()));
    }
    Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn right_signatures_are_accepted_by_us_and_by_gpgv() {
    let rights = [
        How::default(),
        How {
            hash: 8,
            ..How::default()
        },
        How {
            hash: 9,
            ..How::default()
        },
        How {
            subkey: Some(0x02),
            ..How::default()
        },
        How {
            flags: 0x01,
            subkey: Some(0x02),
            ..How::default()
        },
        How {
            key_expires: 2_000_000_000,
            ..How::default()
        },
        How {
            expires: 1_900_000_000,
            ..How::default()
        },
    ];
    for (number, how) in rights.into_iter().enumerate() {
        let forged = Forged::with(how);
        assert_eq!(judged(&forged, NOW), Ok(()), "{number}");
        if let Some(judged) = gpgv(&forged) {
            assert_eq!(judged, Ok(()), "{number}");
        }
    }
}

#[test]
fn each_wrong_signature_is_refused_for_what_is_wrong_with_it() {
    let wrongs: Vec<(How, &str)> = vec![
        (
            How {
                revoked: true,
                ..How::default()
            },
            "revoked",
        ),
        (
            How {
                key_expires: SIGNED - MADE - 1,
                ..How::default()
            },
            "has expired",
        ),
        (
            How {
                expires: 30,
                ..How::default()
            },
            "that has expired",
        ),
        (
            How {
                signed: MADE - 5,
                ..How::default()
            },
            "older than its key",
        ),
        (
            How {
                notation: true,
                ..How::default()
            },
            "critical",
        ),
        (
            How {
                hash: 2,
                ..How::default()
            },
            "weak",
        ),
        (
            How {
                subkey: Some(0x02),
                subkey_revoked: true,
                ..How::default()
            },
            "revoked",
        ),
        (
            How {
                subkey: Some(0x02),
                revoked: true,
                ..How::default()
            },
            "revoked",
        ),
        (
            How {
                subkey: Some(0x02),
                subkey_agrees: false,
                ..How::default()
            },
            "not in the keyring",
        ),
        (
            How {
                subkey: Some(0x0c),
                ..How::default()
            },
            "not in the keyring",
        ),
        (
            How {
                flags: 0x01,
                ..How::default()
            },
            "no key that may sign",
        ),
    ];
    for (how, what) in wrongs {
        let forged = Forged::with(how);
        let wrong = judged(&forged, NOW).unwrap_err();
        assert!(wrong.contains(what), "{wrong:?} is not {what:?}");
        assert_ne!(gpgv(&forged), Some(Ok(())), "{what}");
    }
    // A key that expires between signing and now no longer counts; neither does one from tomorrow.
    let expiring = Forged::with(How {
        key_expires: SIGNED - MADE + 30,
        ..How::default()
    });
    assert!(judged(&expiring, NOW).unwrap_err().contains("expired"));
    let tomorrow = Forged::with(How {
        signed: SIGNED + 86_400,
        ..How::default()
    });
    assert!(judged(&tomorrow, NOW).unwrap_err().contains("future"));
    // A signature over a file is none over a text.
    let binary = Forged::with(How {
        kind: 0x00,
        ..How::default()
    });
    assert!(judged(&binary, NOW).unwrap_err().contains("another kind"));
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let forged = Forged::new();
    let keyring = Keyring::parse(&forged.keyring()).unwrap();
    let message = forged.message("Origin: Test\nDate: today").into_bytes();
    assert!(verify(&message, &keyring, NOW).is_ok());
    let end = message.len() - "-----END PGP SIGNATURE-----\n".len();
    for at in 0..end {
        let mut changed = message.clone();
        changed[at] ^= 0x02;
        if let Ok(signed) = verify(&changed, &keyring, NOW) {
            // What of a signature is not signed (the hint of its digest, the hash header) may differ.
            assert_eq!(signed.text, "Origin: Test\nDate: today\n", "byte {at}");
        }
    }
}

#[test]
fn another_key_with_the_same_name_is_another_key() {
    let (one, other) = (Forged::new(), Forged::new());
    let keyring = Keyring::parse(&other.keyring()).unwrap();
    let refused = verify(one.message("x").as_bytes(), &keyring, NOW).unwrap_err();
    assert_eq!(refused.code, "REF-OPENPGP-SIGNATURE");
    // A keyring of both has both.
    let both = [one.keyring(), other.keyring()].concat();
    let both = Keyring::parse(&both).unwrap();
    assert_eq!(both.len(), 2);
    assert!(verify(one.message("x").as_bytes(), &both, NOW).is_ok());
    assert_eq!(Keyring::parse(b"").unwrap_err().code, "REF-OPENPGP-KEYRING");
    assert_eq!(
        Keyring::parse(&packet(6, &[5; 40])).unwrap_err().code,
        "REF-OPENPGP-KEYRING"
    );
}

#[test]
fn a_release_says_each_thing_once_and_until_when() {
    let forged = Forged::new();
    let keyring = Keyring::parse(&forged.keyring()).unwrap();
    let list = "SHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/Packages\n";
    let date = "Date: Sun, 15 Jun 2025 15:00:00 UTC\n";
    let code = |text: &str| {
        let release = Release::verify(forged.message(text).as_bytes(), &keyring, NOW);
        release
            .map(|_| "good".into())
            .unwrap_or_else(|finding| finding.code)
    };
    assert_eq!(code(&format!("{date}{list}")), "good");
    assert_eq!(code(list), "REF-RELEASE");
    assert_eq!(code(date), "REF-RELEASE");
    assert_eq!(code(&format!("{date}{date}{list}")), "REF-RELEASE");
    assert_eq!(code(&format!("{date}{list}SHA256:\n")), "REF-RELEASE");
    assert_eq!(code(&format!("Date: yesterday\n{list}")), "REF-RELEASE");
    let future = "Date: Mon, 16 Jun 2025 15:00:00 UTC\n";
    assert_eq!(code(&format!("{future}{list}")), "REF-RELEASE-FUTURE");
    let until = |text: &str| format!("{date}Valid-Until: {text}\n{list}");
    assert_eq!(
        code(&until("Sun, 15 Jun 2025 15:06:40 UTC")),
        "REF-RELEASE-EXPIRED"
    );
    assert_eq!(code(&until("Sun, 15 Jun 2025 15:08:00 UTC")), "good");
    // Digests under MD5Sum are not digests.
    let md5 = list.replace("SHA256:", "MD5Sum:");
    assert_eq!(code(&format!("{date}{md5}")), "REF-RELEASE");
}
