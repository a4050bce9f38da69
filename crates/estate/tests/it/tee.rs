//! What confidential machines have to show, as the estate declares it.

use crate::fixture::{compile, problems_with, shop_files};
use estate::{SnpBy, TeeGeneration, TeeTerms};

const PEM: &str = "'''\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'''";

fn good() -> String {
    let (digest, mrtd) = ("3e".repeat(48), "3d".repeat(48));
    format!(
        "[[tee_root]]\nname = \"lab\"\nkind = \"sev-snp\"\ngeneration = \"milan\"\npem = {PEM}\n\
         [[tee]]\npool = \"demo\"\nkind = \"sev-snp\"\nroot = \"lab\"\n\
         [[tee.floor]]\ngeneration = \"milan\"\nsnp = 24\n\
         [[tee.image]]\nname = \"prod\"\nmeasurement = \"{digest}\"\n\
         [[tee]]\npool = \"demo\"\nkind = \"tdx\"\nrequire = false\ntcb_status = [\"UpToDate\"]\n\
         [[tee.image]]\nname = \"td\"\nmrtd = \"{mrtd}\"\n"
    )
}

#[test]
fn a_pool_asks_for_hardware_by_default_and_of_its_vendor() {
    let mut files = shop_files();
    files.insert("references/tee.toml", good());
    let estate = compile(&files);
    let asked: Vec<_> = estate.references().tees_of("demo").collect();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].require, asked[0].root_name()), (true, "lab"));
    assert_eq!((asked[1].require, asked[1].root_name()), (false, "intel"));
    let TeeTerms::SevSnp(terms) = &asked[0].terms else {
        panic!("{asked:?}");
    };
    assert_eq!(terms.floors[&TeeGeneration::Milan], [0, 0, 0, 24, 0]);
    let images = terms.images.as_ref().unwrap();
    assert_eq!(images[0].by, SnpBy::Measurement([0x3e; 48]));
    assert_eq!(estate.references().tees_of("other").count(), 0);
}

#[test]
fn what_would_accept_anything_or_nothing_is_refused() {
    for (from, to, code) in [
        (
            "pool = \"demo\"\nkind = \"tdx\"",
            "pool = \"dmeo\"\nkind = \"tdx\"",
            "ESTATE-POOL",
        ),
        ("kind = \"tdx\"", "kind = \"sev-snp\"", "ESTATE-DUPLICATE"),
        ("name = \"lab\"", "name = \"amd\"", "ESTATE-TEE"),
        ("root = \"lab\"", "root = \"lba\"", "ESTATE-TEE"),
        (
            "require = false",
            "require = false\nroot = \"lab\"",
            "ESTATE-TEE",
        ),
        (
            "root = \"lab\"",
            "root = \"lab\"\nany_image = true",
            "ESTATE-TEE",
        ),
        (
            "[[tee.floor]]\ngeneration = \"milan\"\nsnp = 24\n",
            "",
            "ESTATE-TEE",
        ),
        (
            "root = \"lab\"",
            "root = \"lab\"\ntcb_status = []",
            "ESTATE-TEE",
        ),
        (
            "require = false",
            "require = false\nrevocation = \"if-present\"",
            "ESTATE-TEE",
        ),
        ("generation = \"milan\"\npem", "pem", "ESTATE-TEE"),
        ("measurement", "mrtd", "ESTATE-TEE"),
        ("measurement = \"3e", "measurement = \"3", "ESTATE-DIGEST"),
        (
            "name = \"prod\"",
            "name = \"prod\"\nfamily_id = \"00\"",
            "ESTATE-DIGEST",
        ),
        ("[\"UpToDate\"]", "[\"Revoked\"]", "ESTATE-DECLARATION"),
        (
            "generation = \"milan\"\nsnp",
            "generation = \"rome\"\nsnp",
            "ESTATE-DECLARATION",
        ),
    ] {
        let text = good().replacen(from, to, 1);
        assert_ne!(text, good(), "{from}");
        let said = problems_with("references/tee.toml", &text);
        assert!(said.contains(code), "{from} -> {to}: {said}");
    }
}
