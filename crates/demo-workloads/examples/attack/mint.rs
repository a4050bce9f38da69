//! Forging: what the stolen keys sign. No network here.

use anyhow::{Context as _, bail};
use crypto::{Algorithm, Custody as _, KeyPair, Signer};
use custody::FileCustody;
use facts::{Finding, Timestamp};
use ledger::body::{Body as _, Issuance};
use ledger::merkle::{self, Frontier, Node, NodeReader};
use ledger::{Checkpoint, Hash, LedgerKey, LedgerSigner, Receipt, Record, Stamp};
use spiffe_core::{Bundle, Issuer, LeafParams, Serial, Tbs, TrustDomain, ValidatedSvid, X509Svid};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

const HOUR: u64 = 3_600;

/// Certificates as every peer of the victim sees them.
pub(crate) struct Genuine {
    pub(crate) svid: ValidatedSvid,
    issuing: Vec<u8>,
    receipt: Receipt,
}

/// Who has the keys.
pub(crate) struct Thief {
    genuine: Genuine,
    issuer: Issuer,
    ledger: LedgerSigner,
}

/// A certificate that the authority never issued, with its key.
pub(crate) struct Forged {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Arc<dyn Signer>,
}

impl Genuine {
    pub(crate) fn seen(chain: &[Vec<u8>], bundle: &Bundle, now: Timestamp) -> anyhow::Result<Self> {
        let svid = validate(chain, bundle, now)?;
        let receipt = svid.receipt.as_deref().context("it carries no receipt")?;
        Ok(Self {
            receipt: Receipt::decode(receipt)?,
            issuing: chain.get(1).context("no issuing CA came with it")?.clone(),
            svid,
        })
    }
}

impl Thief {
    /// Takes the newest issuing key that fits the issuing CA of the genuine certificate, and the key of
    /// the server's ledger.
    pub(crate) fn with_keys(
        ca_keys: &Path,
        ledger_keys: &Path,
        trust_domain: &TrustDomain,
        genuine: Genuine,
    ) -> anyhow::Result<Self> {
        let custody = FileCustody::open(ca_keys)?;
        let mut numbers: Vec<u64> = std::fs::read_dir(ca_keys)?
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let number = name.strip_prefix("issuing-")?.strip_suffix(".pk8")?;
                number.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        let mut issuer = None;
        for number in numbers.into_iter().rev() {
            let key = custody.load(&format!("issuing-{number}"))?;
            issuer = key.and_then(|key| Issuer::new(&genuine.issuing, key).ok());
            if issuer.is_some() {
                break;
            }
        }
        let ledger = FileCustody::open(ledger_keys)?
            .load("ledger")?
            .context("no ledger key to steal")?;
        Ok(Self {
            issuer: issuer.context("no issuing key to steal")?,
            ledger: LedgerSigner::new(&format!("{trust_domain}/server"), ledger)?,
            genuine,
        })
    }

    pub(crate) fn ledger_key(&self) -> &LedgerKey {
        self.ledger.key()
    }

    /// The CA key alone: the victim's ID, no trace in any ledger.
    pub(crate) fn unrecorded(&self, now: Timestamp) -> anyhow::Result<Forged> {
        let draft = self.draft(now)?;
        let leaf = draft
            .tbs
            .without_receipt()
            .sign(self.issuer.signer().as_ref())?;
        Ok(self.forged(leaf, draft.key))
    }

    /// The same, with something where the receipt should be.
    pub(crate) fn with_noise(&self, now: Timestamp) -> anyhow::Result<Forged> {
        let draft = self.draft(now)?;
        self.sign(draft, &crypto::random::<512>())
    }

    /// The victim's ID, serial, validity and receipt, and the thief's key.
    pub(crate) fn transplanted(&self) -> anyhow::Result<Forged> {
        let victim = &self.genuine.svid;
        let key = new_key()?;
        let tbs = self.issuer.leaf(&LeafParams {
            spiffe_id: victim.spiffe_id.clone(),
            public_key: key.public_key().clone(),
            serial: victim.serial.parse()?,
            not_before: victim.not_before,
            not_after: victim.not_after,
            dns_names: Vec::new(),
        })?;
        let leaf = tbs
            .with_receipt(&self.genuine.receipt.encode()?)
            .sign(self.issuer.signer().as_ref())?;
        Ok(self.forged(leaf, key))
    }

