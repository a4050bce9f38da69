//! Evidence of a verdict, read back and verified again: all but its freshness, which only the one who asked
//! could see.

use crate::presented::Presented;
use attest_tpm::ak::Vouched;
use attest_tpm::boot::Boot;
use attest_tpm::ima::{self, Progress, Sent};
use attest_tpm::join::booted;
use attest_tpm::join::{Anchor, Chip};
use attest_tpm::structure::verify_quote;
use attest_tpm::{Attested, Body, JoinRequest, PcrSelection, Quoted, References, SigningKey};
use facts::{Finding, Source, Timestamp};
use std::collections::BTreeMap;

/// Blobs of a verdict by their kind, as `attest_tpm::JoinEvidence` names them. Parts of one kind stand one
/// behind the other.
#[derive(Debug, Clone, Default)]
pub struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    pub fn add(&mut self, kind: &str, bytes: &[u8]) {
        self.0
            .entry(kind.to_owned())
            .or_default()
            .extend_from_slice(bytes);
    }

    /// Takes from `older` what is not here: a machine that goes on attesting sends neither its keys nor its
    /// event log again.
    pub fn complete(&mut self, older: Self) {
        self.join_list(older.get(LIST));
        // Part of a list goes with its own beginning.
        let has_list = self.0.contains_key(LIST) || self.0.contains_key(BEFORE);
        for (kind, bytes) in older.0 {
            if has_list && [LIST, BEFORE].contains(&kind.as_str()) {
                continue;
            }
            self.0.entry(kind).or_insert(bytes);
        }
    }

    /// Puts the beginning of the list before the part of it that is here, if `older` reaches as far. That they
    /// belong together is for a replay to find.
    fn join_list(&mut self, older: &[u8]) {
        let Some(before) = Progress::from_bytes(self.get(BEFORE)) else {
            return;
        };
        let Some(rest) = ima::after(older, before.entries()) else {
            return;
        };
        let beginning = older.len().saturating_sub(rest.len());
        let beginning = older.get(..beginning).unwrap_or_default();
        let whole = [beginning, self.get(LIST)].concat();
        self.0.insert(LIST.to_owned(), whole);
        self.0.remove(BEFORE);
    }

    /// Empty if there is none.
    #[must_use]
    pub fn get(&self, kind: &str) -> &[u8] {
        self.0.get(kind).map_or(&[], Vec::as_slice)
    }

    /// Whether there is a quote among them.
    #[must_use]
    pub fn has_quote(&self) -> bool {
        !self.get(QUOTE).is_empty()
    }
}

const QUOTE: &str = "tpm-quote";
const LIST: &str = "ima-list";
/// How far a list was verified before the part that was kept: [`Progress::to_bytes`].
const BEFORE: &str = "ima-before";

/// What a machine presented once. The signature, the values and the log belong together; whose key signed is
/// [`Kept::root`]'s to say.
#[derive(Debug)]
pub struct Kept {
    quoted: Quoted,
    booted: Option<Boot>,
    ak: SigningKey,
    /// The keys that its TPM was known by.
    request: JoinRequest,
    list: Vec<u8>,
    before: Option<Progress>,
    paravisor: Vec<u8>,
    paravisor_quote: Vec<u8>,
}

impl Kept {
    /// The kind of the blob that says how far a list was verified before the part that is kept.
    pub const BEFORE: &'static str = BEFORE;

