//! A server stream: each message the full state, in the order in which states came, none twice.

use crate::limits::Slot;
use crate::{State, Subscription, View};
use proto::workload as wire;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio_stream::Stream;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

/// A message made of what a workload may see.
pub trait Message: Sized + Send + 'static {
    /// The full state.
    fn of(view: &View) -> Self;
    /// Whether two views make the same message.
    fn same(old: &View, new: &View) -> bool;
}

/// The stream of one call. The subscription lives as long as it does.
pub struct Updates<M> {
    states: WatchStream<State>,
    shown: Option<Arc<View>>,
    ended: bool,
    _held: Box<dyn std::any::Any + Send>,
    _slot: Slot,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for Updates<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").finish_non_exhaustive()
    }
}

impl<M> Updates<M> {
    pub(crate) fn new(subscription: Subscription, slot: Slot) -> Self {
        Self {
            states: WatchStream::new(subscription.states),
            shown: None,
            ended: false,
            _held: subscription.held,
            _slot: slot,
            message: std::marker::PhantomData,
        }
    }
}

impl<M: Message> Stream for Updates<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            let status = match ready!(Pin::new(&mut self.states).poll_next(context)) {
                Some(State::Pending) => continue,
                Some(State::Current(view)) => {
                    if self
                        .shown
                        .as_ref()
                        .is_some_and(|shown| M::same(shown, &view))
                    {
                        continue;
                    }
                    let message = M::of(&view);
                    self.shown = Some(view);
                    return Poll::Ready(Some(Ok(message)));
                }
                // API spec, section 4.4: in the middle of a stream this withdraws everything.
                Some(State::Refused(refusal)) => refusal.status(),
                None => Status::unavailable("the agent is stopping"),
            };
            self.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(None)
    }
}

impl Message for wire::X509svidResponse {
    fn of(view: &View) -> Self {
        // "hint" must be unique in a response; a client takes the first of two (API spec, section 5.2.1).
        let mut hints = HashSet::new();
        let mut hint = |hint: &str| {
            if hint.is_empty() || hint.len() > 1024 || !hints.insert(hint.to_owned()) {
                return String::new();
            }
            hint.to_owned()
        };
        Self {
            svids: view
                .svids
                .iter()
                .map(|svid| wire::X509svid {
                    spiffe_id: svid.spiffe_id.clone(),
                    x509_svid: svid.chain.to_vec(),
                    x509_svid_key: svid.key.to_vec(),
                    bundle: view.trust.x509.to_vec(),
                    hint: hint(&svid.hint),
                })
                .collect(),
            crl: view.trust.crl.iter().map(|crl| crl.to_vec()).collect(),
            federated_bundles: view
                .trust
                .federated
                .iter()
                .map(|(domain, (x509, _))| (domain.clone(), x509.to_vec()))
                .collect(),
        }
    }

    fn same(old: &View, new: &View) -> bool {
        old.trust == new.trust
            && old.svids.len() == new.svids.len()
            && old.svids.iter().zip(&new.svids).all(|(old, new)| {
                old.chain == new.chain && old.hint == new.hint && old.spiffe_id == new.spiffe_id
            })
    }
}

impl Message for wire::X509BundlesResponse {
    fn of(view: &View) -> Self {
        let trust = &view.trust;
        let federated = trust.federated.iter();
        let mut bundles: HashMap<String, Vec<u8>> = federated
            .map(|(domain, (x509, _))| (domain.clone(), x509.to_vec()))
            .collect();
        bundles.insert(trust.trust_domain.clone(), trust.x509.to_vec());
        Self {
            crl: trust.crl.iter().map(|crl| crl.to_vec()).collect(),
            bundles,
        }
    }

    fn same(old: &View, new: &View) -> bool {
        old.trust == new.trust
    }
}

impl Message for wire::JwtBundlesResponse {
    fn of(view: &View) -> Self {
        let trust = &view.trust;
        let federated = trust.federated.iter();
        let mut bundles: HashMap<String, Vec<u8>> = federated
            .map(|(domain, (_, jwks))| (domain.clone(), jwks.to_vec()))
            .collect();
        bundles.insert(trust.trust_domain.clone(), trust.jwks.to_vec());
        Self { bundles }
    }

    fn same(old: &View, new: &View) -> bool {
        old.trust == new.trust
    }
}
