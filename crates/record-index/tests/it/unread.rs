//! A record whose body has one field more than this version knows is found by every search that may mean it.

use crate::searching::{ALL, shop};
use crate::world::{id, intent};
use ledger::RecordType;
use record_index::{Filter, Site, search, verify};
use std::ops::ControlFlow;

fn found(site: &Site, change: impl FnOnce(&mut Filter)) -> Vec<u64> {
    let mut filter = Filter::default();
    change(&mut filter);
    let mut hits = Vec::new();
    search(site, &filter, &ALL, |hit| {
        if hit.ledger.ends_with("pg-1") {
            hits.push(hit.index);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    verify(site, &filter, "*").unwrap();
    hits
}

#[test]
fn a_record_with_a_field_more_is_found_by_what_it_may_be_about() {
    let (server, mut gateway) = shop();
    let body = serde_json::json!({
        "session": "s1",
        "statement": "s",
        "actions": [{"action": "delete", "resources": ["Table::\"shop/public/cards\""]}],
        "decision": "s1.1",
        "policies": [],
        "coverage": "complete",
        "zz": "a field of the next version",
    });
    let newer = ledger::Record::builder(RecordType::Intent, &body);
    let newer = gateway.put(newer.actor(&id("shop/api"), "x509:01"));
    let orders = gateway.put(intent(
        "s1",
        "shop/api",
        "select",
        &["shop/public/orders"],
        false,
    ));
    let mut site = server.site();
    site.join(gateway.site()).unwrap();
    site.catch_up().unwrap();

    let about = |change: fn(&mut Filter)| found(&site, change);
    for hits in [
        about(|f| f.resource = Some("shop/public/cards".into())),
        about(|f| f.resource = Some("shop/public/*".into())),
        about(|f| f.resource = Some("shop/public/cards/number".into())),
        about(|f| f.identity = Some("shop/job".into())),
        about(|f| f.on_behalf_of = Some("people/alice".into())),
        about(|f| f.machine = Some("m1".into())),
        about(|f| f.action = Some("delete".into())),
        about(|f| {
            f.identity = Some("shop/api".into());
            f.resource = Some("shop/public/cards".into());
            f.action = Some("delete".into());
            f.decision = Some("allow".into());
        }),
    ] {
        assert!(hits.contains(&newer), "{hits:?}");
    }
    // And nothing else is found that was not before.
    let cards = about(|f| f.resource = Some("shop/public/cards".into()));
    assert!(!cards.contains(&orders), "{cards:?}");
    assert!(!about(|f| f.types = vec!["outcome".into()]).contains(&newer));
}
