//! A guest and a trust domain, the vendor that endorses them, and a fetcher that may ask it.

use crate::stock::stock;
use crate::tee_forged::{domain, guest, snp_root, tdx_root};
use crate::vendor::{Vendor, authority};
use attest_tee::snp::Generation;
use attest_tee::{Anchors, Artefact, Endorsement, intel, snp};
use endorsements::{Event, Fetcher, Kind, Limits, Settings, Source, SourceTerms, Want};
use facts::Timestamp;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct World {
    pub(crate) vendor: Vendor,
    pub(crate) base: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let vendor = Vendor::start().await;
        stock(&vendor, &guest(), &domain());
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("ca.pem"), authority()).unwrap();
        let settings = Settings {
            folder: base.path().join("cache"),
            folder_bytes: 1 << 20,
            limits: Limits {
                per_source: 1_000,
                per_machine: 1_000,
            },
            at_once: 4,
            timeout: Duration::from_secs(20),
            wait: Duration::from_secs(30),
        };
        Self {
            vendor,
            base,
            settings,
            events: Arc::default(),
        }
    }

    /// Of one vendor each.
    pub(crate) fn sources(&self, url: &str) -> Vec<Source> {
        let ca: PathBuf = self.base.path().join("ca.pem");
        let open = |kind| {
            Source::open(&SourceTerms {
                kind,
                url: Some(url.to_owned()),
                ca: Some(ca.clone()),
                root: Some("lab".to_owned()),
            })
            .unwrap()
        };
        vec![open(Kind::Amd), open(Kind::Intel)]
    }

    pub(crate) fn fetcher(&self) -> Arc<Fetcher> {
        self.fetcher_of(self.sources(&self.vendor.url()))
    }

    pub(crate) fn fetcher_of(&self, sources: Vec<Source>) -> Arc<Fetcher> {
        let events = Arc::clone(&self.events);
        let watch = move |event| events.lock().unwrap().push(event);
        Fetcher::open(self.settings.clone(), sources, watch).unwrap()
    }

    /// Whole files of the folder.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.settings.folder).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }

    pub(crate) fn count(&self, event: Event) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|one| **one == event).count()
    }
}

pub(crate) fn want(artefact: Artefact) -> Want {
    let anchors = match artefact {
        Artefact::SnpKey { generation, .. } | Artefact::SnpCrl { generation } => {
            let mut roots = snp::Roots::default();
            roots.add(generation, &snp_root()).unwrap();
            Anchors::Amd(roots)
        }
        _ => Anchors::Intel(intel::Roots::from_pem(&tdx_root()).unwrap()),
    };
    Want {
        artefact,
        anchors: Arc::new(anchors),
        root: Some("lab".into()),
    }
}

/// What a guest's report asks for.
pub(crate) fn guests() -> Vec<Want> {
    let report = guest().signed_report();
    let needed = Artefact::of_snp(&report, &[Generation::Milan, Generation::Genoa]);
    assert_eq!(needed.len(), 2, "{needed:?}");
    needed.into_iter().map(want).collect()
}

/// What a trust domain's quote asks for.
pub(crate) fn domains() -> Vec<Want> {
    let roots = intel::Roots::from_pem(&tdx_root()).unwrap();
    let needed = Artefact::of_tdx(&domain().quote(), &roots, Timestamp::now());
    assert_eq!(needed.len(), 4, "{needed:?}");
    needed.into_iter().map(want).collect()
}

pub(crate) fn named(found: &[Endorsement]) -> Vec<String> {
    let names = found.iter().map(|one| one.artefact().to_string());
    names.collect()
}

pub(crate) fn chip(number: u64) -> Want {
    let mut chip = [7; 64];
    chip[..8].copy_from_slice(&number.to_be_bytes());
    want(Artefact::SnpKey {
        generation: Generation::Milan,
        chip,
        tcb: [3, 1, 0, 0, 0, 0, 24, 217],
    })
}
