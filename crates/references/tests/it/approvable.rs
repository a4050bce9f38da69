//! Boots as wholes: what belongs together stays together, and nothing is left out or made up.

use facts::Timestamp;
use references::{
    Artefact, ArtefactKind, At, Boots, Digest, Generation, PcrValue, ReferenceFile, References,
    Source, SourceKind, Withdrawal,
};

const NOW: u64 = 1_800_000_000;

fn artefact(name: &str, pcrs: &[(u8, u8)]) -> Artefact {
    let pcrs = pcrs.iter().map(|(index, value)| {
        let event = Digest([*value; 32]);
        let events = vec![references::PcrEvent {
            what: name.to_owned(),
            sha256: event,
        }];
        PcrValue {
            index: *index,
            sha256: references::pcr::replay(&events),
            events,
        }
    });
    Artefact {
        kind: ArtefactKind::Uki,
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: String::new(),
        sha256: Digest::of(name.as_bytes()),
        source: "pinned".to_owned(),
        made_of: Vec::new(),
        files: Vec::new(),
        pcrs: pcrs.collect(),
        unpredicted: Vec::new(),
        parts: references::Parts::default(),
    }
}

fn generation(name: &str, from: u64, artefacts: Vec<Artefact>) -> Generation {
    Generation {
        name: name.to_owned(),
        rings: vec!["production".to_owned()],
        valid_from: Timestamp::from_secs(from),
        valid_until: None,
        imported_at: Timestamp::from_secs(from),
        sources: vec![Source {
            id: "pinned".to_owned(),
            kind: SourceKind::Pinned,
            name: "test".to_owned(),
            sha256: Digest([7; 32]),
            signed_by: Vec::new(),
            signed_at: None,
        }],
        artefacts,
    }
}

fn boots(generations: Vec<Generation>, withdrawn: &[&str], ring: &str, most: usize) -> Boots {
    let withdrawn = withdrawn.iter().map(|name| Withdrawal {
        name: (*name).to_owned(),
        version: None,
        at: Timestamp::from_secs(NOW - 1),
        reason: "test".to_owned(),
    });
    let file = ReferenceFile {
        generations,
        boots: Vec::new(),
        withdrawn: withdrawn.collect(),
    };
    let now = Timestamp::from_secs(NOW);
    References::new([file])
        .unwrap()
        .boots(At { now, ring }, most)
}

fn labels(boots: &Boots) -> Vec<&str> {
    boots.boots.iter().map(|boot| boot.label.as_str()).collect()
}

#[test]
fn the_values_of_one_image_belong_together_and_those_of_others_are_combined() {
    let generations = vec![
        generation(
            "old",
            NOW - 20,
            vec![
                artefact("linux-old", &[(4, 1), (11, 1)]),
                artefact("keys", &[(7, 9)]),
            ],
        ),
        generation(
            "new",
            NOW - 10,
            vec![artefact("linux-new", &[(4, 2), (11, 2)])],
        ),
    ];
    let all = boots(generations.clone(), &[], "production", 64);
    assert!(!all.more);
    let named = [
        "linux-new 1 (new), keys 1 (old)",
        "linux-old 1 (old), keys 1 (old)",
    ];
    assert_eq!(
        labels(&all),
        named,
        "the newest first, and no old PCR 11 with a new PCR 4"
    );
    for boot in &all.boots {
        let indices: Vec<u8> = boot.pcrs.keys().copied().collect();
        assert_eq!(indices, [4, 7, 11]);
    }
    assert_eq!(
        labels(&boots(
            generations.clone(),
            &["linux-old"],
            "production",
            64
        )),
        named[..1]
    );
    // Without a good value for a PCR that is predicted, no boot is good.
    assert!(labels(&boots(generations.clone(), &["keys"], "production", 64)).is_empty());
    assert!(labels(&boots(generations.clone(), &[], "canary", 64)).is_empty());
    let one = boots(generations, &[], "production", 1);
    assert_eq!((labels(&one), one.more), (named[..1].to_vec(), true));
}

#[test]
fn what_holds_later_is_not_yet_a_boot_and_several_values_of_one_pcr_are_several() {
    let phases = artefact("uki", &[(4, 1), (11, 1), (11, 2)]);
    let generations = vec![
        generation("now", NOW - 10, vec![phases]),
        generation(
            "later",
            NOW + 10,
            vec![artefact("uki-2", &[(4, 3), (11, 3)])],
        ),
    ];
    let found = boots(generations, &[], "production", 64);
    assert_eq!(found.boots.len(), 2);
    assert!(found.boots.iter().all(|boot| boot.label == "uki 1 (now)"));
    assert_ne!(found.boots[0].pcrs, found.boots[1].pcrs);
}

/// However many there are to combine, it ends.
#[test]
fn combinations_are_bounded() {
    let artefacts = (0..24_u8)
        .flat_map(|pcr| {
            (0..8_u8).map(move |value| artefact(&format!("a{pcr}-{value}"), &[(pcr, value)]))
        })
        .collect();
    let many = boots(
        vec![generation("all", NOW - 1, artefacts)],
        &[],
        "production",
        64,
    );
    assert_eq!((many.boots.len(), many.more), (64, true));
}
