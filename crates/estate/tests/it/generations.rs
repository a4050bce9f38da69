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
