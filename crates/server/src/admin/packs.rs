//! Packs that the server makes of what it has open: `record_index::packs` makes them, here is what they are made of.

use super::records::{SERVER, sources};
use crate::core::Core;
use crate::mirrors;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::Issuance;
use ledger::pack::Question;
use ledger::{Checkpoint, Digest, HexDigest, LedgerKey};
use ledger_store::Head;
use proto::v1::Chunk;
use record_index::packs::{self, Gateway, Keeper, Log, Under, Unmade};
use spiffe_core::TrustDomain;
use std::sync::Arc;
use std::time::Duration;

const CHUNK: usize = 64 * 1024;
/// Witnesses have so long to look at what a pack is to show.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked. Whatever is none is refused before anything is recorded of it.
pub(super) fn question(text: &str) -> Result<Question, Refusal> {
    Question::read(text.as_bytes()).ok_or_else(|| {
        Refusal::Invalid(
            Finding::new("PACK-QUESTION", "this is no question that a pack answers")
                .expected(
                    "a document whose kind is access, record, issuance, session, lifetime, range, \
                     period, estate or verdict, with the fields of that kind and no other",
                )
                .next("docs/reference/cli.md says how `trilith pack` asks each"),
        )
    })
}

/// With the certificates that are kept, if `certificates` is true.
pub(super) async fn build(
    core: &Arc<Core>,
    asked: Question,
    certificates: bool,
) -> Result<Vec<Chunk>, Refusal> {
    // Gateways first, then the head: every anchor of these stands below it.
    let known = gateways(core);
    let head = Under {
        head: head(core).await,
        certificates,
    };
    let core = Arc::clone(core);
    let pack = tokio::task::spawn_blocking(move || packs::make(&*core, asked, known, head))
        .await
        .map_err(|error| Refusal::internal("making a pack", &error))??;
    Ok(pack
        .chunks(CHUNK)
        .map(|data| Chunk {
            data: data.to_vec(),
        })
        .collect())
}

/// What the pack is made under: the newest checkpoint as its witnesses cosigned it. Where they are not done in time
/// it is the newest all the same, and whoever verifies the pack is told that too few have seen it.
async fn head(core: &Core) -> Arc<Head> {
    let Some(witnesses) = &core.witnesses else {
        return core.journal.reader().head();
    };
    let published = core.hub.published().size;
    match witnesses.covering(published, PATIENCE).await {
        Some(witnessed) => Arc::new(Head {
            checkpoint: Checkpoint {
                origin: core.ledger_key.origin().clone(),
                size: witnessed.size,
                root: witnessed.root,
            },
            note: Arc::clone(&witnessed.note),
        }),
        None => core.journal.reader().head(),
    }
}

/// What the state knows to be anchored.
fn gateways(core: &Core) -> Vec<Gateway> {
    let state = core.state();
    let rows = state.gateways().map(|row| Gateway {
        anchor: row.anchor,
        origin: row.origin.clone(),
        key: row.ledger_key.parse().unwrap_or_default(),
        size: row.size,
        checkpoint: row.checkpoint.clone(),
    });
    rows.collect()
}

impl Keeper for Core {
    type Refusal = Refusal;

    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    fn ledger_key(&self) -> &LedgerKey {
        &self.ledger_key
    }

    fn reader(&self) -> Log {
        self.journal.reader().into()
    }

    fn named(&self, name: &str) -> Result<String, Refusal> {
        let source = sources(self, name)?.into_iter().next();
        let name = source.map_or_else(String::new, |source| source.name);
        Ok(match name == SERVER {
            true => self.ledger_key.origin().to_string(),
            false => name,
        })
    }

    fn mirror(&self, gateway: &Gateway) -> Result<Log, Refusal> {
        let key = mirrors::ledger_key(&gateway.origin, &gateway.key.0)?;
        let known = mirrors::known_key(self, &gateway.origin, || Ok(key.clone()))?;
        let kept = self.mirrors.open(&known)?;
        kept.named();
        let head = Checkpoint::open(&gateway.checkpoint, &key)
            .map_err(|error| Refusal::internal("reading an anchor", &error))?;
        kept.reaches(
            &gateway.origin,
            gateway.size,
            &Digest(head.root).to_string(),
        )?;
        Ok(kept.reader().into())
    }

    fn links(&self) -> Vec<u64> {
        self.state().links()
    }

    fn gateway_links(&self, origin: &str) -> Vec<u64> {
        let links = self.state().gateway_links(origin).into_iter();
        links.map(|(index, _link)| index).collect()
    }

    fn erased(&self, sha256: &HexDigest) -> Option<u64> {
        self.state().erased(sha256)
    }

    fn is_erased(&self, sha256: &HexDigest) -> bool {
        Self::is_erased(self, sha256)
    }

    fn content(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Refusal> {
        let content = self.blobs.get(sha256);
        content.map_err(|error| Refusal::internal("making a pack", &error))
    }

    fn needed(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Refusal> {
        super::estates::blob(self, &sha256.to_string()).map(Some)
    }

    fn svid(&self, serial: &str) -> Option<u64> {
        self.state().svid(serial).map(|svid| svid.index)
    }

    fn lives(&self, id: &str) -> bool {
        self.state().svids_of(id).next().is_some()
    }

    fn declared(&self) -> Result<Vec<(String, bool)>, Refusal> {
        let current = self.current.load_full();
        let identities = current
            .iter()
            .flat_map(|current| current.estate.identities());
        let declared = identities.map(|one| (one.path.clone(), !one.is_template()));
        Ok(declared.collect())
    }

    fn roots(&self) -> Vec<Vec<u8>> {
        self.authority.roots()
    }

    fn certificates(&self, wanted: &[(u64, Issuance)]) -> Vec<[Vec<u8>; 2]> {
        self.certificates.find(self.journal.reader(), wanted)
    }
}

impl From<Unmade> for Refusal {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Unknown(finding) => Self::Unknown(*finding),
            Unmade::Invalid(finding) => Self::Invalid(*finding),
            Unmade::Precondition(finding) => Self::Precondition(*finding),
            Unmade::Unavailable(finding) => Self::Unavailable(*finding),
            Unmade::Ledger(error) => Self::internal("making a pack", &error),
            Unmade::Record(error) => Self::internal("making a pack", &error),
        }
    }
}
