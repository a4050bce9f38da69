//! Packs: a question with every record, proof and input that its answer rests on.

use super::estates::blob;
use super::records::sources;
use crate::core::Core;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body;
use ledger::pack::PackBuilder;
use ledger::tile::{Kind, TilePath};
use ledger::{Record, RecordType};
use ledger_store::{Head, Reader};
use proto::v1::Chunk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::GatewayRow;

const CHUNK: usize = 64 * 1024;
const LONGEST_QUESTION: usize = 4_096;
/// Ledgers of at most so many records are shown whole.
const WHOLE: u64 = 2_048;
/// Accesses that one pack shows: the newest.
const MOST_ACCESSES: usize = 1_000;

/// What can be asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Question {
    /// What did this identity do, to this resource or to any?
    Access {
        identity: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
    },
    Record {
        #[serde(default)]
        ledger: String,
        index: u64,
    },
    Issuance {
        serial: String,
    },
}

pub(super) async fn build(core: &Arc<Core>, question: String) -> Result<Vec<Chunk>, Refusal> {
    let asked = (question.len() <= LONGEST_QUESTION)
        .then(|| serde_json::from_str::<Question>(&question).ok())
        .flatten()
        .ok_or_else(|| {
            Refusal::Invalid(
                Finding::new("PACK-QUESTION", "this is no question that a pack answers")
                    .expected(
                        "{\"kind\":\"access\",\"identity\":…,\"resource\":…}, \
                         {\"kind\":\"record\",\"ledger\":…,\"index\":…} or \
                         {\"kind\":\"issuance\",\"serial\":…}",
                    )
                    .next("docs/reference/cli.md says how `trilith pack` asks each"),
            )
        })?;
    let core = Arc::clone(core);
    let pack = tokio::task::spawn_blocking(move || collect(&core, &asked))
        .await
        .map_err(|error| Refusal::internal("making a pack", &error))??;
    Ok(pack
        .chunks(CHUNK)
        .map(|data| Chunk {
            data: data.to_vec(),
        })
        .collect())
}

/// The pack under construction; what it needs is added once.
struct Collector<'a> {
    core: &'a Core,
    builder: PackBuilder,
    own: BTreeSet<u64>,
    head: Arc<Head>,
    gateways: Vec<GatewayRow>,
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::internal("making a pack", error)
}

fn collect(core: &Core, question: &Question) -> Result<Vec<u8>, Refusal> {
    // Gateways first, then the head: every anchor stands below it, and it is the one head of the pack.
    let gateways: Vec<GatewayRow> = core.state().gateways().cloned().collect();
    let head = core.journal.reader().head();
    let builder = PackBuilder::new(question, &head.note).map_err(|error| failed(&error))?;
    let mut collector = Collector {
        core,
        builder,
        own: BTreeSet::new(),
        head,
        gateways,
    };
    match question {
        Question::Record { ledger, index } => collector.record(ledger, *index)?,
        Question::Issuance { serial } => {
            let index = core.state().svid(serial).map(|svid| svid.index);
            let index = index.map_or_else(|| sought(core, serial), Ok)?;
            collector.own(index)?;
        }
        Question::Access { identity, resource } => {
            collector.access(identity, resource.as_deref())?;
        }
    }
    let (note, size) = (
        collector.head.note.to_string(),
        collector.head.checkpoint.size,
    );
    collector.tiles(&note, size, core.journal.reader())?;
    Ok(collector.builder.build())
}

/// Refuses an identity that is not declared and was never issued: that it did nothing says nothing.
fn known(core: &Core, path: &str, id: &str) -> Result<(), Refusal> {
    let current = core.current.load_full();
    let declared = current
        .iter()
        .flat_map(|current| current.estate.identities());
    let declared: Vec<&str> = declared.map(|identity| identity.path.as_str()).collect();
    let issued = |issuance: &body::Issuance| issuance.spiffe_id == id;
    if declared.contains(&path) || issuance(core, issued)?.is_some() {
        return Ok(());
    }
    let meant = super::acts::did_you_mean(path, declared);
    Err(Refusal::Unknown(
        Finding::new(
            "PACK-IDENTITY-UNKNOWN",
            "no such identity is declared, and none was issued",
        )
        .expected("an identity of the estate in force, or one that was issued once")
        .observed(id.to_owned())
        .next(
            meant.unwrap_or_else(|| {
                "look it up in the estate: trilith estate export DIR".to_owned()
            }),
        ),
    ))
}

/// An issuance that has ended is no longer in the state: its record is sought.
fn sought(core: &Core, serial: &str) -> Result<u64, Refusal> {
    let of_serial = issuance(core, |issuance| issuance.serial == serial)?;
    of_serial.ok_or_else(|| {
        Refusal::Unknown(
            Finding::new("PACK-SERIAL", "no SVID of that serial was issued")
                .observed(serial.to_owned())
                .next("serials: trilith ledger search --ledger server --type issuance"),
        )
    })
}

/// The index of the first issuance that is `wanted`.
fn issuance(core: &Core, wanted: impl Fn(&body::Issuance) -> bool) -> Result<Option<u64>, Refusal> {
    let reader = core.journal.reader();
    let mut index = 0;
    loop {
        let records = reader
            .read(index..index + 4_096)
            .map_err(|error| failed(&error))?;
        if records.is_empty() {
            return Ok(None);
        }
        for bytes in records {
            let issuance = Record::from_vec(bytes)
                .ok()
                .and_then(|record| record.expect_body::<body::Issuance>().ok());
            if issuance.is_some_and(|issuance| wanted(&issuance)) {
                return Ok(Some(index));
            }
            index += 1;
        }
    }
}

