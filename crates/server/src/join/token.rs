//! Joining with a one-time token. It proves nothing of the machine, and the facts say so.

use super::{Admission, admit_node, certify_node, prove_key, tee};
use crate::core::{Core, draft};
use crate::listener::Peer;
use crate::lock::may_join;
use crate::node::Claims;
use crate::refusal::Refusal;
use crate::warranted;
use attest::transcript::token_join;
use facts::Finding;
use ledger::HexDigest;
use ledger::body::{self, Body as _};
use proto::v1;
use std::sync::Arc;

/// Longest token that is looked at.
const LONGEST: usize = 128;

/// A token is known by its SHA-256: its own entropy is 256 bits.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    crypto::sha256(token.as_bytes())
}

pub(super) async fn join(
    core: &Arc<Core>,
    peer: &Peer,
    request: v1::TokenJoinRequest,
) -> Result<v1::Joined, Refusal> {
    let begun = core.journal.reader().size();
    if request.token.len() > LONGEST {
        return Err(unknown());
    }
    let digest = hash(&request.token);
    let name = HexDigest(digest).to_string();
    // Whoever spends it is alone with it until the record is there.
    let _spending = core.busy(format!("token {name}"))?;
    let token = core.state().token(&name).cloned().ok_or_else(unknown)?;
    // An answer that was lost is given again to whoever holds the key that it was for.
    let spent_here = token.spent.filter(|_| {
        let key = HexDigest(crypto::sha256(&request.public_key)).to_string();
        token.key.as_deref() == Some(key.as_str())
    });
    if token.spent.is_some() && spent_here.is_none() {
        return Err(spent());
    }
    let now = core.now();
    if token.expires <= now.as_millis() {
        return Err(Refusal::Denied(
            Finding::new("JOIN-TOKEN-EXPIRED", "the token's time is over")
                .next("make a new one: trilith token create --node NODE --pool POOL"),
        ));
    }
    let transcript = token_join(
        core.trust_domain.as_str(),
        &peer.exporter,
        &digest,
        &request.public_key,
    );
    let key = prove_key(&request.public_key, &transcript, &request.proof)?;
    let current = core.current.load_full();
    if let Some(missing) = current.and_then(|current| tee::required(&current, &token.pool)) {
        return Err(Refusal::Denied(missing));
    }
    let _joining = core.busy(format!("node {}", token.node))?;
    let known = core.state().node(&token.node).cloned();
    if let Some(node) = &known {
        may_join(node)?;
    }
    let id = core.node_id(&token.node)?;
    let _claim = Claims::claim(core, &key, id.as_str(), &token.node)?;

    let auth = format!("token:{}", name.get(..16).unwrap_or_default());
    let mut before = Vec::new();
    if let Some(at) = spent_here {
        // Without a record of the node after the token's, the server ended between the two.
        if let Some(node) = known.filter(|node| node.stated.is_some_and(|stated| stated > at)) {
            let digest = crypto::hex::encode(&key.spki_sha256());
            if node.key.as_deref() != Some(digest.as_str()) {
                return Err(spent());
            }
            let facts = core.machine_facts(&node)?;
            return certify_node(core, &node, key, facts, None, &auth).await;
        }
    } else {
        let spent = body::TokenSpent {
            token: HexDigest(digest),
            node: token.node.clone(),
            key: HexDigest(key.spki_sha256()),
        };
        before.push(draft(spent.record().actor(id.as_str(), &auth))?);
    }
    let verdict = warranted::by_token(&token.node, &token.pool, now);
    let admission = Admission {
        name: token.node,
        key,
        verdict,
        renewal: [0; 32],
        repeats: false,
        before,
        how: "joined",
        counted: None,
        estate: super::in_force(core),
        replaces: None,
        auth,
        begun,
    };
    admit_node(core, admission).await
}

fn spent() -> Refusal {
    Refusal::Denied(
        Finding::new("JOIN-TOKEN-SPENT", "the token has been used").next(
            "if this machine did not use it, someone else did: revoke the machine and make a \
             new token",
        ),
    )
}

/// The same for a token that never was and one that is long gone.
fn unknown() -> Refusal {
    Refusal::Denied(
        Finding::new("JOIN-TOKEN", "this is not a join token of this server")
            .next("make one: trilith token create --node NODE --pool POOL"),
    )
}
