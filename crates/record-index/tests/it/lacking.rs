//! What the server anchors and is not in the folders is left out of no answer: there is none.

use crate::completeness::{anchor, forged, head, renumber};
use crate::searching::{ALL, shop};
use crate::world::World;
use ledger::body::Body as _;
use ledger::completeness::Cause;
use ledger::lineage::{self, Link};
use ledger::{Record, RecordType};
use ledger_store::{Ledger, Options};
use record_index::{
    Asked, Error, Filter, Page, Site, TimeRange, accesses, accesses_verified, completeness, search,
    verify,
};
use std::ops::ControlFlow;
use std::path::Path;

fn asked(server: &World, other: Option<&Path>) -> Result<Site, Error> {
    let mut site = server.site();
    if let Some(folder) = other {
        site.join(Site::open(folder, None)?)?;
    }
    site.catch_up()?;
    Ok(site)
}

/// The codes of a search of `ledger`, and of accesses.
fn codes(site: &Site, ledger: &str) -> (String, String) {
    let page = Page { ledger, ..ALL };
    let searched = search(site, &Filter::default(), &page, |_| {
        ControlFlow::Continue(())
    });
    let code = |error: Option<Error>| {
        error.map_or_else(String::new, |error| error.finding().code.into_owned())
    };
    (
        code(searched.err()),
        code(accesses(site, &Asked::default(), false).err()),
    )
}

#[test]
fn what_the_server_anchors_is_left_out_of_no_answer() {
    let (mut server, gateway) = shop();
    let (size, root) = (head(&gateway).size, head(&gateway).root);
    server.put(anchor(&gateway, size, root));
    let mirror = || "RECORDS-MIRROR".to_owned();

    let whole = asked(&server, Some(gateway.path())).unwrap();
    assert_eq!(codes(&whole, "*"), (String::new(), String::new()));
    assert!(
        !accesses_verified(&whole, &Asked::default(), false)
            .unwrap()
            .is_empty()
    );
    drop(whole);

    let cut = forged(&gateway, |records| records.truncate(5));
    // As long, and of another history, by somebody with its key.
    let other = forged(&gateway, |records| {
        let last = records.last_mut().unwrap();
        let text = String::from_utf8(std::mem::take(last)).unwrap();
        *last = text.replace("\"s1\"", "\"s2\"").into_bytes();
    });
    for other in [None, Some(cut.path()), Some(other.path())] {
        let site = asked(&server, other).unwrap();
        assert_eq!(codes(&site, "*"), (mirror(), mirror()));
        for name in ["pg-1", "example.org/pg-1"] {
            assert_eq!(codes(&site, name).0, mirror(), "{name}");
        }
        // What is here can be asked by its name.
        assert_eq!(codes(&site, "server").0, "");
    }

    // An index that knows of no anchor is not believed by who asks for proof.
    let site = asked(&server, None).unwrap();
    let of_server = site.sources().first().unwrap();
    let lie = "DELETE FROM dictionary WHERE text LIKE 'Ledger::%'";
    of_server.index().database().tamper(lie).unwrap();
    drop(site);
    let site = asked(&server, None).unwrap();
    assert_eq!(codes(&site, "*").0, "");
    for refused in [
        verify(&site, &Filter::default(), "*").unwrap_err(),
        accesses_verified(&site, &Asked::default(), false).unwrap_err(),
    ] {
        assert_eq!(refused.finding().code, "RECORDS-MIRROR");
    }

    // One ledger alone is what somebody named.
    let mut alone = Site::open(&server.path().join("ledger"), None).unwrap();
    alone.catch_up().unwrap();
    assert_eq!(codes(&alone, "*"), (String::new(), String::new()));
}

