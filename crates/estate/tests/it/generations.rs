//! What `trilith refs import` writes stands in the estate: read, checked, and shown in a diff.

use crate::fixture::{compile, problems_with, shop, shop_files};
use facts::Timestamp;
use references::{
    Artefact, ArtefactKind, At, Digest, FileValue, Generation, Known, ReferenceFile, Source,
    SourceKind,
};

const FILE: &str = "references/debian.json";

fn imported() -> ReferenceFile {
    let source = Source {
        id: "debian-bookworm".to_owned(),
        kind: SourceKind::DebianRelease,
        name: "Debian bookworm".to_owned(),
        sha256: Digest::of(b"InRelease"),
        signed_by: vec!["4CB5 Debian".to_owned()],
        signed_at: Some(Timestamp::from_secs(1_780_000_000)),
    };
    let artefact = Artefact {
        kind: ArtefactKind::Deb,
        name: "openssl".to_owned(),
        version: "3.0.17-1".to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Digest::of(b"deb"),
        source: source.id.clone(),
        made_of: Vec::new(),
        files: vec![FileValue {
            path: "/usr/bin/openssl".to_owned(),
            sha256: Digest::of(b"openssl"),
            fsverity: None,
            authenticode: None,
        }],
        pcrs: Vec::new(),
        unpredicted: Vec::new(),
        parts: references::Parts::default(),
    };
    let generation = Generation {
        name: "debian".to_owned(),
        rings: vec!["*".to_owned()],
        valid_from: Timestamp::from_secs(1_780_000_000),
        valid_until: None,
        imported_at: Timestamp::from_secs(1_780_000_000),
        sources: vec![source],
        artefacts: vec![artefact],
    };
    ReferenceFile {
        generations: vec![generation],
        boots: Vec::new(),
        withdrawn: Vec::new(),
    }
}

#[test]
fn a_generation_beside_hand_written_references_answers_and_is_withdrawn_in_toml() {
    let mut files = shop_files();
    files.insert(FILE, imported().to_json());
    let estate = compile(&files);
    let at = |seconds| At {
        now: Timestamp::from_secs(seconds),
        ring: "production",
    };
    let digest = Digest::of(b"openssl");
    let values = &estate.references().values;
    assert!(matches!(
        values.look_up(&digest, at(1_780_000_001)),
        Known::Good(_)
    ));
    let diff = estate::diff(&shop(), &estate);
    assert_eq!(diff.references.added, ["generation debian"]);

    let withdrawn = "[[withdrawn]]\nname = \"openssl\"\nversion = \"3.0.17-1\"\nat = \"2026-06-01T00:00:00Z\"\nreason = \"CVE-2026-0001\"\n";
    files.insert("references/withdrawn.toml", withdrawn);
    let later = compile(&files);
    let values = &later.references().values;
    assert!(matches!(
        values.look_up(&digest, at(1_790_000_000)),
        Known::Lapsed(..)
    ));
    let diff = estate::diff(&estate, &later);
    assert_eq!(diff.references.added, ["withdrawn openssl 3.0.17-1"]);
}

#[test]
fn a_generation_that_contradicts_itself_or_another_does_not_compile() {
    assert_eq!(problems_with(FILE, &imported().to_json()), "no problem");
    let mut wrong = imported();
    wrong.generations[0].artefacts[0].source = "nobody".to_owned();
    let said = problems_with(FILE, &wrong.to_json());
    assert!(
        said.starts_with("references/debian.json: ESTATE-REFERENCES: REF-SOURCE"),
        "{said}"
    );
    let unknown = imported().to_json().replace("\"rings\"", "\"machines\"");
    let said = problems_with(FILE, &unknown);
    assert!(
        said.contains("ESTATE-DECLARATION: unknown field `machines`"),
        "{said}"
    );
    let mut files = shop_files();
    files.insert(FILE, imported().to_json());
    let mut other = imported();
    other.generations[0].artefacts[0].version = "3.0.18-1".to_owned();
    files.insert("references/other.json", other.to_json());
    let problems = estate::Estate::compile(&files).unwrap_err();
    assert!(
        problems[0].message.contains("REF-GENERATION-CONFLICT"),
        "{}",
        problems[0]
    );
}

const RULE: &str = "[[boot]]\nname = \"web-debian\"\nrings = [\"web\"]\nfrom = [\"shim-grub-linux\"]\n\
    sbat = { sbat = 2025021800, shim = 4 }\ncommand_lines = [\"root=LABEL=root ro\"]\n\
    file = [{ what = \"initrd\", sha256 = \"1111111111111111111111111111111111111111111111111111111111111111\" }]\n";

/// Who writes no more than what may start still asks for Secure Boot.
#[test]
fn a_boot_rule_is_written_by_hand_and_asks_for_secure_boot_unless_it_says_otherwise() {
    let mut files = shop_files();
    files.insert("references/boot.toml", RULE);
    let estate = compile(&files);
    let [rule] = estate.references().values.rules() else {
        panic!("one rule");
    };
    assert_eq!(rule.secure_boot, references::SecureBoot::Required);
    assert!(rule.is_for("web") && !rule.is_for("db"));
    let diff = estate::diff(&shop(), &estate);
    assert_eq!(diff.references.added, ["boot web-debian"]);
    // The same again in another file says nothing new, and another of that name is refused.
    files.insert("references/again.toml", RULE);
    assert_eq!(compile(&files).references().values.rules().len(), 1);
    let other = RULE.replace(" ro", " ro init=/bin/sh");
    files.insert("references/again.toml", other);
    let problems = estate::Estate::compile(&files).unwrap_err();
    let said = problems[0].to_string();
    assert!(said.contains("REF-BOOT-RULE"), "{said}");
}

#[test]
fn a_boot_rule_that_cannot_be_meant_is_refused() {
    for (good, bad) in [
        ("\"web-debian\"", "\"../x\""),
        ("[\"web\"]", "[]"),
        (
            "from",
            "valid_from = \"2026-02-01T00:00:00Z\"\nvalid_until = \"2026-01-01T00:00:00Z\"\nfrom",
        ),
        ("from", "unjudged = [24]\nfrom"),
        ("from", "imagess = []\nfrom"),
        ("1111\" }", "111\" }"),
    ] {
        let said = problems_with("references/boot.toml", &RULE.replace(good, bad));
        assert!(said.contains("references/boot.toml"), "{bad}: {said}");
    }
}
