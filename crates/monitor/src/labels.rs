//! Blinded labels, by decision 0027: what an owner learns by his key of a ledger whose records he is not served.

mod kept;

pub(crate) use kept::Served;

use crate::Failure;
use crate::alert::{Alert, Kind, Told};
use crate::config::{Config, LabelsConfig, read, wrong};
use crate::source::Source;
use facts::{Finding, Timestamp};
use ledger::label::{LabelError, LabelKey, LabelPath, LabelTile, Said};
use ledger::merkle::Hash;
use ledger::tile::TilePath;
use ledger::{ForeignCheckpoint, LedgerKey, LogKey};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The key of a file that nobody else reads.
fn label_key(path: &Path) -> Result<LabelKey, Finding> {
    custody::label_key(path).map_err(|observed| {
        Finding::new("LABEL-KEY", "the key of the labels cannot be used")
            .expected("64 hex digits, in a file that nobody else reads")
            .observed(format!("{}: {observed}", path.display()))
            .next("make one with `trilith monitor --label-key FILE`, and give the ledger's operator a copy of it")
    })
}

/// What a monitor reads labels with.
pub(crate) struct Labels {
    config: LabelsConfig,
    key: LabelKey,
    /// Who has signed them: the log; or, of a log that is anchored, its server.
    signer: LedgerKey,
    /// The log that they are of, if it is not the signer's.
    of: Option<String>,
    /// Where they are, if not where the log is.
    at: Option<Source>,
}

/// Labels as they were served, and what they are called.
pub(crate) struct Rows {
    tile: LabelTile,
    path: LabelPath,
    bytes: Arc<[u8]>,
}

/// What an owner shows: that this ledger's key, or its server's, has signed labels that deny him what is his. With his key, and the
/// record and its receipt, it convinces others.
#[derive(Debug, Serialize)]
pub(crate) struct Denial {
    /// What it is called beside the state.
    #[serde(skip)]
    pub(crate) name: String,
    v: u8,
    log: String,
    key: String,
    index: u64,
    leaf_hash: String,
    path: String,
    /// As they were served, with the signature, in base64.
    labels: String,
}

impl Denial {
    fn new(
        head: &ForeignCheckpoint,
        key: String,
        index: u64,
        leaf: &Hash,
        path: &LabelPath,
        labels: &[u8],
    ) -> Self {
        let hex = crypto::hex::encode(leaf);
        Self {
            name: format!("denied-{}.json", hex.get(..16).unwrap_or(&hex)),
            v: 1,
            log: head.origin.clone(),
            key,
            index,
            leaf_hash: crypto::base64::encode(leaf),
            path: path.to_string(),
            labels: crypto::base64::encode(labels),
        }
    }
}

/// What the labels of a batch come to.
pub(crate) enum Judged {
    Alerts(Vec<Alert>),
    Denied(Box<Denial>, Finding),
}

/// What the labels say of one record, to be judged once its leaf is known to be the log's.
pub(crate) struct Labelled {
    pub(crate) index: u64,
    pub(crate) leaf: Hash,
    pub(crate) said: Option<Said>,
    path: LabelPath,
    bytes: Arc<[u8]>,
}

impl Labels {
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, Finding> {
        let Some(labels) = &config.labels else {
            return Ok(None);
        };
        let LogKey::Note(log) = config.lineage()? else {
            return Err(wrong(
                "[labels] are of a ledger of Trilith, and `log.key` is of another log",
            ));
        };
        let at = Source::addresses(config, labels.url.as_slice())?;
        let (signer, of) = match &config.anchor {
            // By the name that stays, also once the log goes on as another.
            Some(anchor) => {
                let origin = log.origin().place().0.to_owned();
                (anchor.key()?, Some(origin))
            }
            None => (log, None),
        };
        let opened = Self {
            config: labels.clone(),
            key: label_key(&labels.key_file)?,
            signer,
            of,
            at: at.into_iter().next().map(Source::Http),
        };
        opened.known()?;
        Ok(Some(opened))
    }