impl Collector<'_> {
    /// A record of the server's ledger and, through it, what it names.
    fn own(&mut self, index: u64) -> Result<(), Refusal> {
        if !self.own.insert(index) {
            return Ok(());
        }
        let reader = self.core.journal.reader();
        let receipt = ledger::Receipt {
            record: reader
                .record(index)
                .map_err(|error| failed(&error))?
                .into_bytes(),
            index,
            proof: reader
                .inclusion(index, self.head.checkpoint.size)
                .map_err(|error| failed(&error))?,
            checkpoint: self.head.note.to_string(),
        };
        let record = Record::parse(&receipt.record).map_err(|error| failed(&error))?;
        self.builder.receipt(&receipt);
        if let Some(estate) = record.estate() {
            self.own(estate.index)?;
        }
        match record.kind() {
            RecordType::Issuance => {
                let issuance: body::Issuance =
                    record.expect_body().map_err(|error| failed(&error))?;
                self.own(issuance.verdict.0)?;
            }
            RecordType::Verdict => {
                let verdict: body::Verdict =
                    record.expect_body().map_err(|error| failed(&error))?;
                let evidence = verdict.evidence.iter().map(|evidence| evidence.sha256);
                let facts = verdict.facts_blob.map(|blob| blob.sha256);
                for digest in evidence.chain(facts) {
                    self.blob(&digest.to_string())?;
                }
            }
            RecordType::EstateVersion => {
                let version: body::EstateVersion =
                    record.expect_body().map_err(|error| failed(&error))?;
                self.blob(&version.blob.sha256.to_string())?;
                if let Some(proof) = version.proof_index {
                    self.own(proof.0)?;
                }
            }
            RecordType::Proof => {
                let proof: body::Proof = record.expect_body().map_err(|error| failed(&error))?;
                if let Some(blob) = proof.blob {
                    self.blob(&blob.sha256.to_string())?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Every tile and entry bundle of a ledger that is small: then a pack shows it whole.
    fn tiles(&mut self, note: &str, size: u64, reader: &Reader) -> Result<(), Refusal> {
        if size > WHOLE {
            return Ok(());
        }
        let number = self.builder.checkpoint(note);
        for kind in (0..)
            .map(Kind::Hashes)
            .take_while(|kind| TilePath::at(*kind, 0, size).is_some())
            .chain([Kind::Entries])
        {
            for path in TilePath::all(kind, size) {
                if let Some(content) = reader.tile(&path).map_err(|error| failed(&error))? {
                    self.builder.tile(number, path, content);
                }
            }
        }
        Ok(())
    }

    fn blob(&mut self, digest: &str) -> Result<(), Refusal> {
        let content = blob(self.core, digest)?;
        self.builder.blob(content);
        Ok(())
    }

    fn record(&mut self, ledger: &str, index: u64) -> Result<(), Refusal> {
        let source = sources(self.core, ledger)?.into_iter().next();
        let Some(source) = source else {
            return Ok(());
        };
        let (own, row) = (
            source.name == super::records::SERVER,
            self.gateways.iter().find(|row| row.origin == source.name),
        );
        let size = if own {
            self.head.checkpoint.size
        } else {
            row.map_or(0, |row| row.size)
        };
        if index >= size {
            return Err(Refusal::Unknown(
                Finding::new("PACK-RECORD", "the ledger has no such record")
                    .expected(format!("an index below {size}, the end of what is anchored"))
                    .observed(format!("{}:{index}", source.name))
                    .next("`trilith ledger search` lists records; a gateway's are anchored within seconds"),
            ));
        }
        if own {
            return self.own(index);
        }
        self.gateways(&source.name, &source.reader, &[index])
    }

    /// Records of a gateway under the checkpoint that is anchored, with the anchor.
    fn gateways(&mut self, origin: &str, reader: &Reader, indices: &[u64]) -> Result<(), Refusal> {
        let row = self.gateways.iter().find(|row| row.origin == origin);
        let Some(row) = row.cloned() else {
            return Ok(());
        };
        self.own(row.anchor)?;
        self.tiles(&row.checkpoint, row.size, reader)?;
        for index in indices.iter().filter(|index| **index < row.size) {
            let record = reader.record(*index).map_err(|error| failed(&error))?;
            let estate = record.estate();
            let proof = reader
                .inclusion(*index, row.size)
                .map_err(|error| failed(&error))?;
            if let Ok(start) = record.expect_body::<body::SessionStart>()
                && let Some(issuance) = start.issuance
            {
                self.own(issuance.0)?;
            }
            self.builder.receipt(&ledger::Receipt {
                record: record.into_bytes(),
                index: *index,
                proof,
                checkpoint: row.checkpoint.clone(),
            });
            if let Some(estate) = estate {
                self.own(estate.index)?;
            }
        }
        Ok(())
    }

    /// The sessions of an identity, what it did in them, and what became of that.
    fn access(&mut self, identity: &str, resource: Option<&str>) -> Result<(), Refusal> {
        let path = super::acts::identity_path(self.core, identity)?;
        let id = format!("spiffe://{}/{path}", self.core.trust_domain);
        let mut found = false;
        for source in sources(self.core, "*")? {
            if source.name == super::records::SERVER {
                continue;
            }
            let indices = super::records::of_identity(&source, &id, resource)?;
            found |= !indices.is_empty();
            let newest = indices.len().saturating_sub(MOST_ACCESSES);
            let newest: Vec<u64> = indices.into_iter().skip(newest).collect();
            self.gateways(&source.name, &source.reader, &newest)?;
        }
        if found {
            return Ok(());
        }
        known(self.core, &path, &id)
    }
}
