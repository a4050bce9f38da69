//! Against a stand-in for the kernel's folder: this machine has no such hardware.

use device::tsm::{Error, event_log, report};
use std::fs;
use testkit::tsm::{EAGAIN, EBUSY, EIO, Fault, Tsm};

const DATA: [u8; 64] = [7; 64];
/// What is taken at most, and how often is asked.
const LONGEST_REPORT: usize = 32 * 1024;
const LONGEST_AUXILIARY: usize = 64 * 1024;
const LONGEST_EVENT_LOG: usize = 1 << 20;
const TRIES: u32 = 6;

/// Hardware that reports what it was asked.
fn mount(test: &str, provider: &str, floor: Option<u64>) -> Option<Tsm> {
    let hardware = |asked: &[u8]| ([b"report:", asked].concat(), b"table".to_vec());
    match Tsm::mount(provider, floor, Box::new(hardware)) {
        Ok(tsm) => Some(tsm),
        Err(missing) => {
            testkit::skip(test, &missing);
            None
        }
    }
}

#[test]
fn a_report_is_of_what_was_asked_and_leaves_nothing_behind() {
    for (provider, floor, kind) in [
        ("sev_guest", Some(0), Some("sev-snp")),
        ("sev_guest", Some(2), Some("sev-snp")),
        ("tdx_guest", None, Some("tdx")),
        ("arm_cca_guest", None, None),
    ] {
        let Some(tsm) = mount("device.tsm-report", provider, floor) else {
            return;
        };
        let report = report(tsm.root(), &DATA).unwrap();
        assert_eq!(report.kind(), kind);
        assert_eq!(report.provider, provider);
        assert_eq!(report.report, [b"report:", &DATA[..]].concat());
        assert_eq!(report.auxiliary, b"table");
        assert_eq!(tsm.entries(), (0, 1), "{provider} {floor:?}");
    }
}

#[test]
fn what_passes_is_tried_again_in_a_new_folder() {
    for fault in [
        Fault::Make(EBUSY),
        Fault::Read("outblob", EBUSY),
        Fault::Read("outblob", EAGAIN),
        Fault::Read("provider", EAGAIN),
        Fault::Interferes,
    ] {
        let Some(tsm) = mount("device.tsm-busy", "sev_guest", None) else {
            return;
        };
        tsm.fails(fault, 2);
        let asked = report(tsm.root(), &DATA);
        assert!(asked.unwrap().report.ends_with(&DATA), "{fault:?}");
        let folders = if fault == Fault::Make(EBUSY) { 1 } else { 3 };
        assert_eq!(tsm.entries(), (0, folders), "{fault:?}");
    }
}

#[test]
fn what_does_not_pass_is_said_and_leaves_nothing_behind() {
    for (fault, times) in [
        (Fault::Make(EIO), 1),
        (Fault::Read("provider", EIO), 1),
        (Fault::Read("generation", EIO), 1),
        (Fault::Read("outblob", EIO), 1),
        (Fault::Read("auxblob", EIO), 1),
        // The kernel cannot say that it did not take the question; there is no report then.
        (Fault::Lost, 1),
        // However often.
        (Fault::Read("outblob", EBUSY), 100),
        (Fault::Interferes, 100),
    ] {
        let Some(tsm) = mount("device.tsm-fails", "sev_guest", None) else {
            return;
        };
        tsm.fails(fault, times);
        let error = report(tsm.root(), &DATA).unwrap_err();
        match fault {
            Fault::Make(_) => assert!(matches!(error, Error::Entry { .. }), "{error:?}"),
            Fault::Interferes => assert!(matches!(error, Error::Raced), "{error:?}"),
            Fault::Read(name, errno) => match error {
                Error::Attribute { attribute, source } => {
                    assert_eq!((attribute, source.raw_os_error()), (name, Some(errno)));
                }
                other => panic!("{other:?}"),
            },
            Fault::Lost => {
                assert!(
                    matches!(
                        error,
                        Error::Attribute {
                            attribute: "outblob",
                            ..
                        }
                    ),
                    "{error:?}"
                );
            }
        }
        let (left, made) = tsm.entries();
        let tries = u64::from(if times == 1 { 1 } else { TRIES });
        let made_first = matches!(fault, Fault::Make(_));
        assert_eq!(
            (left, made),
            (0, if made_first { 0 } else { tries }),
            "{fault:?}"
        );
    }
}

#[test]
fn what_is_too_long_or_empty_is_no_report() {
    type Hardware = fn(&[u8]) -> (Vec<u8>, Vec<u8>);
    let cases: [(Hardware, &str); 3] = [
        (|_| (vec![0; LONGEST_REPORT + 1], Vec::new()), "outblob"),
        (|_| (vec![0; 1], vec![0; LONGEST_AUXILIARY + 1]), "auxblob"),
        (|_| (Vec::new(), Vec::new()), "outblob"),
    ];
    for (hardware, named) in cases {
        let tsm = match Tsm::mount("tdx_guest", None, Box::new(hardware)) {
            Ok(tsm) => tsm,
            Err(missing) => return testkit::skip("device.tsm-long", &missing),
        };
        match report(tsm.root(), &DATA).unwrap_err() {
            Error::TooLong { attribute, .. } | Error::Answer { attribute, .. } => {
                assert_eq!(attribute, named);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(tsm.entries(), (0, 1));
    }
}

#[test]
fn a_machine_without_such_hardware_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("report");
    let error = report(&absent, &DATA).unwrap_err();
    assert!(matches!(error, Error::Entry { root, .. } if root == absent));
    // Not the kernel's: it has no attributes.
    let error = report(folder.path(), &DATA).unwrap_err();
    assert!(matches!(
        error,
        Error::Attribute {
            attribute: "provider",
            ..
        }
    ));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_event_log_is_read_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("CCEL");
    assert!(matches!(event_log(&path), Err(Error::EventLog { .. })));
    fs::write(&path, [1; 100]).unwrap();
    assert_eq!(event_log(&path).unwrap(), [1; 100]);
    fs::write(&path, vec![1; LONGEST_EVENT_LOG + 1]).unwrap();
    assert!(matches!(event_log(&path), Err(Error::TooLong { .. })));
}
