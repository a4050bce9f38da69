//! What a change comes to.

use crate::fixture::{compile, shop, shop_files};
use estate::diff;

#[test]
fn a_widening_is_listed_by_identity_action_and_table() {
    let mut files = shop_files();
    files.insert(
        "policies/extra.cedar",
        "@id(\"reporting reads cards\") permit (principal == Identity::\"reporting/nightly\", \
         action == Action::\"select\", resource == Table::\"shop/public/cards\");",
    );
    let diff = diff(&shop(), &compile(&files));
    assert_eq!(diff.policies.added, ["reporting reads cards"]);
    assert!(diff.narrowed.is_empty() && diff.errors.is_empty() && diff.identities.is_empty());
    assert_eq!(diff.widened.len(), 1);
    let after = diff.widened[0].after.as_ref().unwrap();
    assert_eq!(
        (after.identity.as_str(), after.resource.path.as_str()),
        ("reporting/nightly", "shop/public/cards")
    );
    assert_eq!(after.policies[0].line, 1);
}

#[test]
fn a_condition_that_becomes_none_is_wider_and_one_that_appears_is_narrower() {
    let text = shop_files().0["policies/shop.cedar"].clone();
    let without = text.replace(
        "when { context.machine has join && context.machine.join == \"tpm\" };",
        ";",
    );
    assert_ne!(text, without);
    let mut files = shop_files();
    files.insert("policies/shop.cedar", without);
    let unconditional = compile(&files);
    let forward = diff(&shop(), &unconditional);
    assert_eq!((forward.widened.len(), forward.narrowed.len()), (1, 0));
    assert_eq!(
        forward.policies.changed,
        ["reporting reads customers, on machines with a TPM"]
    );
    let back = diff(&unconditional, &shop());
    assert_eq!((back.widened.len(), back.narrowed.len()), (0, 1));
}

#[test]
fn a_reclassified_table_narrows_and_widens_nothing_else() {
    let text = shop_files().0["resources/shop.toml"].clone();
    let mut files = shop_files();
    let orders = "name = \"orders\"\nclassification = \"internal\"";
    files.insert(
        "resources/shop.toml",
        text.replace(orders, "name = \"orders\"\nclassification = \"pii\""),
    );
    let diff = diff(&shop(), &compile(&files));
    assert_eq!(diff.resources.changed, ["Table::\"shop/public/orders\""]);
    assert!(diff.widened.is_empty());
    assert!(diff.narrowed.iter().all(|change| change.after.is_none()));
    assert!(!diff.narrowed.is_empty());
}

#[test]
fn only_what_an_assume_can_depend_on_counts_as_different() {
    let shop = shop();
    let with = |path: &str, text: &str| {
        let mut files = shop_files();
        files.insert(path, text);
        compile(&files)
    };
    let uses = "@id(\"x\") forbid (principal, action == Action::\"select\", resource);";
    assert!(shop.assumes_as(&with("policies/extra.cedar", uses)));
    let assumes = |id: &str| {
        let text =
            format!("@id(\"{id}\") forbid (principal, action == Action::\"assume\", resource);");
        with("policies/extra.cedar", &text)
    };
    assert!(assumes("x").assumes_as(&assumes("y")));
    assert!(!shop.assumes_as(&assumes("x")));
    let any = "@id(\"x\") forbid (principal, action, resource);";
    assert!(!shop.assumes_as(&with("policies/extra.cedar", any)));
    let pool = "[[pool]]\nname = \"more\"\n";
    assert!(!shop.assumes_as(&with("references/more.toml", pool)));
}
