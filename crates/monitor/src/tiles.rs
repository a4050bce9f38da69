//! Proofs out of tiles: the nodes that one needs are asked for first, then it is made and checked. A tile is as good as
//! the root that it leads to.

use crate::Failure;
use crate::source::{PRUNED, Source, entries};
use facts::Finding;
use ledger::merkle::{
    Hash, Node, NodeReader, consistency_proof, inclusion_proof, leaf_hash, verify_consistency,
    verify_inclusion,
};
use ledger::tile::{Kind, TilePath, TileReader, WIDTH, locate};
use ledger::{ForeignCheckpoint, Frontier};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

/// The tree under one checkpoint, as a source shows it.
pub(crate) struct View<'a> {
    pub(crate) source: &'a Source,
    pub(crate) head: &'a ForeignCheckpoint,
    tiles: BTreeMap<TilePath, Vec<u8>>,
}

/// Writes down what it is asked for. Which nodes a proof needs follows from the sizes alone.
#[derive(Default)]
struct Wanted(RefCell<Vec<Node>>);

impl NodeReader for Wanted {
    type Error = Infallible;

    fn node(&self, node: Node) -> Result<Hash, Infallible> {
        self.0.borrow_mut().push(node);
        Ok([0; 32])
    }
}

impl<'a> View<'a> {
    pub(crate) const fn new(source: &'a Source, head: &'a ForeignCheckpoint) -> Self {
        Self {
            source,
            head,
            tiles: BTreeMap::new(),
        }
    }

    /// The head's own root at `size`, and the proof from there to the head, which was checked.
    pub(crate) async fn root_at(&mut self, size: u64) -> Result<(Hash, Vec<Hash>), Failure> {
        let (edge, proof) = self.edge_at(size).await?;
        Ok((edge.root(), proof))
    }

    /// The right edge of its first `size` records, and the proof from there to the head, which was checked.
    pub(crate) async fn edge_at(&mut self, size: u64) -> Result<(Frontier, Vec<Hash>), Failure> {
        let head = self.head;
        let wanted = Wanted::default();
        let Ok(_) = Frontier::read(size, &wanted);
        let Ok(_) = consistency_proof(size, head.size, &wanted);
        self.hold(wanted.0.into_inner()).await?;
        let reader = TileReader::new(head.size, |path: &TilePath| self.tiles.get(path).cloned());
        let read = Frontier::read(size, &reader)
            .and_then(|frontier| Ok((frontier, consistency_proof(size, head.size, &reader)?)));
        let (edge, proof) = read.map_err(|error| wrong(self.source, head, error))?;
        let proof = proof.ok_or_else(|| {
            wrong(
                self.source,
                head,
                "it is shorter than what it has to contain",
            )
        })?;
        verify_consistency(size, &edge.root(), head.size, &head.root, &proof)
            .map_err(|error| wrong(self.source, head, error))?;
        Ok((edge, proof))
    }

    /// The right edge of the whole tree.
    pub(crate) async fn frontier(&mut self) -> Result<Frontier, Failure> {
        let head = self.head;
        let wanted = Wanted::default();
        let Ok(_) = Frontier::read(head.size, &wanted);
        self.hold(wanted.0.into_inner()).await?;
        let reader = TileReader::new(head.size, |path: &TilePath| self.tiles.get(path).cloned());
        let frontier = Frontier::read(head.size, &reader);
        let frontier = frontier.map_err(|error| wrong(self.source, head, error))?;
        match frontier.root() == head.root {
            true => Ok(frontier),
            false => Err(wrong(self.source, head, "they lead to another root")),
        }
    }

    /// One entry, proved under the head; `None` if its bundle is not served any more.
    pub(crate) async fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>, Failure> {
        let (head, source) = (self.head, self.source);
        let path = TilePath::at(Kind::Entries, index / WIDTH, head.size);
        let path = path.ok_or_else(|| wrong(source, head, "there is no such tile"))?;
        let bundle = match source.tile(&path).await {
            Err(failure) if failure.finding().code == PRUNED => return Ok(None),
            bundle => bundle?,
        };
        let Some(bundle) = bundle else {
            return Ok(None);
        };
        let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let entries = entries(&bundle, path.width());
        let entry = entries.and_then(|entries| Some(entries.get(place)?.to_vec()));
        let entry = entry.ok_or_else(|| wrong(source, head, "a bundle does not split"))?;
        let wanted = Wanted::default();
        let Ok(_) = inclusion_proof(index, head.size, &wanted);
        self.hold(wanted.0.into_inner()).await?;
        let reader = TileReader::new(head.size, |path: &TilePath| self.tiles.get(path).cloned());
        let proof = inclusion_proof(index, head.size, &reader);
        let proof = proof.map_err(|error| wrong(source, head, error))?;
        let proof = proof.ok_or_else(|| wrong(source, head, "it is shorter than that"))?;
        verify_inclusion(&leaf_hash(&entry), index, head.size, &proof, &head.root)
            .map_err(|error| wrong(source, head, error))?;
        Ok(Some(entry))
    }

    /// A tile of this tree, of the width that it has there.
    pub(crate) async fn tile(
        &self,
        kind: Kind,
        index: u64,
    ) -> Result<(TilePath, Vec<u8>), Failure> {
        let path = TilePath::at(kind, index, self.head.size);
        let path = path.ok_or_else(|| wrong(self.source, self.head, "there is no such tile"))?;
        let bytes = self.source.tile(&path).await?;
        let bytes = bytes.ok_or_else(|| {
            Failure::Broken(
                Finding::new(
                    "MONITOR-TILE-MISSING",
                    format!("{} does not serve {path}", self.source.name()),
                )
                .expected(format!("the tiles of its {} records", self.head.size))
                .next("tell the log's operator; it is tried again"),
            )
        })?;
        let exact = usize::from(path.width()) * 32;
        if matches!(kind, Kind::Hashes(_)) && bytes.len() != exact {
            return Err(Failure::Broken(
                Finding::new(
                    "MONITOR-WIDTH",
                    format!(
                        "{path} of {} has not the width of its name",
                        self.source.name()
                    ),
                )
                .expected(format!("{exact} bytes"))
                .observed(format!("{} bytes", bytes.len()))
                .next("tell the log's operator; nothing of it was taken"),
            ));
        }
        Ok((path, bytes))
    }

    async fn hold(&mut self, nodes: Vec<Node>) -> Result<(), Failure> {
        for node in nodes {
            let (level, index, _) = locate(node);
            let path = TilePath::at(Kind::Hashes(level), index, self.head.size);
            if path.is_some_and(|path| self.tiles.contains_key(&path)) {
                continue;
            }
            let (path, bytes) = self.tile(Kind::Hashes(level), index).await?;
            self.tiles.insert(path, bytes);
        }
        Ok(())
    }
}

fn wrong(source: &Source, head: &ForeignCheckpoint, error: impl std::fmt::Display) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-TILES",
            format!("the tiles of {} are not those of the checkpoint that it shows", source.name()),
        )
        .expected(format!("tiles that lead to the root of {} records", head.size))
        .observed(error.to_string())
        .next("keep this checkpoint, and tell the log's operator: its store or its server is wrong; nothing was taken"),
    )
}