    /// Leaf hashes of what the owner expects.
    fn known(&self) -> Result<BTreeSet<Hash>, Finding> {
        let Some(path) = &self.config.known else {
            return Ok(BTreeSet::new());
        };
        // Not made yet, and nothing is known: all that is his is told.
        if path.try_exists().is_ok_and(|there| !there) {
            return Ok(BTreeSet::new());
        }
        let unread = |line: &str| {
            wrong("`labels.known` has leaf hashes in base64, one a line")
                .observed(line.chars().take(100).collect::<String>())
        };
        let text = String::from_utf8(read(path)?).map_err(|_error| unread("no text"))?;
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let bytes = crypto::base64::decode(line).ok();
                let hash = bytes.and_then(|bytes| Hash::try_from(bytes).ok());
                hash.ok_or_else(|| unread(line))
            })
            .collect()
    }

    /// The labels beside that tile of hashes, of its width or wider, which the log's key has signed.
    pub(crate) async fn beside(&self, log: &Source, tile: &TilePath) -> Result<Rows, Failure> {
        let source = self.at.as_ref().unwrap_or(log);
        let found = match LabelPath::beside(tile) {
            Some(path) => source.labels(path).await?,
            None => None,
        };
        let Some((path, bytes)) = found else {
            return Err(Failure::Broken(
                Finding::new(
                    "MONITOR-LABEL-MISSING",
                    format!("{} has no labels beside {tile}", source.name()),
                )
                .expected("labels of every record")
                .next("ask the log's operator whether its server has a `[[label]]` for you; it is tried again"),
            ));
        };
        let kept = Arc::from(bytes.as_slice());
        let opened = match &self.of {
            Some(origin) => LabelTile::open_of(bytes, &path, origin, &self.signer),
            None => LabelTile::open(bytes, &path, &self.signer),
        };
        match opened {
            Ok(tile) => Ok(Rows { tile, path, bytes: kept }),
            Err(LabelError::Rows) => Err(Failure::Broken(
                Finding::new(
                    "MONITOR-WIDTH",
                    format!("{path} of {} does not split into labels", source.name()),
                )
                .expected(format!("{} rows of labels, of one length", path.width()))
                .next("tell the log's operator; nothing of it was taken"),
            )),
            Err(LabelError::Signature) => Err(Failure::Broken(
                Finding::new(
                    "MONITOR-LABEL-SIGNATURE",
                    format!("the labels {path} of {} are not signed by whoever makes them", source.name()),
                )
                .expected(format!("labels that {} has signed for this place", self.signer.origin()))
                .next("they were changed on the way, or where they are kept: ask another address; nothing of it was taken"),
            )),
        }
    }

    /// What the tile says of a record.
    pub(crate) fn said(&self, rows: &Rows, index: u64, leaf: Hash) -> Labelled {
        let place = usize::try_from(index % ledger::tile::WIDTH).unwrap_or(usize::MAX);
        Labelled {
            index,
            leaf,
            said: rows.tile.said(&self.key, place, &leaf),
            path: rows.path,
            bytes: Arc::clone(&rows.bytes),
        }
    }

    /// Of records of the log, what their owner has to be told.
    pub(crate) fn judge(
        &self,
        head: &ForeignCheckpoint,
        labelled: &[Labelled],
        now: Timestamp,
    ) -> Result<Judged, Failure> {
        let known = self.known().map_err(Failure::Local)?;
        let mut alerts = Vec::new();
        for one in labelled {
            match (one.said, known.contains(&one.leaf)) {
                (None, _) => return Err(not_its_label(head, one)),
                (Some(Said::NotYours), true) => return Ok(self.denied(head, one)),
                (Some(Said::Yours), true) | (Some(Said::NotYours), false) => {}
                (Some(Said::Yours), false) => {
                    let finding = self.unknown(one);
                    alerts.push(self.alert(head, one.index, &one.leaf, finding, now));
                }
            }
        }
        Ok(Judged::Alerts(alerts))
    }

    fn denied(&self, head: &ForeignCheckpoint, one: &Labelled) -> Judged {
        let key = self.signer.to_string();
        let denial = Denial::new(head, key, one.index, &one.leaf, &one.path, &one.bytes);
        let finding = denied(head, one.index, &one.leaf);
        Judged::Denied(Box::new(denial), finding)
    }

    fn unknown(&self, one: &Labelled) -> Finding {
        let (name, index) = (&self.config.name, one.index);
        Finding::new(
            "MONITOR-LABEL-YOURS",
            format!("record {index} is about what is yours, and you do not know it"),
        )
        .expected(format!("records of {name} whose leaf hashes are in `labels.known`"))
        .observed(crypto::base64::encode(&one.leaf))
        .next("ask the log's operator for a pack of this record; if it is as it should be, add the leaf hash to the file that `labels.known` names")
    }

    fn alert(
        &self,
        head: &ForeignCheckpoint,
        index: u64,
        leaf: &Hash,
        finding: Finding,
        now: Timestamp,
    ) -> Alert {
        let name = &self.config.name;
        let denies = match finding.code == "MONITOR-LABEL-DENIED" {
            true => ":denied",
            false => "",
        };
        Alert {
            v: 1,
            id: format!("{}:{index}:{name}{denies}", head.origin),
            kind: Kind::Unexpected,
            log: head.origin.clone(),
            found: now.as_millis(),
            finding,
            record: Some(Told {
                index,
                watch: name.clone(),
                record_type: None,
                wall: None,
                about: vec!["what its label says".to_owned()],
                leaf_hash: crypto::base64::encode(leaf),
                text: None,
            }),
        }
    }
}

fn not_its_label(head: &ForeignCheckpoint, one: &Labelled) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-LABEL",
            format!(
                "no label of record {} of {} says whether it is yours",
                one.index, head.origin
            ),
        )
        .expected("the label of this record by your key, once")
        .observed(format!("labels that belong to other records or keys, beside {}", crypto::base64::encode(&one.leaf)))
        .next("compare `labels.key_file` with what the log's operator has; if they are one, its server keeps something from you: nothing was taken"),
    )
}

fn denied(head: &ForeignCheckpoint, index: u64, leaf: &Hash) -> Finding {
    Finding::new(
        "MONITOR-LABEL-DENIED",
        format!(
            "the label of record {index} of {} says that it is not yours, and it is",
            head.origin
        ),
    )
    .expected("that it is yours, since `labels.known` has its leaf hash")
    .observed(crypto::base64::encode(leaf))
    .next("keep the record, its receipt and the signed labels, which stand beside the state, and ask the log's operator what its server has under your name: others may be denied as well")
}
