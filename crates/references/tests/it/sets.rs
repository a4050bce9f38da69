//! Generations in time and by ring: an upgrade raises no alarm, a withdrawn version ends on its day.

use references::pcr::Pcr;
use references::{
    ALL_RINGS, Artefact, ArtefactKind, At, Digest, FileValue, Generation, Known, Lapse,
    ReferenceFile, References, Source, SourceKind, Via, Withdrawal, rfc3339,
};

fn time(text: &str) -> facts::Timestamp {
    rfc3339(text).unwrap()
}

fn program(version: &str) -> Artefact {
    let content = |what: &str| Digest::of(format!("{what} {version}").as_bytes());
    Artefact {
        kind: ArtefactKind::Deb,
        name: "openssl".to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        sha256: content("deb"),
        source: "release".to_owned(),
        made_of: Vec::new(),
        files: vec![FileValue {
            path: "/usr/bin/openssl".to_owned(),
            sha256: content("file"),
            fsverity: Some(content("verity")),
            authenticode: None,
        }],
        pcrs: vec![
            Pcr::new(4)
                .measure("shim", b"shim")
                .measure("kernel", version.as_bytes())
                .finish(),
        ],
        unpredicted: Vec::new(),
        parts: references::Parts::default(),
    }
}

fn generation(
    name: &str,
    rings: &[&str],
    from: &str,
    until: Option<&str>,
    version: &str,
) -> Generation {
    Generation {
        name: name.to_owned(),
        rings: rings.iter().map(|ring| (*ring).to_owned()).collect(),
        valid_from: time(from),
        valid_until: until.map(time),
        imported_at: time("2026-01-01T00:00:00Z"),
        sources: vec![Source {
            id: "release".to_owned(),
            kind: SourceKind::DebianRelease,
            name: "Debian test".to_owned(),
            sha256: Digest::of(b"InRelease"),
            signed_by: vec!["ABCD test key".to_owned()],
            signed_at: Some(time(from)),
        }],
        artefacts: vec![program(version)],
    }
}

fn file(generations: Vec<Generation>, withdrawn: Vec<Withdrawal>) -> ReferenceFile {
    ReferenceFile {
        generations,
        boots: Vec::new(),
        withdrawn,
    }
}

fn upgrade() -> ReferenceFile {
    file(
        vec![
            generation(
                "january",
                &["production", "canary"],
                "2026-01-01T00:00:00Z",
                Some("2026-03-01T00:00:00Z"),
                "1",
            ),
            generation("february", &[ALL_RINGS], "2026-02-01T00:00:00Z", None, "2"),
        ],
        vec![Withdrawal {
            name: "openssl".to_owned(),
            version: Some("1".to_owned()),
            at: time("2026-02-20T00:00:00Z"),
            reason: "CVE-2026-0001".to_owned(),
        }],
    )
}

fn file_digest(version: &str) -> Digest {
    program(version).files[0].sha256
}

#[test]
fn an_upgrade_raises_no_alarm_and_ends_when_it_should() {
    let references = References::new([upgrade()]).unwrap();
    let judge = |version: &str, now: &str, ring: &str| {
        let at = At {
            now: time(now),
            ring,
        };
        let judged = references.judge_file("/usr/bin/openssl", &file_digest(version), at);
        judged.map_or_else(
            |finding| finding.code.into_owned(),
            |found| found.artefact.version.clone(),
        )
    };
    // Before the upgrade is imported to be good, only the old one is; then both; then the new one.
    assert_eq!(judge("1", "2026-01-15T00:00:00Z", "production"), "1");
    assert_eq!(
        judge("2", "2026-01-15T00:00:00Z", "production"),
        "REF-NOT-YET"
    );
    for version in ["1", "2"] {
        assert_eq!(
            judge(version, "2026-02-10T00:00:00Z", "production"),
            version
        );
    }
    assert_eq!(judge("1", "2026-02-19T23:59:59Z", "production"), "1");
    assert_eq!(
        judge("1", "2026-02-20T00:00:00Z", "production"),
        "REF-WITHDRAWN"
    );
    assert_eq!(
        judge("1", "2026-04-01T00:00:00Z", "production"),
        "REF-WITHDRAWN"
    );
    assert_eq!(judge("2", "2026-04-01T00:00:00Z", "production"), "2");
    // A ring that the generation does not name, and one that no file names.
    assert_eq!(judge("1", "2026-01-15T00:00:00Z", "lab"), "REF-RING");
    assert_eq!(judge("2", "2026-02-15T00:00:00Z", "lab"), "2");
    assert_eq!(
        judge("3", "2026-02-15T00:00:00Z", "production"),
        "REF-FILE-UNKNOWN"
    );
}