/// What an earlier version cannot read of a later server may be an anchor of anything.
#[test]
fn an_anchor_that_cannot_be_read_is_passed_over_by_no_answer() {
    let (mut server, gateway) = shop();
    let (size, root) = (head(&gateway).size, head(&gateway).root);
    server.put(anchor(&gateway, size, root));
    let later = serde_json::json!({"origin": "example.org/pg-9", "zz": "of the next version"});
    let later = Record::builder(RecordType::Anchor, &later);
    let at = server.put(later.actor("server", "self"));
    let unread = || "RECORDS-ANCHOR-UNREAD".to_owned();

    let site = asked(&server, Some(gateway.path())).unwrap();
    assert_eq!(codes(&site, "*"), (unread(), unread()));
    for refused in [
        verify(&site, &Filter::default(), "*").unwrap_err(),
        accesses_verified(&site, &Asked::default(), false).unwrap_err(),
    ] {
        assert_eq!(refused.finding().code, unread());
    }
    for name in ["server", "pg-1"] {
        assert_eq!(codes(&site, name).0, "", "{name}");
        verify(&site, &Filter::default(), name).unwrap();
    }
    let answers = completeness(&site, &TimeRange::default(), true).unwrap();
    let told: Vec<_> = answers.iter().flat_map(|answer| &answer.found).collect();
    assert!(
        told.iter()
            .any(|found| found.missing.cause == Cause::Unread && found.missing.before == Some(at)),
        "{told:?}"
    );

    // An index that knows of no anchor is not believed by who asks for proof.
    let of_server = site.sources().first().unwrap();
    let lie = "DELETE FROM dictionary WHERE text LIKE 'Ledger::%'";
    of_server.index().database().tamper(lie).unwrap();
    drop(site);
    let site = asked(&server, Some(gateway.path())).unwrap();
    assert_eq!(codes(&site, "*").0, "");
    let refused = verify(&site, &Filter::default(), "*").unwrap_err();
    assert_eq!(refused.finding().code, unread());
}

#[test]
fn of_two_copies_the_longer_one_is_asked_and_two_histories_are_none() {
    let (server, gateway) = shop();
    let size = head(&gateway).size;
    let cut = forged(&gateway, |records| records.truncate(4));
    for folders in [[cut.path(), gateway.path()], [gateway.path(), cut.path()]] {
        let mut site = server.site();
        for folder in folders {
            site.join(Site::open(folder, None).unwrap()).unwrap();
        }
        let source = site
            .sources()
            .iter()
            .find(|source| source.is_called("pg-1"));
        assert_eq!(source.unwrap().head().checkpoint.size, size);
    }
    let other = forged(&gateway, |records| {
        records.remove(2);
        renumber(records);
    });
    let refused = asked(&gateway, Some(other.path())).err().unwrap();
    assert_eq!(refused.finding().code, "RECORDS-TWO");
}

/// The ledger of `world`, as it stands in `folder`, gone on as a second log.
fn succeeded(world: &World, folder: &Path) {
    let dir = folder.join("ledger");
    let tree = Site::open(folder, None).unwrap();
    let tree = tree.sources()[0].head().checkpoint.clone();
    let signer = World::new("other").signer_of("example.org/pg-1@2");
    let old = world.signer();
    let link = Link::sign(&old, &signer, (tree.size, tree.root), "each year").unwrap();
    let key = lineage::follow(old.key(), std::slice::from_ref(&link)).unwrap();
    let signer = signer.with_lineage(key.clone()).unwrap();
    ledger_store::keep_lineage(&dir, &key).unwrap();
    let options = Options {
        reserve_bytes: 0,
        ..Options::default()
    };
    let ledger = Ledger::open_signed(&dir, signer, &options).unwrap();
    let link = link.record().actor("gateway", "self").draft().unwrap();
    ledger.append(link).wait().unwrap();
    ledger.close().unwrap();
}

