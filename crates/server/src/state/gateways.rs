//! Gateways' ledgers as they are anchored here: how far, by which keys, and how each went on as new logs.

use super::{GATEWAY_LINK, State};
use ledger::LedgerKey;
use ledger::body::KeyRotation;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use store::{GatewayRow, MetaRow};

/// The key of each ledger with those before it, by the name of the first log. Followed when it is first asked for after
/// its links or the key in its row have changed, since each link costs two signatures to verify.
#[derive(Debug, Default)]
pub(super) struct Followed(BTreeMap<String, OnceLock<Option<LedgerKey>>>);

impl State {
    /// The ledger that a gateway keeps under this name, or under another of the same lineage.
    #[must_use]
    pub(crate) fn gateway(&self, origin: &str) -> Option<&GatewayRow> {
        self.gateways.get(ledger::line(origin))
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = &GatewayRow> {
        self.gateways.values()
    }

    /// How that ledger went on as new logs, the oldest first, with the records that say so.
    pub(crate) fn gateway_links(&self, origin: &str) -> Vec<(u64, KeyRotation)> {
        let prefix = format!("{GATEWAY_LINK}{} ", ledger::line(origin));
        let rows = self.meta.range(prefix.clone()..);
        let rows = rows.take_while(|(key, _)| key.starts_with(&prefix));
        let read = rows.filter_map(|(key, json)| {
            let index: u64 = key.strip_prefix(&prefix)?.parse().ok()?;
            Some((index, serde_json::from_str(json).ok()?))
        });
        read.collect()
    }

    /// The key that signs that ledger, with those before it; `None` if nothing of it is anchored, or what is recorded
    /// is no key.
    pub(crate) fn gateway_key(&self, origin: &str) -> Option<LedgerKey> {
        let followed = self.followed.0.get(ledger::line(origin))?;
        followed.get_or_init(|| self.follow(origin)).clone()
    }

    fn follow(&self, origin: &str) -> Option<LedgerKey> {
        let row = self.gateway(origin)?;
        let spki: ledger::Base64 = row.ledger_key.parse().ok()?;
        let key = crypto::PublicKey::from_spki_der(&spki.0).ok()?;
        let key = LedgerKey::new(&row.origin, key).ok()?;
        let links = self.gateway_links(origin).into_iter();
        let links: Vec<KeyRotation> = links.map(|(_, link)| link).collect();
        ledger::lineage::follow(&key, &links).ok()
    }

    pub(super) fn absorb_gateway(&mut self, row: &GatewayRow) {
        let line = ledger::line(&row.origin).to_owned();
        let former = self.gateways.insert(line.clone(), row.clone());
        let other =
            |former: GatewayRow| former.origin != row.origin || former.ledger_key != row.ledger_key;
        if former.is_none_or(other) {
            self.followed.0.insert(line, OnceLock::new());
        }
    }

    /// `row` comes into `meta`: if it is a link, what was followed without it counts no more.
    pub(super) fn absorb_gateway_link(&mut self, row: &MetaRow) {
        let link = row.key.strip_prefix(GATEWAY_LINK);
        if let Some((line, _)) = link.and_then(|link| link.rsplit_once(' ')) {
            self.followed.0.insert(line.to_owned(), OnceLock::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{Algorithm, KeyPair};
    use ledger::LedgerSigner;
    use ledger::lineage::Link;
    use std::sync::Arc;
    use store::Change;

    const LINE: &str = "example.org/gateway/pg";

    fn signer(origin: &str) -> LedgerSigner {
        let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
        LedgerSigner::new(origin, Arc::new(key)).unwrap()
    }

    fn row(of: &LedgerSigner, size: u64) -> Change {
        let spki = of.key().public_key().spki_der().to_vec();
        Change::Gateway(GatewayRow {
            origin: of.key().origin().to_string(),
            gateway: String::new(),
            ledger_key: ledger::Base64(spki).to_string(),
            size,
            root: String::new(),
            checkpoint: String::new(),
            anchor: size,
        })
    }

    #[test]
    fn links_are_followed_once_and_again_when_there_is_one_more() {
        let signers = [LINE.to_owned(), format!("{LINE}@2"), format!("{LINE}@3")];
        let [first, second, third] = signers.map(|origin| signer(&origin));
        let mut state = State::default();
        let newest = |state: &State| state.gateway_key(LINE);
        let kept = |state: &State| state.followed.0.get(LINE).unwrap().get().is_some();
        assert_eq!(newest(&state), None, "nothing is anchored");
        state.absorb(&row(&first, 5));
        assert_eq!(newest(&state).as_ref(), Some(first.key()));
        for (index, (from, to)) in [(&first, &second), (&second, &third)]
            .into_iter()
            .enumerate()
        {
            let link = Link::sign(from, to, (7, [0; 32]), "").unwrap();
            state.absorb(&Change::Meta(MetaRow {
                key: format!("{GATEWAY_LINK}{LINE} {index:020}"),
                value: serde_json::to_string(&link).unwrap(),
            }));
            assert!(!kept(&state));
            assert_eq!(newest(&state).as_ref(), Some(to.key()));
            assert_eq!(state.gateway_links(LINE).len(), index + 1);
            // It grows, and nothing is verified again; nor when the new log is asked for by its name.
            state.absorb(&row(from, 6));
            assert!(kept(&state));
            assert_eq!(
                state.gateway_key(to.key().origin().as_str()).as_ref(),
                Some(to.key())
            );
            state.absorb(&row(to, 8));
            assert!(!kept(&state), "another key is anchored");
            assert_eq!(newest(&state).as_ref(), Some(to.key()));
        }
    }
}
