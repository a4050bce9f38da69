//! Reference values as an operator pins them by hand: whoever makes the artefact in a test says what is good.

use crypto::sha256;
use facts::Timestamp;
use references::{
    Artefact, ArtefactKind, Digest, FileValue, Generation, Parts, ReferenceFile, Source, SourceKind,
};

/// One generation of one artefact, which holds on `rings` from 2023 on.
#[must_use]
pub fn generation(name: &str, rings: &[&str], artefact: Artefact) -> Generation {
    let at = Timestamp::from_secs(1_700_000_000);
    Generation {
        name: name.to_owned(),
        rings: rings.iter().map(|ring| (*ring).to_owned()).collect(),
        valid_from: at,
        valid_until: None,
        imported_at: at,
        sources: vec![Source {
            id: artefact.source.clone(),
            kind: SourceKind::Pinned,
            name: "for the test".to_owned(),
            sha256: Digest([7; 32]),
            signed_by: Vec::new(),
            signed_at: None,
        }],
        artefacts: vec![artefact],
    }
}

/// A file of one [`generation`].
#[must_use]
pub fn only(generation: Generation) -> ReferenceFile {
    ReferenceFile {
        generations: vec![generation],
        boots: Vec::new(),
        withdrawn: Vec::new(),
    }
}

/// Version 1 of something of which nothing is known yet.
#[must_use]
pub fn artefact(kind: ArtefactKind, name: &str) -> Artefact {
    Artefact {
        kind,
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Digest(sha256(name.as_bytes())),
        source: "pinned".to_owned(),
        made_of: Vec::new(),
        files: Vec::new(),
        pcrs: Vec::new(),
        unpredicted: Vec::new(),
        parts: Parts::default(),
    }
}

/// Files that may run.
#[must_use]
pub fn files(name: &str, files: Vec<FileValue>) -> Artefact {
    Artefact {
        files,
        ..artefact(ArtefactKind::Deb, name)
    }
}

#[must_use]
pub fn file(path: &str, sha256: [u8; 32]) -> FileValue {
    FileValue {
        path: path.to_owned(),
        sha256: Digest(sha256),
        fsverity: None,
        authenticode: None,
    }
}
