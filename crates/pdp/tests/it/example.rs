//! The example of decisions in one's own process does what its page says.

#[allow(dead_code, reason = "its `main` is for a terminal")]
#[path = "../../examples/decide.rs"]
mod decide;

fn decided(arguments: [&str; 4]) -> String {
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/estate-shop");
    let all = [shop].into_iter().chain(arguments).map(str::to_owned);
    decide::decided(&all.collect::<Vec<_>>()).unwrap()
}

#[test]
fn it_decides_by_the_estate_and_gives_its_reasons() {
    let cards = "shop/public/cards";
    let allowed = decided(["payments/api", "select", "table", cards]);
    assert!(
        allowed.starts_with("allow\n  by policies/shop.cedar:")
            && allowed.contains("payments reads cards"),
        "{allowed}"
    );
    assert_eq!(
        decided(["payments/api", "delete", "table", cards]),
        "deny\n"
    );
    let forbidden = decided(["agents/helper", "select", "table", cards]);
    assert!(forbidden.starts_with("deny\n  by "), "{forbidden}");
    // Of whom nothing is known, it says what would have to be.
    let depends = decided([
        "reporting/nightly",
        "select",
        "table",
        "shop/public/customers",
    ]);
    assert!(
        depends.starts_with("deny\n") && depends.contains("  if ") && depends.contains("tpm"),
        "{depends}"
    );
    assert!(decide::decided(&[]).is_err());
}
