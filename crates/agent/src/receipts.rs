//! Whether what the server hands out was recorded before it was signed: chain, receipt and, for SVIDs of
//! workloads, that it is the one that was asked for.
//!
//! The ledger's key was pinned at first contact and is parsed once. The agent does not follow the chain of
//! checkpoints: a receipt under a forked one passes here, unless witnesses are asked for (`witnessed`), and gateways,
//! which follow it, refuse it.

use crate::witnessed::Witnessing;
use arc_swap::ArcSwap;
use crypto::PublicKey;
use facts::{Finding, Timestamp};
use ledger::{Code as _, LedgerKey, Origin, VerifiedReceipt, lineage};
use proto::v1;
use spiffe_core::{Bundle, JwtSvid, TrustDomain, ValidatedJwt, ValidatedSvid, X509Svid, receipt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The file in the agent's folder that tells how the server's ledger went on as new logs. It vouches for itself.
const FILE: &str = "lineage";
/// Seconds that a token lives, at most: a server's `lifetimes.jwt_s` is a day or less. And a minute for clocks.
const LONGEST_JWT_S: u64 = 86_400 + 60;

#[derive(Debug)]
pub(crate) struct Receipts {
    /// Of the newest log that is known, with those before it.
    ledger: ArcSwap<LedgerKey>,
    path: PathBuf,
    /// When the newest link was kept, in seconds since 1970; 0 if there is none.
    taken: AtomicU64,
}

impl Receipts {
    /// `spki` is that of the key of the server ledger's first log; what an earlier start learned of later ones lies in
    /// `data_dir`. Blocks on the disk.
    pub(crate) fn new(
        trust_domain: &TrustDomain,
        spki: &[u8],
        data_dir: &Path,
    ) -> Result<Self, Finding> {
        let unusable = |what: String| {
            Finding::new("AGENT-LEDGER-KEY", "the pinned ledger key is not usable")
                .expected("SPKI of an Ed25519 key")
                .observed(what)
                .next("remove the agent's data directory and join anew")
        };
        let key = PublicKey::from_spki_der(spki).map_err(|error| unusable(error.to_string()))?;
        let ledger = LedgerKey::new(&format!("{trust_domain}/server"), key)
            .map_err(|error| unusable(error.to_string()))?;
        let path = data_dir.join(FILE);
        let ledger = match std::fs::read_to_string(&path) {
            Ok(links) => followed(&ledger, &links)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ledger,
            Err(error) => return Err(unusable(format!("{}: {error}", path.display()))),
        };
        Ok(Self {
            ledger: ArcSwap::from_pointee(ledger),
            taken: AtomicU64::new(written(&path)),
            path,
        })
    }

    /// Of the server's ledger.
    pub(crate) fn key(&self) -> Arc<LedgerKey> {
        self.ledger.load_full()
    }

    /// Takes what the server says of the logs that its ledger went on as: a JSON list of links. The key that signs
    /// now, if that is news. Blocks on the disk.
    ///
    /// # Errors
    /// `AGENT-LINEAGE`, `AGENT-LINEAGE-FORKED`; then nothing is changed.
    pub(crate) fn succeed(&self, links: &str) -> Result<Option<Arc<LedgerKey>>, Finding> {
        let key = followed(&self.key(), links)?;
        self.take(key)
    }

    /// As [`Receipts::succeed`], if the links lead to a key under which the SVID of `chain` was recorded.
    ///
    /// # Errors
    /// Those of [`Receipts::succeed`] and [`Receipts::x509`]; then nothing is changed.
    pub(crate) fn succeed_by<T: AsRef<[u8]>>(
        &self,
        links: &str,
        bundle: &Bundle,
        chain: &[T],
        now: Timestamp,
    ) -> Result<Option<Arc<LedgerKey>>, Finding> {
        let key = followed(&self.key(), links)?;
        let valid = X509Svid::parse(chain)?.validate(bundle, now)?;
        receipt::check(&valid, &key)?;
        self.take(key)
    }

    fn take(&self, key: LedgerKey) -> Result<Option<Arc<LedgerKey>>, Finding> {
        if key == *self.key() {
            return Ok(None);
        }
        // INVARIANT 6: kept before it is believed, so that no start goes back to a key that was replaced.
        let kept = lineage::to_json(&lineage::links(&key));
        crate::witnessed::replace(&self.path, kept.as_bytes()).map_err(|error| {
            unsound(format!(
                "it cannot be kept in {}: {error}",
                self.path.display()
            ))
        })?;
        tracing::warn!(newest = %key, "the server's ledger goes on as a new log");
        let key = Arc::new(key);
        self.taken.store(written(&self.path), Ordering::Release);
        self.ledger.store(Arc::clone(&key));
        Ok(Some(key))
    }

    /// How the server's ledger is known here to have gone on, for the server to hear: it may have been restored to
    /// what it was before. Empty if it is of one log.
    pub(crate) fn links(&self) -> String {
        match lineage::links(&self.key()) {
            links if links.is_empty() => String::new(),
            links => lineage::to_json(&links),
        }
    }

    /// An X.509-SVID that is valid now and was recorded.
    ///
    /// # Errors
    /// Those of [`X509Svid::validate`] and [`receipt::check`].
    pub(crate) fn x509<T: AsRef<[u8]>>(
        &self,
        bundle: &Bundle,
        chain: &[T],
        now: Timestamp,
    ) -> Result<ValidatedSvid, Finding> {
        let valid = X509Svid::parse(chain)?.validate(bundle, now)?;
        receipt::check(&valid, &self.key())?;
        Ok(valid)
    }

    /// As [`Receipts::x509`], of an SVID that the server has just issued: under the newest key that is known here.
    ///
    /// # Errors
    /// Those of [`Receipts::x509`], and `AGENT-RECEIPT-FORMER`.
    pub(crate) fn x509_new<T: AsRef<[u8]>>(
        &self,
        bundle: &Bundle,
        chain: &[T],
        now: Timestamp,
    ) -> Result<(ValidatedSvid, VerifiedReceipt), Finding> {
        let valid = X509Svid::parse(chain)?.validate(bundle, now)?;
        let key = self.key();
        let recorded = receipt::check(&valid, &key)?.receipt;
        newest(&recorded, &key)?;
        Ok((valid, recorded))
    }

    /// As [`Receipts::x509_new`]; and it is for the identity, serial and key that the server says.
    pub(crate) fn issued(
        &self,
        bundle: &Bundle,
        svid: &v1::X509Svid,
        witnessing: Option<&Witnessing>,
        now: Timestamp,
    ) -> Result<(), Finding> {
        let (valid, recorded) = self.x509_new(bundle, &svid.certificate_chain, now)?;
        if let Some(witnessing) = witnessing {
            witnessing.check(&recorded.checkpoint, now)?;
        }
        let same = valid.spiffe_id.as_str() == svid.spiffe_id
            && valid.serial == svid.serial
            && valid.public_key.spki_sha256().as_slice() == svid.public_key_sha256;
        if same {
            return Ok(());
        }
        Err(Finding::new(
            "AGENT-SVID-OTHER",
            "the certificate is not the one that the server says it is",
        )
        .expected(format!("{} serial {}", svid.spiffe_id, svid.serial))
        .observed(format!("{} serial {}", valid.spiffe_id, valid.serial)))
    }

    /// A token of the own trust domain that is valid now for `audience` and was recorded.
    ///
    /// # Errors
    /// Those of [`JwtSvid::parse`], [`JwtSvid::validate`] and [`receipt::check_jwt`]; `AGENT-RECEIPT-FORMER`.
    pub(crate) fn jwt(
        &self,
        bundle: &Bundle,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<ValidatedJwt, Finding> {
        let valid = JwtSvid::parse(token)?.validate(bundle, audience, now)?;
        let recorded = receipt::check_jwt(&valid, &self.key())?.receipt;
        self.lives(&recorded.checkpoint.origin, now)?;
        Ok(valid)
    }

    /// INVARIANT 6: whoever has a key that was replaced, and that of the tokens, makes both as he likes, with any time in
    /// them. What was issued before the key was replaced has ended once no token is so old.
    fn lives(&self, origin: &Origin, now: Timestamp) -> Result<(), Finding> {
        let newest = self.key();
        let ended = self
            .taken
            .load(Ordering::Acquire)
            .saturating_add(LONGEST_JWT_S);
        if *origin == *newest.origin() || now.as_secs() <= ended {
            return Ok(());
        }
        Err(Finding::new(
            "AGENT-RECEIPT-FORMER",
            "the token was recorded under a key of the server's ledger that was replaced longer ago than a token lives",
        )
        .expected(format!("a receipt of {}", newest.origin()))
        .observed(format!("one of {origin}"))
        .next("it was not taken; treat the replaced key, and the key of the tokens, as stolen"))
    }

    /// As [`Receipts::jwt`], of a token that the server has just issued.
    pub(crate) fn jwt_issued(
        &self,
        bundle: &Bundle,
        token: &str,
        audience: &str,
        witnessing: Option<&Witnessing>,
        now: Timestamp,
    ) -> Result<(), Finding> {
        let valid = JwtSvid::parse(token)?.validate(bundle, audience, now)?;
        let key = self.key();
        let recorded = receipt::check_jwt(&valid, &key)?.receipt;
        newest(&recorded, &key)?;
        if let Some(witnessing) = witnessing {
            witnessing.check(&recorded.checkpoint, now)?;
        }
        Ok(())
    }
}

/// When the file at `path` was written, in seconds since 1970; 0 where there is none.
fn written(path: &Path) -> u64 {
    let written = std::fs::metadata(path).and_then(|file| file.modified());
    let since = written
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// INVARIANT 6: whoever has a key that was replaced signs receipts with it, and the agent follows no chain that shows
/// when. What is new counts under the newest key alone.
fn newest(recorded: &VerifiedReceipt, key: &LedgerKey) -> Result<(), Finding> {
    if recorded.checkpoint.origin == *key.origin() {
        return Ok(());
    }
    Err(Finding::new(
        "AGENT-RECEIPT-FORMER",
        "what the server has just issued was recorded under a key of its ledger that was replaced",
    )
    .expected(format!("a receipt of {}", key.origin()))
    .observed(format!("one of {}", recorded.checkpoint.origin))
    .next("it was not taken; look at who answers at the server's address, and treat the replaced key as stolen"))
}

/// INVARIANT 6: the links that both keys signed lead to another key, and nothing else does.
fn followed(key: &LedgerKey, links: &str) -> Result<LedgerKey, Finding> {
    let links = lineage::from_json(links);
    let followed = links.and_then(|links| lineage::follow(key, &links));
    followed.map_err(|error| match error {
        lineage::LineageError::Forked { .. } => Finding::new(
            "AGENT-LINEAGE-FORKED",
            "a log of the server's ledger goes on as two: one key has signed two successions",
        )
        .expected(format!("one lineage that leads on from {key}"))
        .observed(error.to_string())
        .next("keep this machine's data_dir as evidence, and treat the key as stolen"),
        error => unsound(format!("{}: {error}", error.code())),
    })
}

fn unsound(observed: String) -> Finding {
    Finding::new(
        "AGENT-LINEAGE",
        "what leads to the key that signs the server's ledger now does not count",
    )
    .expected("links that the key of the log which ended and the key of the one which goes on have signed")
    .observed(observed)
    .next("nothing was taken from it; look at who answers at the server's address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{Algorithm, KeyPair};
    use ledger::LedgerSigner;
    use ledger::lineage::Link;

    fn signer(origin: &str) -> LedgerSigner {
        let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
        LedgerSigner::new(origin, Arc::new(key)).unwrap()
    }

    fn receipts(first: &LedgerSigner, dir: &Path) -> Result<Receipts, Finding> {
        let domain = TrustDomain::new("example.org").unwrap();
        Receipts::new(&domain, first.key().public_key().spki_der(), dir)
    }

    #[test]
    fn a_token_that_was_recorded_under_a_replaced_key_is_taken_for_as_long_as_one_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (signer("example.org/server"), signer("example.org/server@2"));
        let link = Link::sign(&first, &second, (40, [7; 32]), "stolen").unwrap();
        let known = receipts(&first, dir.path()).unwrap();
        let (old, new) = (first.key().origin(), second.key().origin());
        let late = |taken: &Receipts, seconds| {
            let since = written(&taken.path);
            Timestamp::from_millis(since * 1_000).plus_secs(seconds)
        };
        known.lives(old, Timestamp::now()).unwrap();
        known.succeed(&lineage::to_json(&[link])).unwrap();
        // Also after the next start.
        for known in [known, receipts(&first, dir.path()).unwrap()] {
            known.lives(old, late(&known, 86_400)).unwrap();
            known.lives(new, late(&known, 90_000)).unwrap();
            let refused = known.lives(old, late(&known, 90_000)).unwrap_err();
            assert_eq!(refused.code, "AGENT-RECEIPT-FORMER");
        }
    }

    #[test]
    fn a_new_log_is_taken_by_its_link_alone_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (signer("example.org/server"), signer("example.org/server@2"));
        let link = |to: &LedgerSigner| {
            let link = Link::sign(&first, to, (40, [7; 32]), "stolen").unwrap();
            lineage::to_json(&[link])
        };
        let known = receipts(&first, dir.path()).unwrap();
        assert_eq!(known.succeed("[]").unwrap(), None);
        let refused = |links: &str| known.succeed(links).unwrap_err().code;
        assert_eq!(refused("{"), "AGENT-LINEAGE");
        let unsigned = link(&second).replace("\\n40\\n", "\\n41\\n");
        assert_eq!(refused(&unsigned), "AGENT-LINEAGE");
        assert_eq!(*known.key(), *first.key());
        assert_eq!(
            *known.succeed(&link(&second)).unwrap().unwrap(),
            *second.key()
        );
        assert_eq!(known.succeed(&link(&second)).unwrap(), None, "no news");
        // The next start knows it without hearing the server, and takes no second succession.
        let again = receipts(&first, dir.path()).unwrap();
        assert_eq!(*again.key(), *second.key());
        assert_eq!(again.key().end_of("example.org/server"), Some(40));
        let thief = signer("example.org/server@2");
        assert_eq!(
            again.succeed(&link(&thief)).unwrap_err().code,
            "AGENT-LINEAGE-FORKED"
        );
        std::fs::write(dir.path().join(FILE), link(&thief).replace("40", "39")).unwrap();
        assert_eq!(
            receipts(&first, dir.path()).unwrap_err().code,
            "AGENT-LINEAGE"
        );
    }
}