#[test]
fn a_boot_is_withdrawn_with_what_it_is_made_of() {
    let mut file = upgrade();
    let boot = &mut file.generations[1].artefacts[0];
    boot.name = "shim-grub-linux".to_owned();
    boot.made_of = vec![
        "shim-signed 1.51".to_owned(),
        "linux-image 6.1.192-2".to_owned(),
    ];
    let value = boot.pcrs[0].sha256;
    let withdraw = |name: &str, version: Option<&str>| {
        let mut file = file.clone();
        file.withdrawn[0].name = name.to_owned();
        file.withdrawn[0].version = version.map(str::to_owned);
        let references = References::new([file]).unwrap();
        let at = At {
            now: time("2026-04-01T00:00:00Z"),
            ring: "production",
        };
        let judged = references.judge_pcr(4, &value, &[], at);
        judged.is_err_and(|finding| finding.code == "REF-WITHDRAWN")
    };
    assert!(withdraw("linux-image", Some("6.1.192-2")));
    assert!(withdraw("linux-image", None));
    assert!(withdraw("shim-grub-linux", None));
    assert!(!withdraw("linux-image", Some("6.1.193-1")));
    assert!(!withdraw("linux", None));
}

#[test]
fn without_a_withdrawal_a_generation_ends_at_its_end() {
    let mut plain = upgrade();
    plain.withdrawn.clear();
    let references = References::new([plain]).unwrap();
    let at = |now: &str| At {
        now: time(now),
        ring: "canary",
    };
    let digest = file_digest("1");
    assert!(
        references
            .judge_file("/x", &digest, at("2026-02-28T23:59:59Z"))
            .is_ok()
    );
    let over = references.judge_file("/x", &digest, at("2026-03-01T00:00:00Z"));
    assert_eq!(over.unwrap_err().code, "REF-OVER");
    let Known::Lapsed(found, Lapse::Over(until)) =
        references.look_up(&digest, at("2026-03-01T00:00:00Z"))
    else {
        panic!("over");
    };
    assert_eq!(
        (found.generation.name.as_str(), until),
        ("january", time("2026-03-01T00:00:00Z"))
    );
}

#[test]
fn a_digest_is_found_by_each_of_its_kinds_and_says_where_it_comes_from() {
    let references = References::new([upgrade()]).unwrap();
    let at = At {
        now: time("2026-02-15T00:00:00Z"),
        ring: "production",
    };
    let artefact = program("2");
    for (digest, via) in [
        (artefact.files[0].sha256, Via::Sha256),
        (artefact.files[0].fsverity.unwrap(), Via::FsVerity),
        (artefact.sha256, Via::Artefact),
    ] {
        let Known::Good(found) = references.look_up(&digest, at) else {
            panic!("{via:?}");
        };
        assert_eq!(found.via, via);
        assert_eq!(found.source().unwrap().name, "Debian test");
        assert!(found.label().starts_with("openssl 2"));
    }
    // The value of a PCR is no file's digest, and not another PCR's.
    let value = artefact.pcrs[0].sha256;
    assert!(matches!(references.look_up(&value, at), Known::Unknown));
    assert!(matches!(
        references.look_up_pcr(4, &value, at),
        Known::Good(_)
    ));
    assert!(matches!(
        references.look_up_pcr(7, &value, at),
        Known::Unknown
    ));
}

#[test]
fn a_refusal_names_the_package_that_would_have_matched() {
    let references = References::new([upgrade()]).unwrap();
    let at = At {
        now: time("2026-02-25T00:00:00Z"),
        ring: "production",
    };
    let unknown = Digest::of(b"altered");
    for path in ["/usr/bin/openssl", "/bin/openssl", "/opt/openssl"] {
        let finding = references.judge_file(path, &unknown, at).unwrap_err();
        let expected = finding.expected.unwrap();
        // The version that was withdrawn is not recommended.
        assert_eq!(
            expected,
            format!("openssl 2 /usr/bin/openssl ({})", file_digest("2"))
        );
        assert!(finding.observed.unwrap().starts_with(path));
        assert!(finding.next.unwrap().contains("trilith refs import"));
    }
    let nowhere = references
        .judge_file("/opt/other", &unknown, at)
        .unwrap_err();
    assert!(nowhere.expected.unwrap().contains("ring production"));
}