    /// A receipt without a flaw, under a checkpoint of `size` records that the genuine ledger key signed
    /// and no gateway has followed.
    pub(crate) fn forked(&self, size: u64, now: Timestamp) -> anyhow::Result<Forged> {
        let Some(index) = size.checked_sub(1) else {
            bail!("a ledger without records has no receipts");
        };
        let draft = self.draft(now)?;
        let record = self.record(&draft, index, now)?;
        let tree = Fork::around(&record, index);
        let checkpoint = Checkpoint {
            origin: self.ledger.key().origin().clone(),
            size,
            root: tree.frontier.root(),
        };
        let Ok(proof) = merkle::inclusion_proof(index, size, &tree);
        let receipt = Receipt {
            record: record.into_bytes(),
            index,
            proof: proof.context("the record is not in its own tree")?,
            checkpoint: self.ledger.sign(&checkpoint)?,
        };
        let encoded = receipt.encode()?;
        self.sign(draft, &encoded)
    }

    /// The record that the authority would have written: the victim's, for the thief's certificate.
    fn record(&self, draft: &Draft, seq: u64, now: Timestamp) -> anyhow::Result<Record> {
        let genuine = Record::parse(&self.genuine.receipt.record)?;
        let issuance = Issuance {
            serial: draft.serial.to_string(),
            tbs: draft.tbs.sha256().into(),
            issuer: self.issuer.public_key().spki_sha256().into(),
            key: draft.key.public_key().spki_sha256().into(),
            not_before: draft.not_before.as_secs(),
            not_after: draft.not_after.as_secs(),
            evidence_time: now.as_millis(),
            replaces: None,
            ar4si: None,
            ..genuine.expect_body()?
        };
        let mut builder = issuance.record().actor(genuine.actor(), genuine.auth());
        if let Some(estate) = genuine.estate() {
            builder = builder.estate(estate);
        }
        let stamp = Stamp {
            wall: now.as_millis(),
            mono: genuine.stamp().mono,
        };
        Ok(builder.seal(self.ledger.key().origin(), seq, stamp)?)
    }

    fn draft(&self, now: Timestamp) -> anyhow::Result<Draft> {
        let key = new_key()?;
        let serial = Serial::from_random(crypto::random());
        let (not_before, not_after) = (now.minus_secs(10), now.plus_secs(HOUR));
        let not_after = not_after.min(self.issuer.not_after());
        let tbs = self.issuer.leaf(&LeafParams {
            spiffe_id: self.genuine.svid.spiffe_id.clone(),
            public_key: key.public_key().clone(),
            serial,
            not_before,
            not_after,
            dns_names: Vec::new(),
        })?;
        Ok(Draft {
            tbs,
            key,
            serial,
            not_before,
            not_after,
        })
    }

    fn sign(&self, draft: Draft, receipt: &[u8]) -> anyhow::Result<Forged> {
        let leaf = draft
            .tbs
            .with_receipt(receipt)
            .sign(self.issuer.signer().as_ref())?;
        Ok(self.forged(leaf, draft.key))
    }

    fn forged(&self, leaf: Vec<u8>, key: Arc<dyn Signer>) -> Forged {
        Forged {
            chain: vec![leaf, self.genuine.issuing.clone()],
            key,
        }
    }
}

impl Forged {
    /// As whoever knows no ledger sees it: a valid SVID.
    pub(crate) fn validated(
        &self,
        bundle: &Bundle,
        now: Timestamp,
    ) -> anyhow::Result<ValidatedSvid> {
        validate(&self.chain, bundle, now)
    }
}

/// A leaf that the authority has not been asked for.
struct Draft {
    tbs: Tbs,
    key: Arc<dyn Signer>,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A history that never was: noise, and one record at its end.
struct Fork {
    frontier: Frontier,
    nodes: BTreeMap<Node, Hash>,
}

impl Fork {
    fn around(record: &Record, index: u64) -> Self {
        let mut fork = Self {
            frontier: Frontier::new(),
            nodes: BTreeMap::new(),
        };
        for filler in 0..index {
            fork.push(merkle::leaf_hash(&filler.to_be_bytes()));
        }
        fork.push(record.leaf_hash());
        fork
    }

    fn push(&mut self, leaf: Hash) {
        let nodes = &mut self.nodes;
        self.frontier.push_with(leaf, |node, hash| {
            nodes.insert(node, hash);
        });
    }
}

impl NodeReader for Fork {
    type Error = Infallible;

    /// Proofs ask for complete subtrees only, and those are all here.
    fn node(&self, node: Node) -> Result<Hash, Infallible> {
        Ok(self.nodes.get(&node).copied().unwrap_or_default())
    }
}

fn new_key() -> anyhow::Result<Arc<dyn Signer>> {
    Ok(Arc::new(KeyPair::generate(Algorithm::EcdsaP256)?))
}

fn validate(chain: &[Vec<u8>], bundle: &Bundle, now: Timestamp) -> anyhow::Result<ValidatedSvid> {
    let told = |finding: Finding| anyhow::anyhow!("{finding}");
    let svid = X509Svid::parse(chain).map_err(told)?;
    svid.validate(bundle, now).map_err(told)
}