    /// # Errors
    /// `ATTEST-EVIDENCE` if something is missing or cannot be read; what the verification of a quote and of
    /// an event log find.
    pub fn read(blobs: &Blobs) -> Result<Self, Vec<Finding>> {
        let ak = SigningKey::attestation(blobs.get("tpm-ak-public"))
            .map_err(|_| vec![unreadable("its attestation key")])?;
        let quote = blobs.get(QUOTE);
        let parsed = Attested::parse(quote).map_err(|_| vec![unreadable("its quote")])?;
        let Body::Quote { selections, .. } = &parsed.body else {
            return Err(vec![unreadable("a structure that is no quote")]);
        };
        let [selection] = selections.as_slice() else {
            return Err(vec![unreadable("a quote of several banks")]);
        };
        let selection = PcrSelection::new(&selection.indices()).map_err(|finding| vec![finding])?;
        let values = blobs.get("tpm-pcr-values").chunks(32);
        let values: Vec<Vec<u8>> = values.map(<[u8]>::to_vec).collect();
        let signature = blobs.get("tpm-quote-signature");
        // Whoever asked has compared the nonce.
        let nonce = &parsed.extra_data;
        let quoted = verify_quote(quote, signature, &ak.key, nonce, &selection, &values)?;
        let booted = booted(blobs.get("tpm-event-log"), &quoted)?;
        let before = match blobs.get(BEFORE) {
            [] => None,
            bytes => Some(
                Progress::from_bytes(bytes)
                    .ok_or_else(|| vec![unreadable("how far its list was verified before")])?,
            ),
        };
        Ok(Self {
            quoted,
            booted,
            ak,
            request: JoinRequest {
                ek_public: blobs.get("tpm-ek-public").to_vec(),
                ek_certificate: blobs.get("ek-certificate").to_vec(),
                ak_public: blobs.get("tpm-ak-public").to_vec(),
                ak_certificate: blobs.get("ak-certificate").to_vec(),
                identity_public: Vec::new(),
            },
            list: blobs.get(LIST).to_vec(),
            before,
            paravisor: blobs.get("hcl-report").to_vec(),
            paravisor_quote: blobs.get("tdx-quote").to_vec(),
        })
    }

    #[must_use]
    pub const fn booted(&self) -> Option<&Boot> {
        self.booted.as_ref()
    }

    #[must_use]
    pub const fn quoted(&self) -> &Quoted {
        &self.quoted
    }

    /// What is kept of the list, and how far it was verified before.
    #[must_use]
    pub fn list(&self) -> (Sent<'_>, Option<&Progress>) {
        let sent = Sent {
            first: self.before.map_or(0, |before| before.entries()),
            list: &self.list,
        };
        (sent, self.before.as_ref())
    }

    /// The key that its TPM was known by, if it can be read.
    #[must_use]
    pub fn chip(&self) -> Option<Chip> {
        let anchor = Anchor::read(&self.request).ok()?;
        Some(anchor.chip(&self.ak))
    }

    /// What a paravisor said of the attestation key; empty: none did.
    #[must_use]
    pub fn paravisor_report(&self) -> &[u8] {
        &self.paravisor
    }

    /// The quote of TDX that a paravisor's report is judged with; empty: none was kept.
    #[must_use]
    pub fn paravisor_quote(&self) -> &[u8] {
        &self.paravisor_quote
    }

    /// What stands behind the chip, by these roots and pins, or by the word of the verifier that `vouched`. That the keys belong to one chip was proved to
    /// whoever asked, and is in no blob.
    ///
    /// # Errors
    /// `ATTEST-EVIDENCE` without a key that can be read; else as `attest_tpm::join::Anchor::trust`.
    pub fn root(
        &self,
        references: &References,
        vouched: Option<&Vouched>,
        now: Timestamp,
    ) -> Result<Source, Vec<Finding>> {
        let anchor = Anchor::read(&self.request)
            .map_err(|_| vec![unreadable("the key that its TPM is known by")])?;
        let trust = anchor.trust(&self.ak, &self.request, references, vouched, now)?;
        Ok(trust.root())
    }

    /// As a join presents it.
    #[must_use]
    pub fn presented(&self, root: Source) -> Presented<'_> {
        let (list, before) = self.list();
        Presented {
            booted: self.booted(),
            quoted: &self.quoted,
            root,
            list,
            before,
        }
    }
}

fn unreadable(observed: &str) -> Finding {
    Finding::new(
        "ATTEST-EVIDENCE",
        "what the machine proved when it joined cannot be read back",
    )
    .expected("key, quote, values and log of a verdict, as they were kept")
    .observed(observed)
    .next("let the machine join or renew")
}