/// Until the server had anchored the new log, each record was found twice, as `pg-1:1` and as `pg-1@2:1`.
#[test]
fn a_gateway_that_went_on_as_a_new_log_has_one_ledger() {
    let (server, gateway) = shop();
    let mirrored = head(&gateway).size;
    let newer = forged(&gateway, |_| {});
    succeeded(&gateway, newer.path());
    for folders in [
        [gateway.path(), newer.path()],
        [newer.path(), gateway.path()],
    ] {
        let mut site = server.site();
        for folder in folders {
            site.join(Site::open(folder, None).unwrap()).unwrap();
        }
        site.catch_up().unwrap();
        let sizes = site.sources().iter().map(|one| one.head().checkpoint.size);
        let sizes: Vec<u64> = sizes.collect();
        assert_eq!(sizes, [head(&server).size, mirrored + 1]);
        let mut found = 0;
        let page = Page {
            ledger: "pg-1",
            ..ALL
        };
        search(&site, &Filter::default(), &page, |_| {
            found += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found, mirrored + 1);
    }
    let other = forged(&gateway, |records| {
        records.remove(2);
        renumber(records);
    });
    succeeded(&gateway, other.path());
    let refused = asked(&gateway, Some(other.path())).err().unwrap();
    assert_eq!(refused.finding().code, "RECORDS-TWO");
}

/// A gateway that is gone never fills the server's mirror again.
#[test]
fn what_never_comes_back_is_left_out_where_somebody_says_so() {
    let (mut server, gateway) = shop();
    let (size, root) = (head(&gateway).size, head(&gateway).root);
    server.put(anchor(&gateway, size, root));
    let cut = forged(&gateway, |records| records.truncate(5));
    for other in [None, Some(cut.path())] {
        for name in ["pg-1", "example.org/pg-1"] {
            let mut site = asked(&server, other).unwrap();
            site.leave_out(&[name.to_owned()]).unwrap();
            assert_eq!(codes(&site, "*"), (String::new(), String::new()), "{name}");
            assert_eq!(site.left_out(), ["example.org/pg-1"]);
            // Nothing of it counts, not half of it.
            let rows = accesses_verified(&site, &Asked::default(), false).unwrap();
            assert!(rows.is_empty(), "{rows:?}");
        }
    }
    let mut site = asked(&server, None).unwrap();
    let mut code = |name: &str| {
        let refused = site.leave_out(&[name.to_owned()]).unwrap_err();
        refused.finding().code.into_owned()
    };
    assert_eq!(code("pg-2"), "LEDGER-UNKNOWN");
    assert_eq!(code("server"), "RECORDS-WITHOUT-SERVER");
    assert_eq!(codes(&site, "*").0, "RECORDS-MIRROR", "nothing else is");
}

/// Whoever owns the folder of a gateway has nobody who searches it make or change a file elsewhere.
#[test]
fn an_index_that_is_a_link_is_not_followed() {
    let (_, gateway) = shop();
    let index = gateway.path().join("ledger/index.sqlite");
    let elsewhere = tempfile::tempdir().unwrap();
    for there in [false, true] {
        let target = elsewhere.path().join(format!("target-{there}"));
        if there {
            std::fs::write(&target, b"").unwrap();
        }
        std::os::unix::fs::symlink(&target, &index).unwrap();
        let site = gateway.site();
        assert!(
            site.notes
                .iter()
                .any(|note| note.contains("made in memory")),
            "{:?}",
            site.notes
        );
        assert_eq!(std::fs::read(&target).ok(), there.then(Vec::new));
        std::fs::remove_file(&index).unwrap();
    }
    // A link above the folder is the system's own.
    let linked = elsewhere.path().join("linked");
    std::os::unix::fs::symlink(gateway.path(), &linked).unwrap();
    let site = Site::open(&linked, None).unwrap();
    assert!(site.notes.is_empty() && index.exists());
}

#[test]
fn a_gateway_that_is_called_server_is_not_taken_for_it() {
    let (server, gateway) = (World::new("server"), World::new("gateway/server"));
    let site = asked(&server, Some(gateway.path())).unwrap();
    let named = site.sources().iter().map(|one| one.name.as_str());
    let named: Vec<&str> = named.collect();
    assert_eq!(named, ["server", "example.org/gateway/server"]);
}