#[test]
fn a_refused_pcr_names_the_event_that_differs() {
    let references = References::new([upgrade()]).unwrap();
    let at = At {
        now: time("2026-02-15T00:00:00Z"),
        ring: "production",
    };
    let mut altered = Pcr::new(4)
        .measure("shim", b"shim")
        .measure("kernel", b"3")
        .finish();
    let events: Vec<Digest> = altered.events.iter().map(|event| event.sha256).collect();
    let finding = references
        .judge_pcr(4, &altered.sha256, &events, at)
        .unwrap_err();
    assert_eq!(finding.code, "REF-PCR-UNKNOWN");
    assert!(finding.expected.unwrap().contains("event 1: kernel"));
    assert!(finding.observed.unwrap().contains(&events[1].to_string()));
    altered = program("2").pcrs.remove(0);
    assert!(references.judge_pcr(4, &altered.sha256, &[], at).is_ok());
    let none = references
        .judge_pcr(11, &altered.sha256, &[], at)
        .unwrap_err();
    assert!(none.expected.unwrap().contains("there is none"));
}

#[test]
fn files_merge_and_one_name_means_one_set_of_values() {
    let mut references = References::new([upgrade()]).unwrap();
    let count = references.generations().len();
    references.merge(upgrade()).unwrap();
    assert_eq!(references.generations().len(), count);
    let other = generation("february", &[ALL_RINGS], "2026-02-01T00:00:00Z", None, "9");
    let refused = references.merge(file(vec![other], Vec::new())).unwrap_err();
    assert_eq!(refused[0].code, "REF-GENERATION-CONFLICT");
    assert_eq!(references.generations().len(), count);
}

#[test]
fn json_and_toml_hold_the_same_and_json_has_one_form() {
    let whole = upgrade();
    let json = whole.to_json();
    let read = ReferenceFile::parse(&json).unwrap();
    assert_eq!(read.to_json(), json);
    let toml = toml::to_string(&read).unwrap();
    assert_eq!(ReferenceFile::parse(&toml).unwrap(), read);
    // Whatever order it was imported in.
    let mut turned = whole.clone();
    turned.generations.reverse();
    assert_eq!(turned.to_json(), json);
    // A file's digests stand on one line.
    let row = json
        .lines()
        .find(|line| line.contains("/usr/bin/openssl"))
        .unwrap();
    assert!(row.contains("sha256") && row.contains("fsverity"));
}

#[test]
fn a_file_that_contradicts_itself_is_refused() {
    let change = |change: &dyn Fn(&mut ReferenceFile)| {
        let mut whole = upgrade();
        change(&mut whole);
        let text = whole.to_json();
        let codes = ReferenceFile::parse(&text).err().unwrap_or_default();
        codes
            .first()
            .map_or_else(String::new, |finding| finding.code.to_string())
    };
    assert_eq!(change(&|_| {}), "");
    assert_eq!(
        change(&|file| file.generations[0].rings.clear()),
        "REF-GENERATION-RINGS"
    );
    assert_eq!(
        change(&|file| file.generations[0].name = "a b".to_owned()),
        "REF-GENERATION-NAME"
    );
    assert_eq!(
        change(&|file| file.generations[1].name = "january".to_owned()),
        "REF-GENERATION-TWICE"
    );
    assert_eq!(
        change(&|file| file.generations[0].valid_until = Some(file.generations[0].valid_from)),
        "REF-GENERATION-WINDOW"
    );
    assert_eq!(
        change(&|file| file.generations[0].sources.clear()),
        "REF-SOURCE"
    );
    let artefact = |file: &mut ReferenceFile, change: &dyn Fn(&mut Artefact)| {
        change(&mut file.generations[0].artefacts[0]);
    };
    assert_eq!(
        change(&|file| artefact(file, &|one| one.pcrs[0].events[0].sha256 = Digest([1; 32]))),
        "REF-VALUE"
    );
    assert_eq!(
        change(&|file| artefact(file, &|one| one.pcrs[0].index = 24)),
        "REF-VALUE"
    );
    assert_eq!(
        change(&|file| artefact(file, &|one| one.files[0].path = "bin/x".to_owned())),
        "REF-VALUE"
    );
    assert_eq!(
        change(&|file| file.withdrawn[0].reason.clear()),
        "REF-WITHDRAWN-FORM"
    );
    for text in [
        r#"{"generation":[],"extra":1}"#,
        "generations = []",
        "{",
        "[[withdrawn]]\nname = \"x\"\nat = \"yesterday\"\nreason = \"r\"",
    ] {
        assert_eq!(
            ReferenceFile::parse(text).unwrap_err()[0].code,
            "REF-FILE",
            "{text}"
        );
    }
    let upper = upgrade().to_json().replace(
        &file_digest("1").to_string(),
        &file_digest("1").to_string().to_uppercase(),
    );
    assert_eq!(
        ReferenceFile::parse(&upper).unwrap_err()[0].code,
        "REF-FILE"
    );
}
